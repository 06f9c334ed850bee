"""Simulation of a fleet: what hours and node-seconds a collection takes, before anything is rented.

Discrete events on a heap. Two ways of handing out work: nodes that pull one workitem after the
other (Voxfleet), and virtual machines that each do one batch and end (workflow engines). A node
boots, fetches its image and its weights, works, may be preempted with what it holds, and leaves
when it finds nothing to do. Money is node-seconds times a price, and no business of this file.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from heapq import heapify, heappop, heappush, heapreplace

import numpy as np
import numpy.typing as npt

from ... import Error
from ..ledger import MOST_FAILS, MOST_LOSSES
from ..price import Price

HOUR_S = 3600.0

DRAWS = 4096
"""Random numbers that are drawn at a time."""

Seconds = npt.NDArray[np.float64]


class InvalidFleet(Error):
    """A fleet or its work that cannot be: no nodes, negative seconds."""

    code = "INVALID_FLEET"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class NodeKind:
    """How nodes of one kind come and go.

    Attributes
    ----------
    boot_s, boot_sd_s : float
        Mean and standard deviation of the seconds from the order to a running system; paid.
    image_s, weights_s : float
        Seconds to fetch the container image, and to load the model; paid.
    preemptions_per_h : float
        Rate at which the provider takes a node away; 0 on demand.
    """

    boot_s: float = 0.0
    boot_sd_s: float = 0.0
    image_s: float = 0.0
    weights_s: float = 0.0
    preemptions_per_h: float = 0.0

    def __post_init__(self) -> None:
        if min(self.boot_s, self.boot_sd_s, self.image_s, self.weights_s, self.preemptions_per_h) < 0:
            raise InvalidFleet(f"{self} has a negative figure")


@dataclass(frozen=True, slots=True)
class Fleet:
    """How many nodes of a kind there are.

    Attributes
    ----------
    launches_per_s : float
        Nodes that the provider starts per second.
    idle_timeout_s : float
        A node leaves after this time without work; ``inf``: it stays until all is settled.
    """

    kind: NodeKind
    nodes: int
    launches_per_s: float = 20.0
    idle_timeout_s: float = 60.0

    def __post_init__(self) -> None:
        if self.nodes < 1 or self.launches_per_s <= 0 or self.idle_timeout_s < 0:
            raise InvalidFleet(f"{self.nodes} nodes, {self.launches_per_s} launches a second")


@dataclass(frozen=True, slots=True)
class Simulated:
    """What became of a fleet and its work: ``node_s = start_up_s + useful_s + wasted_s + idle_s``.

    Attributes
    ----------
    wall_s : float
        From the first order of a node until the last workitem was settled.
    wasted_s : float
        Of workitems lost with their node, and of those stopped at their deadline.
    completed, failed : int
        Workitems; `failed` ran into their deadline too often, or were lost too often.
    launched, preempted : int
        Lives of nodes, and how many of them the provider ended.
    """

    wall_s: float
    node_s: float
    start_up_s: float
    useful_s: float
    wasted_s: float
    idle_s: float
    completed: int
    failed: int
    launched: int
    preempted: int

    @property
    def hours(self) -> float:
        """Wall time in hours."""
        return self.wall_s / HOUR_S

    def usd(self, price: Price) -> Decimal:
        """What all nodes cost, each at `price`."""
        return Decimal(repr(self.node_s)) * price.usd_per_s


@dataclass(frozen=True, slots=True, eq=False)
class Leg:
    """One of the machines that a batch visits in turn.

    Attributes
    ----------
    seconds : ndarray
        For each workitem, shape (n,); ``inf`` for one that hangs.
    """

    kind: NodeKind
    seconds: Seconds


def draw_seconds(expected_s: Seconds, sigma: float, hang_share: float, rng: np.random.Generator) -> Seconds:
    """Seconds that workitems take: log-normal about `expected_s`, whose mean they keep; ``inf`` for those that hang.

    Parameters
    ----------
    sigma : float
        Standard deviation of the logarithm.
    hang_share : float
        In [0, 1].
    """
    drawn = expected_s * np.exp(sigma * rng.standard_normal(expected_s.shape) - sigma * sigma / 2)
    drawn[rng.random(expected_s.shape) < hang_share] = math.inf
    return drawn


def simulate_pull(seconds: Seconds, fleet: Fleet, deadline_s: float, rng: np.random.Generator) -> Simulated:
    """A fleet whose nodes take one workitem after the other, in the order given; those that failed last.

    Parameters
    ----------
    seconds : ndarray
        For each workitem, shape (n,); ``inf`` for one that hangs.
    deadline_s : float
        A workitem that takes longer is stopped, and tried `MOST_FAILS` times in all. One that is
        lost with its node is tried `MOST_LOSSES` times.

    Raises
    ------
    InvalidFleet
        If some seconds are negative or NaN, or the deadline is not positive and finite.
    """
    _check(seconds, deadline_s)
    pull = _Pull(seconds.tolist(), fleet, deadline_s, rng)
    pull.work()
    return pull.result()


def simulate_batches(
    legs: Sequence[Leg], batch: int, deadline_s: float, rng: np.random.Generator, most_at_once: int | None = None
) -> tuple[Simulated, ...]:
    """Virtual machines that each do one batch of workitems and end: one Simulated for each leg.

    A batch visits its legs one after the other, each on a machine of its own. A machine that is
    preempted loses its batch, which begins anew. A workitem that runs into the deadline fails,
    and the batch goes on.

    Parameters
    ----------
    most_at_once : int or None
        Batches under way at any time; None: all of them.

    Raises
    ------
    InvalidFleet
        As `simulate_pull`; or if legs differ in their number of workitems.
    """
    for leg in legs:
        _check(leg.seconds, deadline_s)
    number = legs[0].seconds.size
    if batch < 1 or any(leg.seconds.size != number for leg in legs):
        raise InvalidFleet(f"batches of {batch}, legs of {[leg.seconds.size for leg in legs]} workitems")
    starts = np.arange(0, number, batch)
    tallies = [_Tally.of(leg, starts, deadline_s, rng) for leg in legs]
    free = [0.0] * min(most_at_once or starts.size, starts.size)
    for index in range(starts.size):
        at = free[0]
        for tally in tallies:
            at = tally.visit(index, at)
        heapreplace(free, at)
    return tuple(tally.result(max(free, default=0.0)) for tally in tallies)


def _check(seconds: Seconds, deadline_s: float) -> None:
    if not 0 < deadline_s < math.inf:
        raise InvalidFleet(f"a deadline of {deadline_s} s")
    if not bool((seconds >= 0).all()):
        raise InvalidFleet("workitems with negative or unknown seconds")


def _lives(kind: NodeKind, rng: np.random.Generator) -> Iterator[tuple[float, float]]:
    """Start-up seconds, and seconds until the node is taken away, of one node after the other."""
    rate_per_s = kind.preemptions_per_h / HOUR_S
    while True:
        boots = np.maximum(kind.boot_s + kind.boot_sd_s * rng.standard_normal(DRAWS), 0.0)
        ends = rng.exponential(1 / rate_per_s, DRAWS) if rate_per_s else np.full(DRAWS, math.inf)
        yield from zip((boots + kind.image_s + kind.weights_s).tolist(), ends.tolist(), strict=True)


@dataclass(slots=True)
class _Pull:
    """A run in pull mode, event by event.

    The heap holds (time, node) for a node that is free then, and (time, -1 - workitem) for a
    workitem that comes back then: at equal times the workitem comes first.
    """

    seconds: list[float]
    fleet: Fleet
    deadline_s: float
    rng: np.random.Generator
    _lives: Iterator[tuple[float, float]] = field(init=False)
    _up: list[float] = field(default_factory=list)
    _ready: list[float] = field(default_factory=list)
    _end: list[float] = field(default_factory=list)
    _down: list[float] = field(default_factory=list)
    _heap: list[tuple[float, int]] = field(default_factory=list)
    _idle: list[tuple[float, int]] = field(default_factory=list)
    _tries: dict[int, list[int]] = field(default_factory=dict)
    _wall_s: float = 0.0
    _useful_s: float = 0.0
    _wasted_s: float = 0.0
    _failed: int = 0

    def __post_init__(self) -> None:
        self._lives = _lives(self.fleet.kind, self.rng)

    def work(self) -> None:
        """Until every workitem is settled and every node has left."""
        for number in range(self.fleet.nodes):
            self._launch(number / self.fleet.launches_per_s)
        heapify(self._heap)
        fresh, number = 0, len(self.seconds)
        returned: deque[int] = deque()
        while self._heap:
            now, who = self._heap[0]
            if who < 0:
                heappop(self._heap)
                returned.append(-1 - who)
                self._wake(now)
            elif fresh < number:
                self._begin(now, who, fresh)
                fresh += 1
            elif returned:
                self._begin(now, who, returned.popleft())
            else:
                heappop(self._heap)
                self._idle.append((now, who))
        for since, node in self._idle:
            self._leave(since, node)

    def result(self) -> Simulated:
        """The sums over all nodes."""
        up, ready, down = (np.array(times) for times in (self._up, self._ready, self._down))
        down = np.maximum(np.where(ready > self._wall_s, np.minimum(down, self._wall_s), down), up)
        node_s = float((down - up).sum())
        start_up_s = float((np.minimum(ready, down) - up).sum())
        return Simulated(
            wall_s=self._wall_s,
            node_s=node_s,
            start_up_s=start_up_s,
            useful_s=self._useful_s,
            wasted_s=self._wasted_s,
            idle_s=node_s - start_up_s - self._useful_s - self._wasted_s,
            completed=len(self.seconds) - self._failed,
            failed=self._failed,
            launched=int((up < self._wall_s).sum()),
            preempted=int((np.array(self._end) <= down).sum()),
        )

    def _launch(self, at: float) -> None:
        """Order a node; one that is taken away while it starts is ordered again."""
        while True:
            start_up, life = next(self._lives)
            self._up.append(at)
            self._ready.append(at + start_up)
            self._end.append(at + life)
            self._down.append(at + min(start_up, life))
            if start_up < life:
                heappush(self._heap, (at + start_up, len(self._up) - 1))
                return
            at += life

    def _begin(self, now: float, node: int, item: int) -> None:
        """Give the workitem to the node at the top of the heap."""
        takes = self.seconds[item]
        hangs = takes > self.deadline_s
        until = now + (self.deadline_s if hangs else takes)
        if until > self._end[node]:
            until = self._down[node] = self._end[node]
            self._wasted_s += until - now
            heappop(self._heap)
            self._launch(until)
            self._again(until, item, 0, MOST_LOSSES)
            return
        self._down[node] = until
        heapreplace(self._heap, (until, node))
        if hangs:
            self._wasted_s += until - now
            self._again(until, item, 1, MOST_FAILS)
        else:
            self._useful_s += until - now
            self._wall_s = max(self._wall_s, until)

    def _again(self, at: float, item: int, fault: int, most: int) -> None:
        """Let a workitem come back, unless it was tried often enough; `fault` 0: lost, 1: hung."""
        tries = self._tries.setdefault(item, [0, 0])
        tries[fault] += 1
        if tries[fault] < most:
            heappush(self._heap, (at, -1 - item))
        else:
            self._failed += 1
            self._wall_s = max(self._wall_s, at)

    def _wake(self, now: float) -> None:
        """Let the node that became idle last look again, if one is still there."""
        while self._idle:
            since, node = self._idle.pop()
            if since + self.fleet.idle_timeout_s >= now and self._end[node] > now:
                heappush(self._heap, (now, node))
                return
            self._leave(since, node)

    def _leave(self, since: float, node: int) -> None:
        self._down[node] = max(since, min(since + self.fleet.idle_timeout_s, self._end[node], self._wall_s))


@dataclass(slots=True)
class _Tally:
    """One leg of all batches: what its machines did."""

    useful: list[float]
    hung: list[float]
    lives: Iterator[tuple[float, float]]
    failed: int
    workitems: int
    start_up_s: float = 0.0
    useful_s: float = 0.0
    wasted_s: float = 0.0
    launched: int = 0

    @classmethod
    def of(cls, leg: Leg, starts: npt.NDArray[np.int_], deadline_s: float, rng: np.random.Generator) -> _Tally:
        hangs = leg.seconds > deadline_s
        useful = np.add.reduceat(np.where(hangs, 0.0, leg.seconds), starts) if starts.size else starts
        hung = np.add.reduceat(np.where(hangs, deadline_s, 0.0), starts) if starts.size else starts
        lives = _lives(leg.kind, rng)
        return cls(useful.tolist(), hung.tolist(), lives, int(hangs.sum()), leg.seconds.size)

    def visit(self, index: int, at: float) -> float:
        """When a batch that begins at `at` has done this leg."""
        work = self.useful[index] + self.hung[index]
        while True:
            start_up, life = next(self.lives)
            self.launched += 1
            if start_up + work <= life:
                self.start_up_s += start_up
                self.useful_s += self.useful[index]
                self.wasted_s += self.hung[index]
                return at + start_up + work
            self.start_up_s += min(start_up, life)
            self.wasted_s += max(0.0, life - start_up)
            at += life

    def result(self, wall_s: float) -> Simulated:
        return Simulated(
            wall_s=wall_s,
            node_s=self.start_up_s + self.useful_s + self.wasted_s,
            start_up_s=self.start_up_s,
            useful_s=self.useful_s,
            wasted_s=self.wasted_s,
            idle_s=0.0,
            completed=self.workitems - self.failed,
            failed=self.failed,
            launched=self.launched,
            preempted=self.launched - len(self.useful),
        )
