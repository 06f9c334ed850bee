"""What a plan says: options with their hours and dollars, each an interval."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from ..prices.price import Price
from .fleet import HOUR_S
from .series_sizes import SeriesSizes
from .timing import Timing

PUBLISHED_USD_PER_SERIES = Decimal("1011.05") / 126_068
"""TotalSegmentator, 28 features and SR for all of NLST: doi 10.21203/rs.3.rs-4351526."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure that is not known yet: the simulated middle, and the ends of a 95 % interval."""

    low: float
    middle: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Interval:
        """The least, the middle and the greatest."""
        ordered = sorted(values)
        return cls(ordered[0], ordered[len(ordered) // 2], ordered[-1])

    @property
    def ends(self) -> tuple[float, float, float]:
        """Low, middle and high."""
        return self.low, self.middle, self.high

    def times(self, factor: float) -> Interval:
        """The same in another unit."""
        return Interval(self.low * factor, self.middle * factor, self.high * factor)


@dataclass(frozen=True, slots=True)
class Option:
    """One machine, one number of nodes, and what the collection then takes.

    Attributes
    ----------
    hours, usd : Interval
        Until the last series is settled, and for all nodes and the heads of their cells.
    start_up_share, wasted_share : float
        Of the dollars of nodes: those that start; series lost with their node, or stopped at their deadline.
    egress_usd : Interval or None
        If all results leave the provider; None: not known. No part of `usd`.
    storage_usd : Interval or None
        A month of all results in the provider's region; None: not known. No part of `usd`.
    head : Price or None
        Of each of its `heads`; None: there are none.
    frontier : bool
        Whether no other option is both cheaper and faster.
    """

    price: Price
    nodes: int
    hours: Interval
    usd: Interval
    start_up_share: float
    wasted_share: float
    egress_usd: Interval | None = None
    storage_usd: Interval | None = None
    head: Price | None = None
    heads: int = 0
    frontier: bool = False


@dataclass(frozen=True, slots=True)
class Forecast:
    """All options for one collection and one model.

    Attributes
    ----------
    cheapest : Option or None
        Of those that meet the deadline with the high end of their hours; None: none does.
    fastest : Option or None
        Of those that keep the budget with the high end of their dollars; None: none does.
    output_bytes : Interval or None
        That will be stored; None: not known.
    """

    model: str
    sizes: SeriesSizes
    timing: Timing
    deadline_h: float | None
    budget_usd: Decimal | None
    options: tuple[Option, ...]
    cheapest: Option | None
    fastest: Option | None
    output_bytes: Interval | None
    assumptions: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def keeps_both(self) -> bool:
        """Whether one option meets the deadline and keeps the budget, where they are given."""
        return any(in_time(each, self.deadline_h) and paid(each, self.budget_usd) for each in self.options)


def in_time(option: Option, deadline_h: float | None) -> bool:
    """Whether it meets the deadline with the high end of its hours."""
    return deadline_h is None or option.hours.high <= deadline_h


def paid(option: Option, budget_usd: Decimal | None) -> bool:
    """Whether it keeps the budget with the high end of its dollars."""
    return budget_usd is None or option.usd.high <= float(budget_usd)


def hours_text(hours: float) -> str:
    """Hours as people read them: minutes below one, days above 48."""
    if hours < 1:
        return f"{hours * HOUR_S / 60:.1f} min"
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} d"  # noqa: PLR2004
