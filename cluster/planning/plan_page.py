"""The HTML page of a plan: the picture of dollars over hours, and the table behind it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ...runners.page import render
from .option import PUBLISHED_USD_PER_SERIES, Forecast, Option, hours_text

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 1000.0, 420.0, 70.0, 44.0, 14.0, 20.0
COLORS = (
    *("#5b8def", "#e0913a", "#4caf7a", "#d96a8b", "#8b6fe8", "#2bb3c0", "#a58a3c", "#8a8f98"),
    *("#b3412e", "#1f5f8b", "#7a9a2e", "#c77fd1", "#5f3b76", "#3d7a68", "#d9b54a", "#6d4c41"),
)
"""Of machines; they come again where there are more."""

TICKS = tuple(factor * 10.0**power for power in range(-6, 8) for factor in (1, 2, 5))
HOUR_TICKS = (
    *(n / 60 for n in (0.1, 0.2, 0.5, 1, 2, 5, 10, 30)),
    1,
    2,
    4,
    8,
    24,
    *(24.0 * n for n in (2, 4, 7, 14, 30, 90, 365)),
)


@dataclass(frozen=True, slots=True)
class Dot:
    """One option in the picture, with the arms of its intervals."""

    x: float
    y: float
    left: float
    right: float
    above: float
    below: float
    color: str
    frontier: bool
    title: str


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on an axis, at a coordinate of the picture."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Picture:
    """Dollars over hours, both logarithmic, in the picture's own coordinates."""

    dots: tuple[Dot, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    legend: tuple[tuple[str, str], ...]
    frontier: str
    deadline: float | None
    budget: float | None


class _Axis:
    """Logarithmic, from values to coordinates; nothing (a machine that is free) stands where the least does."""

    def __init__(self, values: list[float], begin: float, end: float, ticks: tuple[float, ...]) -> None:
        above = [value for value in values if value > 0] or [1.0]
        self._least = min(above)
        low, high = math.log(self._least / 1.15), math.log(max(above) * 1.15)
        self._low, self._scale, self._begin = low, (end - begin) / (high - low), begin
        self._range = (math.exp(low), math.exp(high))
        self.ticks = [tick for tick in ticks if self.inside(tick)]

    def __call__(self, value: float) -> float:
        return round(self._begin + (math.log(max(value, self._least)) - self._low) * self._scale, 1)

    def inside(self, value: float) -> bool:
        """Whether the value lies on the axis."""
        return self._range[0] <= value <= self._range[1]


def plan_page(found: Forecast) -> str:
    """One self-contained HTML document."""
    return render(
        "plan.html",
        found=found,
        picture=_picture(found),
        slices=float(found.sizes.slices.sum()),
        size=int(found.sizes.bytes.sum()),
        mean_s=float(found.timing.expected_s(found.sizes.slices).mean()),
        published=float(PUBLISHED_USD_PER_SERIES) * 100,
        hours_text=hours_text,
        dollars=_dollars,
    )


def _picture(found: Forecast) -> Picture:
    options = found.options
    x = _Axis([end for each in options for end in (each.hours.low, each.hours.high)], LEFT, WIDTH - RIGHT, HOUR_TICKS)
    y = _Axis([end for each in options for end in (each.usd.low, each.usd.high)], HEIGHT - BOTTOM, TOP, TICKS)
    names = list(dict.fromkeys(each.price.machine for each in options))
    color = {name: COLORS[number % len(COLORS)] for number, name in enumerate(names)}
    dots = tuple(_dot(each, x, y, color[each.price.machine], found.sizes.number) for each in options)
    edge = sorted((each.hours.middle, each.usd.middle) for each in options if each.frontier)
    budget = None if found.budget_usd is None else float(found.budget_usd)
    return Picture(
        dots=dots,
        x_ticks=tuple(Tick(x(tick), hours_text(tick)) for tick in x.ticks),
        y_ticks=tuple(Tick(y(tick), f"${tick:,g}") for tick in y.ticks),
        legend=tuple(color.items()),
        frontier=" ".join(f"{x(hours)},{y(usd)}" for hours, usd in edge),
        deadline=x(found.deadline_h) if found.deadline_h and x.inside(found.deadline_h) else None,
        budget=y(budget) if budget and y.inside(budget) else None,
    )


def _dot(option: Option, x: _Axis, y: _Axis, color: str, series: int) -> Dot:
    hours, usd = option.hours, option.usd
    text = f"{option.nodes} x {_name(option)}: {hours_text(hours.middle)}, {_dollars(usd.middle)}"
    return Dot(
        x=x(hours.middle),
        y=y(usd.middle),
        left=x(hours.low),
        right=x(hours.high),
        above=y(usd.high),
        below=y(usd.low),
        color=color,
        frontier=option.frontier,
        title=f"{text}, {usd.middle / series * 100:.3g} cents a series",
    )


def _name(option: Option) -> str:
    return " ".join(part for part in (option.price.machine, option.price.region, option.price.market) if part)


def _dollars(usd: float) -> str:
    if usd >= 1:
        return f"${usd:,.0f}" if usd >= 1000 else f"${usd:.2f}"  # noqa: PLR2004
    return f"${usd:.3g}"
