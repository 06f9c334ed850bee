"""Dispatch: which agent does what next. Events in, instructions out; no Ray, no clock, no I/O.

The same events always give the same instructions, so that what a cell does under faults can
be tested without a cell. Whoever feeds it carries the instructions out and turns what comes of
them into further events; it holds no more than what is in flight.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ...runners.node_memory import UNKNOWN_MEMORY, NodeMemory
from ..ledger import Lease
from .instructions import (
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
from .kinds import Kind, Wanted, wants_of

MOST_IDLE_DEATHS = 3
"""Agents of a kind that may die in a row without having held a workitem before the kind is given up."""

MOST_BUSY_DEATHS = 20
"""Agents of a kind that may die at work in a row, with nothing finished between: four workitems that kill
their agent five times each, and then it is not the workitems."""


@dataclass(slots=True, eq=False)
class _Fortune:
    """How the agents of one kind fare; a kind that was given up has none."""

    kind: Kind
    idle_deaths: int = 0
    busy_deaths: int = 0
    unfit: int = 0
    given_up: str = ""

    @property
    def kept(self) -> int:
        """How many agents are kept up: one fewer for each machine that cannot go on."""
        return 0 if self.given_up else max(0, self.kind.number - self.unfit)

    @property
    def despair(self) -> str:
        """Why none is begun, and given no more, unless one of those at work finishes something; empty: they go on."""
        if self.given_up:
            return self.given_up
        if not self.kept:
            return "no machine is left that can go on"
        if self.idle_deaths >= MOST_IDLE_DEATHS or self.busy_deaths >= MOST_BUSY_DEATHS:
            return f"{self.idle_deaths + self.busy_deaths} agents died in a row, with nothing finished"
        return ""


@dataclass(slots=True)
class _Agent:
    """What is known of an agent: depth 0 until it is up; what it wants, each only while there is nothing before it."""

    fortune: _Fortune
    depth: int = 0
    memory: NodeMemory = UNKNOWN_MEMORY
    wants: tuple[Wanted, ...] = ()
    held: dict[str, Lease] = field(default_factory=dict)

    @property
    def free(self) -> int:
        return max(0, self.depth - len(self.held))

    def most_wanted(self, dry: set[Wanted]) -> Wanted | None:
        """The first that it wants of what there may be."""
        return next((each for each in self.wants if each not in dry), None)

    def takes(self, wanted: Wanted, dry: set[Wanted]) -> bool:
        """Whether it wants this, and there is nothing that it wants more."""
        return wanted in self.wants and dry.issuperset(self.wants[: self.wants.index(wanted)])

    def fits(self, lease: Lease) -> tuple[bool, int]:
        """How well it would take a lease: best where it reads that series already, else by its room."""
        series = lease.workitem.series_instance_uid
        reads_it = any(each.workitem.series_instance_uid == series for each in self.held.values())
        return self.free > 0 and reads_it, self.free


@dataclass(slots=True)
class Dispatch:
    """The state of one cell.

    Parameters
    ----------
    kinds : tuple of Kind
        Agents that the cell keeps up. Where those of one kind only die, the others go on.
    """

    kinds: tuple[Kind, ...]
    _fortunes: tuple[_Fortune, ...] = field(init=False)
    _fleet: dict[str, _Agent] = field(default_factory=dict)
    _started: int = 0
    _asked: dict[Wanted, int] = field(default_factory=dict)
    _dry: set[Wanted] = field(default_factory=set)
    _draining: bool = False
    _for_others: bool = False
    _done: bool = False

    def __post_init__(self) -> None:
        self._fortunes = tuple(_Fortune(kind) for kind in self.kinds)

    @property
    def in_flight(self) -> int:
        """Workitems that agents of this cell hold."""
        return sum(len(agent.held) for agent in self._fleet.values())

    @property
    def done(self) -> bool:
        """Whether Done was given; events after it give no instructions."""
        return self._done

    @property
    def given_up(self) -> str:
        """Kinds of which no agent is begun any more while others go on, and why; empty: none."""
        given_up = [each for each in self._fortunes if each.given_up]
        return self._told(given_up) if given_up else ""

    @property
    def _failure(self) -> str:
        """Why the cell begins nothing more; empty where it goes on."""
        if all(each.despair for each in self._fortunes):
            return self._told(self._fortunes)
        return f"{self.given_up}; what is left needs them" if self.given_up and self._for_others else ""

    def _told(self, fortunes: Sequence[_Fortune]) -> str:
        named = [f"{each.kind.name}: {each.despair}" for each in fortunes]
        return "; ".join(named) if len(self.kinds) > 1 else fortunes[0].despair

    def handle(self, *events: Event) -> tuple[Instruction, ...]:
        """Instructions that follow from events of one moment, in the order in which to carry them out."""
        if self._done:
            return ()
        return tuple(self._react(events))

    def _react(self, events: tuple[Event, ...]) -> Iterator[Instruction]:
        for event in events:
            yield from self._take(event)
        yield from self._continue()

    def _take(self, event: Event) -> Iterator[Instruction]:
        match event:
            case AgentUp(agent, depth, memory):
                if agent in self._fleet:
                    self._fleet[agent].depth, self._fleet[agent].memory = depth, memory
                    self._classify()
            case AgentDown():
                yield from self._bury(event)
            case Leased(leases, memory, models):
                yield from self._hand_out(leases, (memory, models))
                if len(leases) < self._asked.pop((memory, models), 0):
                    self._dry.add((memory, models))
            case Finished(agent, lease):
                self._forget(agent, lease)
            case Tick(open_items, for_others):
                self._dry.clear()
                if open_items == 0 and self.in_flight == 0:
                    self._draining = True
                self._for_others = for_others
            case Drain():
                self._draining = True

    def _continue(self) -> Iterator[Instruction]:
        """Whatever the state now calls for, whichever event led to it."""
        if self._draining:
            if self.in_flight == 0 and not self._asked:
                yield from self._end("")
            return
        if failure := self._failure:
            if self.in_flight == 0 and not self._asked:
                yield from self._end(failure)
            return
        for fortune in self._fortunes:
            if fortune.despair and not fortune.given_up:
                yield from self._give_up(fortune)
        if len(self._fleet) < sum(each.kept for each in self._fortunes):
            yield from self._start()
        for wanted, room in self._room().items():
            if wanted not in self._asked:
                self._asked[wanted] = room
                yield LeaseMore(room, *wanted)

    def _give_up(self, fortune: _Fortune) -> Iterator[Instruction]:
        """Begin no more agents of a kind, and end those that there are, once none of them holds anything."""
        agents = [name for name, agent in self._fleet.items() if agent.fortune is fortune]
        if any(self._fleet[name].held for name in agents):
            return
        fortune.given_up = fortune.despair
        for name in agents:
            del self._fleet[name]
        self._classify()
        yield GiveUp(fortune.kind, tuple(agents), fortune.given_up)

    def _start(self) -> Iterator[Instruction]:
        """Begin as many agents of each kind as are missing."""
        for fortune in self._fortunes:
            there = sum(agent.fortune is fortune for agent in self._fleet.values())
            for _ in range(0 if fortune.despair else fortune.kept - there):
                self._started += 1
                name = f"agent-{self._started}"
                self._fleet[name] = _Agent(fortune)
                yield StartAgent(name, fortune.kind)

    def _classify(self) -> None:
        """Say of each agent that is up what it wants."""
        up = [agent for agent in self._fleet.values() if agent.depth]
        for agent, wants in zip(up, wants_of([(agent.fortune.kind, agent.memory) for agent in up]), strict=True):
            agent.wants = wants

    def _room(self) -> dict[Wanted, int]:
        """How much agents have room for, of what each wants most and there may be some of."""
        room: Counter[Wanted] = Counter()
        for agent in self._fleet.values():
            wanted = agent.most_wanted(self._dry) if agent.free and not agent.fortune.despair else None
            if wanted is not None:
                room[wanted] += agent.free
        return room

    def _hand_out(self, leases: tuple[Lease, ...], wanted: Wanted) -> Iterator[Instruction]:
        """Give each lease to the agent that it fits best of those that want it; return what none has room for."""
        returned: list[Lease] = []
        fleet = () if self._draining else self._fleet.items()
        wanting = [(name, agent) for name, agent in fleet if agent.free and agent.takes(wanted, self._dry)]
        for lease in leases:
            best = max(wanting, key=lambda item: item[1].fits(lease), default=None)
            if best is None or best[1].free == 0:
                returned.append(lease)
                continue
            best[1].held[lease.workitem.key] = lease
            yield Start(best[0], lease)
        if returned:
            yield Return(tuple(returned))

    def _forget(self, name: str, lease: Lease) -> None:
        """Take back the place of a lease; one that the agent no longer holds came late, and changes nothing."""
        agent = self._fleet.get(name)
        if agent is not None and agent.held.get(lease.workitem.key) == lease:
            del agent.held[lease.workitem.key]
            agent.fortune.idle_deaths = agent.fortune.busy_deaths = 0

    def _bury(self, down: AgentDown) -> Iterator[Instruction]:
        agent = self._fleet.pop(down.agent, None)
        if agent is None:
            return
        self._classify()
        agent.fortune.unfit += not down.replaced
        if not down.preempted:
            # A machine that is taken away says nothing of the cell.
            agent.fortune.idle_deaths += not agent.held
            agent.fortune.busy_deaths += bool(agent.held)
        if agent.held:
            # What was lost is there to be leased again.
            self._dry.clear()
            yield Lose(down.agent, tuple(agent.held.values()), down.reason, down.preempted)

    def _end(self, failure: str) -> Iterator[Instruction]:
        for name in self._fleet:
            yield StopAgent(name)
        self._done = True
        yield Done(failure)
