"""Dispatch without a cell: a simulated world of agents that live, work and die at random."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from voxfleet.cluster.drivers.dispatch import MOST_BUSY_DEATHS, MOST_IDLE_DEATHS, Dispatch
from voxfleet.cluster.drivers.instructions import (
    AgentDown,
    AgentUp,
    Done,
    Drain,
    Event,
    Finished,
    GiveUp,
    Instruction,
    Leased,
    LeaseMore,
    Lose,
    Return,
    Start,
    StartAgent,
    StopAgent,
    Tick,
)
from voxfleet.cluster.drivers.kinds import Choice, Kind
from voxfleet.cluster.ledger import Lease
from voxfleet.runners.node_memory import NodeMemory
from voxfleet.runners.workitem import Workitem

SMALL, LARGE = NodeMemory(8 * 2**30), NodeMemory(64 * 2**30, 24 * 2**30)
NET, RULE = ("net",), ("rule",)
WITH_GPU = Kind(2, choices=(Choice(NET), Choice(RULE, gpu=False)), gpus=1.0)
WITHOUT = Kind(1, choices=(Choice(RULE, gpu=False),))


def lease(number: int, fence: int = 1, model: str = "m") -> Lease:
    """A lease of item NUMBER."""
    work = Workitem("1", f"1.{number}", "CT", 1, "dir:a", "dir:b", model, "1", "none")
    return Lease(work, "cell", fence, fence)


def model_of(number: int) -> str:
    """Every third workitem is of a network."""
    return NET[0] if number % 3 == 0 else RULE[0]


class World:
    """Carries out instructions on a pretended ledger and pretended agents; checks each of them."""

    def __init__(self, seed: int, items: int, kinds: tuple[Kind, ...], depth: int) -> None:
        self.chance = random.Random(seed)
        self.depth = depth
        self.dispatch = Dispatch(kinds)
        self.kinds: dict[str, Kind] = {}
        self.waiting = list(range(items))
        self.fences = dict.fromkeys(range(items), 0)
        self.running: dict[int, tuple[str, Lease]] = {}
        self.done: list[int] = []
        self.starting: list[str] = []
        self.up: set[str] = set()
        self.memory: dict[str, NodeMemory] = {}
        self.leased_for: dict[Lease, NodeMemory] = {}
        self.given_up: list[Kind] = []
        self.over: Done | None = None

    def number(self, held: Lease) -> int:
        """The item that a lease is of."""
        return int(held.workitem.series_instance_uid.split(".")[1])

    def feed(self, event: Event) -> None:
        """Give an event, carry out what follows."""
        events = deque([event])
        while events:
            for instruction in self.dispatch.handle(events.popleft()):
                assert self.over is None, "an instruction after Done"
                events.extend(self.obey(instruction))
        assert self.dispatch.in_flight == len(self.running)

    def obey(self, instruction: Instruction) -> list[Event]:
        """Carry out one instruction."""
        match instruction:
            case StartAgent(agent, kind):
                assert agent not in self.up
                assert agent not in self.starting
                assert kind not in self.given_up
                self.starting.append(agent)
                self.kinds[agent] = kind
                alike = [each for each in [*self.starting, *self.up] if self.kinds[each] is kind]
                assert len(alike) <= kind.number
            case LeaseMore(number, memory, models):
                assert 0 < number <= self.depth * len(self.up)
                taken = [item for item in self.waiting if not models or model_of(item) in models][:number]
                for item in taken:
                    self.waiting.remove(item)
                    self.fences[item] += 1
                leases = tuple(lease(item, self.fences[item], model_of(item)) for item in taken)
                self.leased_for |= dict.fromkeys(leases, memory)
                return [Leased(leases, memory, models)]
            case Start(agent, held):
                assert agent in self.up
                choice = next(
                    each for each in self.kinds[agent].choices if not each.models or held.workitem.model in each.models
                )
                wanted, has = self.leased_for[held], choice.counted(self.memory[agent])
                assert wanted.host_bytes <= has.host_bytes, "a lease for a larger node"
                assert wanted.gpu_bytes <= has.gpu_bytes, "a lease for a larger node"
                assert not has.more_than(wanted), "a lease for another class of node"
                assert self.number(held) not in self.running, "an item started twice at a time"
                assert sum(name == agent for name, _ in self.running.values()) < self.depth
                self.running[self.number(held)] = (agent, held)
            case Lose(agent, leases, _):
                assert agent not in self.up
                for held in leases:
                    assert self.running.pop(self.number(held)) == (agent, held)
                    self.waiting.append(self.number(held))
            case Return(leases):
                self.waiting.extend(self.number(held) for held in leases)
            case _:
                self.end(instruction)
        return []

    def end(self, instruction: Instruction) -> None:
        """Carry out what ends agents."""
        match instruction:
            case StopAgent(agent):
                assert not any(name == agent for name, _ in self.running.values())
            case GiveUp(kind, agents):
                assert not any(name in agents for name, _ in self.running.values())
                self.starting = [each for each in self.starting if each not in agents]
                self.up -= set(agents)
                assert all(self.kinds[each] is not kind for each in (*self.starting, *self.up))
                self.given_up.append(kind)
            case Done():
                assert not self.running
                self.over = instruction

    def step(self, death: float) -> None:
        """One thing happens: an agent comes up, dies, or finishes an item; or time passes."""
        roll = self.chance.random()
        if self.starting and roll < 0.4:
            agent = self.starting.pop(0)
            self.up.add(agent)
            memory = self.chance.choice([SMALL, LARGE])
            # Machines of one type differ by what their kernels keep.
            self.memory[agent] = NodeMemory(memory.host_bytes + self.chance.randrange(2**28), memory.gpu_bytes)
            self.feed(AgentUp(agent, self.depth, self.memory[agent]))
        elif self.up and self.chance.random() < death:
            agent = self.chance.choice(sorted(self.up))
            self.up.remove(agent)
            self.feed(AgentDown(agent, "killed"))
        elif self.running and roll < 0.95:
            item = self.chance.choice(sorted(self.running))
            agent, held = self.running.pop(item)
            self.done.append(item)
            self.feed(Finished(agent, held))
        else:
            kinds = [kind for kind in self.dispatch.kinds if kind not in self.given_up]
            takers = [choice for kind in kinds for choice in kind.choices]
            for_others = not any(
                not choice.models or model_of(item) in choice.models for item in self.waiting for choice in takers
            )
            self.feed(Tick(len(self.waiting) + len(self.running), bool(self.waiting) and for_others))


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    items=st.integers(0, 40),
    kinds=st.one_of(st.integers(1, 5).map(lambda number: (Kind(number),)), st.just((WITH_GPU, WITHOUT))),
    depth=st.integers(1, 4),
    death=st.sampled_from([0.0, 0.05, 0.2]),
)
def test_all_items_end_once(seed: int, items: int, kinds: tuple[Kind, ...], depth: int, death: float) -> None:
    """Whatever dies and in whatever order: no item runs twice at a time, all are finished once, then Done.

    Each is on an agent that takes its model, on a node of the class that it was leased for.
    """
    world = World(seed, items, kinds, depth)
    world.feed(Tick(items))
    for _ in range(20_000):
        if world.over is not None:
            break
        world.step(death)
    assert world.over is not None
    if not world.over.failure:
        assert sorted(world.done) == list(range(items))
    else:
        assert death > 0
        assert sorted([*world.done, *world.waiting]) == list(range(items))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), at=st.integers(0, 60))
def test_drain_begins_nothing_more(seed: int, at: int) -> None:
    """After Drain nothing is started, what runs is finished, and all else is left waiting."""
    world = World(seed, 30, (Kind(3),), 2)
    world.feed(Tick(30))
    for _ in range(at):
        world.step(0.05)
    if world.over is None:
        running = set(world.running)
        world.feed(Drain("budget"))
        for _ in range(5000):
            if world.over is not None:
                break
            assert set(world.running) <= running
            world.step(0.05)
    assert world.over is not None
    assert sorted([*world.done, *world.waiting]) == list(range(30))


def up(dispatch: Dispatch, depth: int = 1) -> str:
    """Start the cell and bring its newest agent up; its name."""
    instructions = dispatch.handle(Tick(9))
    name = next(i.agent for i in instructions if isinstance(i, StartAgent))
    assert dispatch.handle(AgentUp(name, depth)) == (LeaseMore(depth),)
    return name


def test_agent_with_most_room_gets_the_next() -> None:
    """Work is spread: of two agents each gets one before either gets two."""
    dispatch = Dispatch((Kind(2),))
    first, second = (i.agent for i in dispatch.handle(Tick(2)) if isinstance(i, StartAgent))
    assert dispatch.handle(AgentUp(first, 2)) == (LeaseMore(2),)
    dispatch.handle(AgentUp(second, 2))
    starts = dispatch.handle(Leased((lease(1), lease(2))))
    assert {i.agent for i in starts if isinstance(i, Start)} == {first, second}


def test_models_of_one_series_go_to_the_agent_that_reads_it() -> None:
    """The second model of a series follows the first, though another agent has more room; not where there is none."""
    dispatch = Dispatch((Kind(2),))
    reader = up(dispatch, depth=2)
    dispatch.handle(Leased((lease(1),)))
    dispatch.handle(AgentUp("agent-2", 2))
    second = Lease(replace(lease(1).workitem, model="m2"), "cell", 1, 1)
    third = Lease(replace(lease(1).workitem, model="m3"), "cell", 1, 1)
    begun = [each for each in dispatch.handle(Leased((second, third))) if isinstance(each, Start)]
    assert begun == [Start(reader, second), Start("agent-2", third)]


def test_classes_of_nodes_are_asked_for_apart() -> None:
    """Where there is nothing for small nodes, there may be for large ones; what is leased for one goes to no other."""
    dispatch = Dispatch((Kind(2),))
    small, large = (i.agent for i in dispatch.handle(Tick(2)) if isinstance(i, StartAgent))
    assert dispatch.handle(AgentUp(small, 1, SMALL)) == (LeaseMore(1, SMALL),)
    assert dispatch.handle(Leased((), SMALL)) == ()
    assert dispatch.handle(AgentUp(large, 2, LARGE)) == (LeaseMore(2, LARGE),)
    begun = dispatch.handle(Leased((lease(1), lease(2)), LARGE))
    assert begun == (Start(large, lease(1)), Start(large, lease(2)))
    assert dispatch.handle(Tick(2)) == (LeaseMore(1, SMALL),)


def test_machines_of_one_type_are_asked_for_together() -> None:
    """Whose memory differs by less than 5 %: once for both, for the least of them, and either gets what is leased."""
    dispatch = Dispatch((Kind(3),))
    first, second, third = (i.agent for i in dispatch.handle(Tick(3)) if isinstance(i, StartAgent))
    more = NodeMemory(SMALL.host_bytes + 2**20)
    assert dispatch.handle(AgentUp(first, 1, more), AgentUp(second, 1, SMALL)) == (LeaseMore(2, SMALL),)
    assert dispatch.handle(AgentUp(third, 1, LARGE)) == (LeaseMore(1, LARGE),)
    begun = dispatch.handle(Leased((lease(1), lease(2)), SMALL))
    assert begun == (Start(first, lease(1)), Start(second, lease(2)))


def test_gpus_are_for_networks_first() -> None:
    """An agent with a GPU is asked for networks, and only where none waits for other models; without one it never is.

    Other models are leased for a node as it is without its GPU. Time passed, networks come first again.
    """
    dispatch = Dispatch((WITH_GPU, WITHOUT))
    gpu, other, cpu = (i.agent for i in dispatch.handle(Tick(9)) if isinstance(i, StartAgent))
    assert dispatch.handle(AgentUp(gpu, 2, LARGE)) == (LeaseMore(2, LARGE, NET),)
    assert dispatch.handle(AgentUp(cpu, 1, SMALL)) == (LeaseMore(1, SMALL, RULE),)
    net, rule = lease(3, model="net"), lease(1, model="rule")
    host = NodeMemory(LARGE.host_bytes)
    assert dispatch.handle(Leased((net,), LARGE, NET)) == (Start(gpu, net), LeaseMore(1, host, RULE))
    assert dispatch.handle(Leased((rule,), SMALL, RULE)) == (Start(cpu, rule),)
    assert dispatch.handle(Leased((), host, RULE)) == ()
    assert dispatch.handle(Tick(9)) == (LeaseMore(1, LARGE, NET),)
    assert dispatch.handle(AgentUp(other, 1, host)) == (LeaseMore(1, host, NET),)


def test_what_is_leased_for_others_waits_for_no_gpu() -> None:
    """While networks are asked for, the agent with the GPU gets nothing else: what no other has room for goes back."""
    dispatch = Dispatch((WITH_GPU, WITHOUT))
    gpu, _, cpu = (i.agent for i in dispatch.handle(Tick(9)) if isinstance(i, StartAgent))
    host = NodeMemory(LARGE.host_bytes)
    dispatch.handle(AgentUp(gpu, 3, LARGE), AgentUp(cpu, 1, host))
    first, second = lease(1, model="rule"), lease(2, model="rule")
    assert dispatch.handle(Leased((first, second), host, RULE)) == (Start(cpu, first), Return((second,)))


def test_asks_again_only_after_time_passed() -> None:
    """A ledger that had nothing is asked again at the next tick, and not at once."""
    dispatch = Dispatch((Kind(1),))
    up(dispatch)
    assert dispatch.handle(Leased(())) == ()
    assert dispatch.handle(Tick(1)) == (LeaseMore(1),)


def test_lost_items_are_leased_again_at_once() -> None:
    """An agent's death says what is lost and starts another, which asks as soon as it is up."""
    dispatch = Dispatch((Kind(1),))
    name = up(dispatch)
    held = lease(1)
    dispatch.handle(Leased((held,)))
    assert dispatch.handle(AgentDown(name, "killed")) == (
        Lose(name, (held,), "killed"),
        StartAgent("agent-2", dispatch.kinds[0]),
    )
    assert dispatch.handle(AgentUp("agent-2", 1)) == (LeaseMore(1),)


def test_late_answer_of_a_dead_agent_changes_nothing() -> None:
    """What comes from an agent that was given up is not counted, and the item's new start stands."""
    dispatch = Dispatch((Kind(1),))
    name = up(dispatch)
    old, new = lease(1, 1), lease(1, 2)
    dispatch.handle(Leased((old,)))
    dispatch.handle(AgentDown(name, "silent"))
    dispatch.handle(AgentUp("agent-2", 1))
    dispatch.handle(Leased((new,)))
    dispatch.handle(Finished(name, old))
    dispatch.handle(Finished("agent-2", old))
    assert dispatch.in_flight == 1


def test_leases_that_nobody_can_take_are_returned() -> None:
    """Where the only agent died while more was being leased, the leases go back unbegun."""
    dispatch = Dispatch((Kind(1),))
    name = up(dispatch)
    dispatch.handle(AgentDown(name, "killed"))
    assert Return((lease(1),)) in dispatch.handle(Leased((lease(1),)))


@pytest.mark.parametrize(("holding", "deaths"), [(False, MOST_IDLE_DEATHS), (True, MOST_BUSY_DEATHS)])
def test_gives_up_where_agents_only_die(*, holding: bool, deaths: int) -> None:
    """After three agents died that did nothing, or twenty at work, the cell says so and ends."""
    dispatch = Dispatch((Kind(1),))
    last: tuple[Instruction, ...] = dispatch.handle(Tick(9))
    for death in range(deaths):
        assert not dispatch.done
        name = f"agent-{death + 1}"
        if holding:
            dispatch.handle(AgentUp(name, 1))
            dispatch.handle(Leased((lease(death),)))
        last = dispatch.handle(AgentDown(name, "no GPU"))
    assert isinstance(last[-1], Done)
    assert "died in a row" in last[-1].failure
    assert dispatch.handle(Tick(9)) == ()


def test_where_one_kind_only_dies_the_other_goes_on() -> None:
    """Three agents with GPUs die at the start: that is told, and those without do all that is theirs.

    The cell then fails for the networks that are left. Rules that wait for the end of a pause are waited for.
    """
    dispatch = Dispatch((WITH_GPU, WITHOUT))
    *_, cpu = (i.agent for i in dispatch.handle(Tick(3)) if isinstance(i, StartAgent))
    dispatch.handle(AgentUp(cpu, 1, SMALL))
    dispatch.handle(AgentDown("agent-1", "no CUDA"))
    dispatch.handle(AgentDown("agent-2", "no CUDA"))
    why = "3 agents died in a row, with nothing finished"
    assert dispatch.handle(AgentDown("agent-4", "no CUDA")) == (GiveUp(WITH_GPU, ("agent-5",), why),)
    first, second = lease(1, model="rule"), lease(2, model="rule")
    assert dispatch.handle(Leased((first,), SMALL, RULE)) == (Start(cpu, first),)
    assert dispatch.handle(AgentUp("agent-5", 1, LARGE)) == (), "it is no more"
    assert dispatch.handle(Finished(cpu, first)) == (LeaseMore(1, SMALL, RULE),)
    assert dispatch.handle(Leased((), SMALL, RULE)) == ()
    assert dispatch.handle(Tick(2)) == (LeaseMore(1, SMALL, RULE),)
    assert dispatch.handle(Leased((second,), SMALL, RULE)) == (Start(cpu, second),)
    assert dispatch.handle(Finished(cpu, second)) == (LeaseMore(1, SMALL, RULE),)
    assert dispatch.handle(Leased((), SMALL, RULE)) == ()
    failure = f"agents with GPUs: {why}; what is left needs them"
    assert dispatch.handle(Tick(1, for_others=True)) == (StopAgent(cpu), Done(failure))


def test_a_kind_whose_agents_still_finish_is_not_given_up() -> None:
    """While one of them is at work the others' deaths decide nothing; once it finishes, they are replaced."""
    dispatch = Dispatch((WITH_GPU, WITHOUT))
    dispatch.handle(Tick(3))
    dispatch.handle(AgentUp("agent-1", 1, LARGE))
    held = lease(3, model="net")
    dispatch.handle(Leased((held,), LARGE, NET))
    for each in ("agent-2", "agent-4", "agent-5"):
        told = dispatch.handle(AgentDown(each, "no CUDA"))
    assert told == ()
    assert dispatch.handle(Finished("agent-1", held)) == (StartAgent("agent-6", WITH_GPU), LeaseMore(1, LARGE, NET))


@pytest.mark.parametrize("replaced", [True, False])
def test_where_all_kinds_only_die_the_cell_ends(*, replaced: bool) -> None:
    """It says so of each kind, whether its agents died one after the other, or no machine can go on."""
    dispatch = Dispatch((WITH_GPU, WITHOUT))
    said = [*dispatch.handle(Tick(3))]
    for each in said:
        if isinstance(each, StartAgent):
            said += dispatch.handle(AgentDown(each.agent, "no CUDA", replaced=replaced))
    why = "3 agents died in a row, with nothing finished" if replaced else "no machine is left that can go on"
    assert [(each.kind, each.reason) for each in said if isinstance(each, GiveUp)] == [(WITH_GPU, why)]
    assert said[-1] == Done(f"agents with GPUs: {why}; agents without GPUs: {why}")


def test_a_machine_that_cannot_go_on_gets_no_agent() -> None:
    """One that is not to be replaced is one fewer; what it held goes to the others, and without any the cell ends."""
    dispatch = Dispatch((Kind(2),))
    dispatch.handle(Tick(9))
    dispatch.handle(AgentUp("agent-1", 1), AgentUp("agent-2", 1))
    dispatch.handle(Leased((lease(1), lease(2))))
    said = dispatch.handle(AgentDown("agent-1", "disk full", replaced=False))
    assert [each.leases for each in said if isinstance(each, Lose)] == [(lease(1),)]
    assert not any(isinstance(each, StartAgent) for each in said)
    *_, done = dispatch.handle(AgentDown("agent-2", "disk full", replaced=False))
    assert done == Done("no machine is left that can go on")


def test_nothing_to_do_is_done() -> None:
    """With nothing open the cell ends without starting an agent."""
    assert Dispatch((Kind(4),)).handle(Tick(0)) == (Done(),)
