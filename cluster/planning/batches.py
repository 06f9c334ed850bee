"""Simulation of static batches: virtual machines that each do one batch and end, as workflow engines have it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import heapreplace

import numpy as np
import numpy.typing as npt

from .fleet import InvalidFleet, NodeKind, Seconds, Simulated, check_work, node_lives


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
        check_work(leg.seconds, deadline_s)
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
        lives = node_lives(leg.kind, rng)
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
