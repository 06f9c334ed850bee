"""The HTML page of what a run cost: bars by purpose, model, stage, node and day, and cents of each series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...runners.page import BAR_WIDTH, bar, render
from ..planning.option import PUBLISHED_USD_PER_SERIES
from .account import Account
from .planned import Planned

BINS = 24
"""Bars of the histogram."""

MOST_ROWS = 200
"""Rows of a table on the page."""

MOST_SERIES = 50
"""Series on the page: the dearest; all of them are in the CSV and parquet files."""

MOST_ELSEWHERE = 20


@dataclass(frozen=True, slots=True)
class Interval:
    """One planned figure in the picture's coordinates, per cent of its width."""

    row: Planned
    low: float
    middle: float
    high: float
    actual: float


@dataclass(frozen=True, slots=True)
class Bin:
    """One bar of the histogram, in the picture's coordinates."""

    x: float
    width: float
    y: float
    height: float
    title: str


def cost_page(account: Account) -> str:
    """One self-contained HTML document."""
    bill = account.bill
    cents = sorted(float(usd) * 100 for usd in bill.of_series().values())
    return render(
        "cost.html",
        account=account,
        bill=bill,
        total=bill.total,
        published=float(PUBLISHED_USD_PER_SERIES) * 100,
        cents=None if bill.per_series is None else float(bill.per_series) * 100,
        error=f"{bill.identity_error:.1e}",
        prices=tuple(dict.fromkeys((bill.price, *(each.price for each in (*bill.nodes, *bill.heads))))),
        shares={name: bar((row.name, float(row.usd)) for row in rows) for name, rows in account.tables},
        tables={name: rows[:MOST_ROWS] for name, rows in account.shown},
        share=lambda usd: float(usd / bill.total * 100) if bill.total else 0.0,
        bins=_histogram(cents),
        ends=(f"{cents[0]:.4g}", f"{cents[-1]:.4g}") if cents else ("", ""),
        intervals=[_interval(row) for row in account.plan.figures] if account.plan else [],
        series=account.series[:MOST_SERIES],
        elsewhere=account.elsewhere[:MOST_ELSEWHERE],
    )


def _interval(row: Planned) -> Interval:
    """A planned figure as a picture: from nothing to a little more than the most of it."""
    scale = 100 / (max(row.high, row.actual, 1e-300) * 1.08)
    low, middle, high, actual = (round(each * scale, 2) for each in (row.low, row.middle, row.high, row.actual))
    return Interval(row, low, middle, high, actual)


def _histogram(values: Sequence[float]) -> tuple[Bin, ...]:
    """How many series cost how much; empty for fewer than two values or all the same."""
    if len(values) < 2 or values[0] == values[-1]:  # noqa: PLR2004
        return ()
    step = (values[-1] - values[0]) / BINS
    counts = [0] * BINS
    for value in values:
        counts[min(BINS - 1, int((value - values[0]) / step))] += 1
    width, highest = BAR_WIDTH / BINS, max(counts)
    return tuple(
        Bin(
            x=round(number * width + 1, 1),
            width=round(width - 2, 1),
            y=round(120 - 116 * count / highest, 1),
            height=round(116 * count / highest, 1),
            title=f"{count} series of {values[0] + number * step:.4g} to {values[0] + (number + 1) * step:.4g} cents",
        )
        for number, count in enumerate(counts)
        if count
    )
