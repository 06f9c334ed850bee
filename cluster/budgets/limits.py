"""Limits of a run beside its budget: hours, dollars of a series, and the share of series that fail.

Pure: where a run stands in, a reason to pause out. A run that pauses finishes what is in flight,
and the same command goes on with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from .budget import DRAIN_S, LAG_S, BudgetError

WINDOW = 200
"""Series settled last, among which the failed are counted."""

LEAST = 20
"""Series settled before a share or a mean is taken for one."""

FAILURE_SHARE = 0.05
"""Of the window: more, and something is wrong with image, weights or archive, and not with the series."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a run must not pass.

    Attributes
    ----------
    usd_per_series : Decimal or None
        Mean over the series settled by this command, all overheads in it.
    wall_s : float or None
        Seconds from the start of this command.
    failure_share : float
        In [0, 1]; 1: never pause for failures.
    nodes : int or None
        That may be up at once, heads of cells apart: while more are, nothing is begun; with nothing in flight the
        command ends.
    settle_s : Decimal
        Seconds of all nodes that are kept back from the budget: while they drain, and by which the count lags.
    """

    usd_per_series: Decimal | None = None
    wall_s: float | None = None
    failure_share: float = FAILURE_SHARE
    nodes: int | None = None
    settle_s: Decimal = DRAIN_S + LAG_S

    def __post_init__(self) -> None:
        usd = self.usd_per_series
        if usd is not None and (not usd.is_finite() or usd <= 0):
            raise BudgetError(f"{usd} US$ is no limit for a series")
        if self.wall_s is not None and not self.wall_s > 0:
            raise BudgetError(f"{self.wall_s} s is no deadline")
        if not 0 <= self.failure_share <= 1:
            raise BudgetError(f"{self.failure_share} is no share of series that may fail")
        if self.nodes is not None and self.nodes < 1:
            raise BudgetError(f"{self.nodes} nodes do nothing")


@dataclass(frozen=True, slots=True)
class Settled:
    """How many series were settled up to some moment, how many of them failed for good, dollars, and nodes up."""

    series: int
    failed: int
    usd: Decimal
    nodes: int = 0


def pause_reason(limits: Limits, readings: Sequence[Settled], elapsed_s: float, item_s: float) -> str:
    """Why nothing more may be begun; empty where it may.

    Parameters
    ----------
    readings : sequence of Settled
        Oldest first; the first is of the start of this command.
    elapsed_s : float
        Since the start of this command, by a clock that never steps.
    item_s : float
        What one more workitem is reckoned to take.
    """
    if limits.wall_s is not None and elapsed_s + item_s > limits.wall_s:
        return f"the deadline of {limits.wall_s:.0f} s leaves no time for another series"
    first, last = readings[0], readings[-1]
    if limits.nodes is not None and last.nodes > limits.nodes:
        return f"{last.nodes} nodes are up, and {limits.nodes} may be"
    done = last.series - first.series
    if limits.usd_per_series is not None and done >= LEAST:
        mean = (last.usd - first.usd) / done
        if mean > limits.usd_per_series:
            return f"a series costs {mean:.6f} US$, more than {limits.usd_per_series}"
    before = next((each for each in reversed(readings) if last.series - each.series >= WINDOW), first)
    series, failed = last.series - before.series, last.failed - before.failed
    if series >= LEAST and failed > limits.failure_share * series:
        return f"{failed} of the last {series} series failed"
    return ""


def thinned(readings: Sequence[Settled]) -> list[Settled]:
    """The readings that `pause_reason` still looks at: the first, and those of the last window."""
    last = readings[-1].series
    recent = [each for each in readings[1:] if last - each.series < WINDOW]
    older = [each for each in readings[1:] if last - each.series >= WINDOW]
    return [readings[0], *older[-1:], *recent]
