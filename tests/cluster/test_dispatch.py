"""Dispatch without a cell: a simulated world of agents that live, work and die at random."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from voxfleet.cluster.drivers.dispatch import (
    MOST_BUSY_DEATHS,
    MOST_IDLE_DEATHS,
    AgentDown,
    AgentUp,
    Dispatch,
    Done,
    Drain,
    Event,
    Finished,
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
from voxfleet.cluster.ledger import Lease
from voxfleet.runners.node_memory import NodeMemory
from voxfleet.runners.workitem import Workitem

SMALL, LARGE = NodeMemory(8 * 2**30), NodeMemory(64 * 2**30, 24 * 2**30)


def lease(number: int, fence: int = 1) -> Lease:
    """A lease of item NUMBER."""
    work = Workitem("1", f"1.{number}", "CT", 1, "dir:a", "dir:b", "m", "1", "none")
    return Lease(work, "cell", fence, fence)


class World:
    """Carries out instructions on a pretended ledger and pretended agents; checks each of them."""

    def __init__(self, seed: int, items: int, agents: int, depth: int) -> None:
        self.chance = random.Random(seed)
        self.depth = depth
        self.dispatch = Dispatch(agents)
        self.waiting = deque(range(items))
        self.fences = dict.fromkeys(range(items), 0)
        self.running: dict[int, tuple[str, Lease]] = {}
        self.done: list[int] = []
        self.starting: list[str] = []
        self.up: set[str] = set()
        self.memory: dict[str, NodeMemory] = {}
        self.leased_for: dict[Lease, NodeMemory] = {}
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
            case StartAgent(agent):
                assert agent not in self.up
                assert agent not in self.starting
                self.starting.append(agent)
            case LeaseMore(number, memory):
                assert 0 < number <= self.depth * sum(self.memory[agent] == memory for agent in self.up)
                taken = [self.waiting.popleft() for _ in range(min(number, len(self.waiting)))]
                for item in taken:
                    self.fences[item] += 1
                leases = tuple(lease(item, self.fences[item]) for item in taken)
                self.leased_for |= dict.fromkeys(leases, memory)
                return [Leased(leases, memory)]
            case Start(agent, held):
                assert agent in self.up
                assert self.leased_for[held] == self.memory[agent], "a lease for another class of node"
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
            case StopAgent(agent):
                assert not any(name == agent for name, _ in self.running.values())
            case Done():
                assert not self.running
                self.over = instruction
        return []

    def step(self, death: float) -> None:
        """One thing happens: an agent comes up, dies, or finishes an item; or time passes."""
        roll = self.chance.random()
        if self.starting and roll < 0.4:
            agent = self.starting.pop(0)
            self.up.add(agent)
            self.memory[agent] = self.chance.choice([SMALL, LARGE])
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
            self.feed(Tick(len(self.waiting) + len(self.running)))


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    items=st.integers(0, 40),
    agents=st.integers(1, 5),
    depth=st.integers(1, 4),
    death=st.sampled_from([0.0, 0.05, 0.2]),
)
def test_all_items_end_once(seed: int, items: int, agents: int, depth: int, death: float) -> None:
    """Whatever dies and in whatever order: no item runs twice at a time, all are finished once, then Done."""
    world = World(seed, items, agents, depth)
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
    world = World(seed, 30, 3, 2)
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
    dispatch = Dispatch(2)
    first, second = (i.agent for i in dispatch.handle(Tick(2)) if isinstance(i, StartAgent))
    assert dispatch.handle(AgentUp(first, 2)) == (LeaseMore(2),)
    dispatch.handle(AgentUp(second, 2))
    starts = dispatch.handle(Leased((lease(1), lease(2))))
    assert {i.agent for i in starts if isinstance(i, Start)} == {first, second}


def test_models_of_one_series_go_to_the_agent_that_reads_it() -> None:
    """The second model of a series follows the first, though another agent has more room; not where there is none."""
    dispatch = Dispatch(2)
    reader = up(dispatch, depth=2)
    dispatch.handle(Leased((lease(1),)))
    dispatch.handle(AgentUp("agent-2", 2))
    second = Lease(replace(lease(1).workitem, model="m2"), "cell", 1, 1)
    third = Lease(replace(lease(1).workitem, model="m3"), "cell", 1, 1)
    begun = [each for each in dispatch.handle(Leased((second, third))) if isinstance(each, Start)]
    assert begun == [Start(reader, second), Start("agent-2", third)]


def test_classes_of_nodes_are_asked_for_apart() -> None:
    """Where there is nothing for small nodes, there may be for large ones; what is leased for one goes to no other."""
    dispatch = Dispatch(2)
    small, large = (i.agent for i in dispatch.handle(Tick(2)) if isinstance(i, StartAgent))
    assert dispatch.handle(AgentUp(small, 1, SMALL)) == (LeaseMore(1, SMALL),)
    assert dispatch.handle(Leased((), SMALL)) == ()
    assert dispatch.handle(AgentUp(large, 2, LARGE)) == (LeaseMore(2, LARGE),)
    begun = dispatch.handle(Leased((lease(1), lease(2)), LARGE))
    assert begun == (Start(large, lease(1)), Start(large, lease(2)))
    assert dispatch.handle(Tick(2)) == (LeaseMore(1, SMALL),)


def test_asks_again_only_after_time_passed() -> None:
    """A ledger that had nothing is asked again at the next tick, and not at once."""
    dispatch = Dispatch(1)
    up(dispatch)
    assert dispatch.handle(Leased(())) == ()
    assert dispatch.handle(Tick(1)) == (LeaseMore(1),)


def test_lost_items_are_leased_again_at_once() -> None:
    """An agent's death says what is lost and starts another, which asks as soon as it is up."""
    dispatch = Dispatch(1)
    name = up(dispatch)
    held = lease(1)
    dispatch.handle(Leased((held,)))
    assert dispatch.handle(AgentDown(name, "killed")) == (Lose(name, (held,), "killed"), StartAgent("agent-2"))
    assert dispatch.handle(AgentUp("agent-2", 1)) == (LeaseMore(1),)


def test_late_answer_of_a_dead_agent_changes_nothing() -> None:
    """What comes from an agent that was given up is not counted, and the item's new start stands."""
    dispatch = Dispatch(1)
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
    dispatch = Dispatch(1)
    name = up(dispatch)
    dispatch.handle(AgentDown(name, "killed"))
    assert Return((lease(1),)) in dispatch.handle(Leased((lease(1),)))


@pytest.mark.parametrize(("holding", "deaths"), [(False, MOST_IDLE_DEATHS), (True, MOST_BUSY_DEATHS)])
def test_gives_up_where_agents_only_die(*, holding: bool, deaths: int) -> None:
    """After three agents died that did nothing, or twenty at work, the cell says so and ends."""
    dispatch = Dispatch(1)
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


def test_nothing_to_do_is_done() -> None:
    """With nothing open the cell ends without starting an agent."""
    assert Dispatch(4).handle(Tick(0)) == (Done(),)
