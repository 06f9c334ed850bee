"""Simulation of nodes that pull: each takes one workitem after the other, as Voxfleet's do.

Discrete events on a heap: what hours and node-seconds a collection takes, before anything is rented.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush, heapreplace

import numpy as np

from ..ledger import MOST_FAILS, MOST_LOSSES
from .fleet import Fleet, Seconds, Simulated, check_work, node_lives


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
    check_work(seconds, deadline_s)
    pull = _Pull(seconds.tolist(), fleet, deadline_s, rng)
    pull.work()
    return pull.result()


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
        self._lives = node_lives(self.fleet.kind, self.rng)

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
