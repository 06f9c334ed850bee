"""Which cells of a run to create, replace and remove: what is seen in, what to do out; no server, no clock.

A cell that ends while something is left to do has died, whatever ended it: it is removed after a pause,
and created anew once it is gone. Pauses grow while nothing is settled between deaths nor in the lives of
those that died, and after some such deaths in a row no cell is replaced any more.

One that left since there was nothing to lease for it has not died. No cell is created before there is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from .cell import DELETING, ENDED

FIRST_PAUSE_S, LONGEST_PAUSE_S = 30.0, 1800.0
"""Before a dead cell is replaced: the first after progress, and the longest; doubled from one death to the next."""

MOST_DOUBLINGS = 16
"""Of a pause: more, and it is the longest for certain, and no float when thousands of cells die at once."""

MOST_DEATHS = 5
"""Cells that may die in a row, with nothing settled between nor in their lives, before none is replaced."""

UNDER_WAY = ("Running", DELETING)
"""A cell in another state has no machines at work, and is not needed once nothing is left to do."""


@dataclass(frozen=True, slots=True)
class Work:
    """Where the run stands.

    Attributes
    ----------
    open_items : int
        Workitems that still need something done.
    settled : int
        Workitems that were completed, refused, or failed for good.
    may_begin : bool
        Whether there is money and time for one more, and no other limit is passed.
    leasable : int
        Workitems that wait for a machine.
    left : frozenset of str
        Cells whose last life ended since there was nothing to lease, by name.
    nodes : mapping of str to int
        Machines of each cell that are up, by its name.
    """

    open_items: int
    settled: int
    may_begin: bool
    leasable: int
    left: frozenset[str] = frozenset()
    nodes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Create:
    """Create a cell."""

    name: str


@dataclass(frozen=True, slots=True)
class Remove:
    """Delete a cell, for a reason."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class End:
    """Nothing is under way, and nothing more is begun: `failure` says why cells were given up, if they were."""

    failure: str = ""


Action = Create | Remove | End


@dataclass(slots=True)
class Replacing:
    """The cells of one run.

    Parameters
    ----------
    workers : mapping of str to int
        Machines at work of each cell, by its name.
    most_nodes : int or None
        Machines at work that all cells together may have.
    """

    workers: Mapping[str, int]
    most_nodes: int | None = None
    _settled: int = 0
    _deaths: int = 0
    _leasable: float = math.inf
    _dead: dict[str, float] = field(default_factory=dict)
    _seen: set[str] = field(default_factory=set)
    _removed: set[str] = field(default_factory=set)
    _begun: dict[str, int] = field(default_factory=dict)

    def handle(self, states: Mapping[str, str], work: Work, now: float) -> tuple[Action, ...]:
        """What to do, in this order.

        Parameters
        ----------
        states : mapping of str to str
            State of each cell that is there (`CellState.deployment`), by its name.
        now : float
            Seconds, by a clock that never steps.
        """
        if work.settled > self._settled:
            self._settled, self._deaths = work.settled, 0
        self._count_deaths(states, work, now)
        if work.open_items and work.may_begin and self._deaths < MOST_DEATHS:
            return tuple(self._replace(states, work, now))
        return tuple(self._wind_up(states, work))

    def _count_deaths(self, states: Mapping[str, str], work: Work, now: float) -> None:
        for name in (each for each in self.workers if each not in work.left):
            ended = states.get(name) in ENDED
            vanished = name in self._seen and name not in states and name not in self._removed
            if (ended or vanished) and name not in self._dead and work.open_items and work.may_begin:
                # A cell in whose life something was settled did its part, as do all of them until their deadline.
                self._deaths += work.settled <= self._begun.get(name, -1)
                doubled = min(max(0, self._deaths - 1), MOST_DOUBLINGS)
                self._dead[name] = now + min(FIRST_PAUSE_S * 2**doubled, LONGEST_PAUSE_S)
        for name in (each for each, state in states.items() if state not in ENDED):
            self._seen.add(name)
            self._begun.setdefault(name, work.settled)

    def _replace(self, states: Mapping[str, str], work: Work, now: float) -> Iterator[Action]:
        # What waits no longer than from one look to the next, a cell at work takes.
        waiting, self._leasable = min(work.leasable, self._leasable), work.leasable
        # Also those of a cell that has ended, until it is gone: its machines go after it.
        up = sum(number for name, number in self.workers.items() if name in states)
        alive = [name for name, state in states.items() if state not in (*ENDED, DELETING)]
        coming = sum(max(0, self.workers[name] - work.nodes.get(name, 0)) for name in alive)
        for name, number in self.workers.items():
            if now < self._dead.get(name, now):
                continue
            fits = self.most_nodes is None or up + number <= self.most_nodes
            if states.get(name) in ENDED:
                self._removed.add(name)
                why = "there was nothing to lease" if name in work.left else "and work is left"
                yield Remove(name, f"{states[name]}, {why}")
            elif name not in states and fits and coming < waiting:
                up, coming = up + number, coming + number
                self._dead.pop(name, None)
                self._removed.discard(name)
                self._seen.discard(name)
                self._begun[name] = work.settled
                yield Create(name)

    def _wind_up(self, states: Mapping[str, str], work: Work) -> Iterator[Action]:
        """Nothing more is to be begun: let what is at work end, and nothing else start."""
        alive = {name for name in self.workers if states.get(name, ENDED[0]) not in ENDED}
        for name in sorted(alive):
            if states[name] not in UNDER_WAY:
                self._removed.add(name)
                yield Remove(name, "nothing more is begun")
        if not alive:
            given_up = work.open_items and work.may_begin
            yield End(f"{self._deaths} cells ended in a row with nothing settled between" if given_up else "")
