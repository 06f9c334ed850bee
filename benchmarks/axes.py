"""Axes of plots: from values to coordinates of inline SVG, with their ticks."""

from __future__ import annotations

import math
from dataclasses import dataclass

MOST_PLAIN = 1000.0
"""Ticks from here on are round, and written with all their digits."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on an axis, at a coordinate of the picture."""

    at: float
    label: str


class Axis:
    """Linear, from values to coordinates."""

    def __init__(self, low: float, high: float, begin: float, end: float) -> None:
        self._low, self._high = low, high if high > low else low + 1.0
        self._begin, self._scale = begin, (end - begin) / (self._high - self._low)

    def __call__(self, value: float) -> float:
        """Coordinate of a value."""
        return round(self._begin + (value - self._low) * self._scale, 1)

    def ticks(self, count: int) -> tuple[Tick, ...]:
        """About so many round values."""
        raw = (self._high - self._low) / count
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
        first = math.ceil(self._low / step - 1e-9)
        numbers = [n * step for n in range(first, math.floor(self._high / step + 1e-9) + 1)]
        return tuple(Tick(self(each), f"{each:.4g}") for each in numbers)


class LogAxis:
    """Logarithmic, from values to coordinates."""

    def __init__(self, low: float, high: float, begin: float, end: float) -> None:
        self._low, self._high = low, high
        self._begin, self._scale = begin, (end - begin) / (math.log(high) - math.log(low))

    def __call__(self, value: float) -> float:
        """Coordinate of a value."""
        return round(self._begin + (math.log(value) - math.log(self._low)) * self._scale, 1)

    def ticks(self) -> tuple[Tick, ...]:
        """Powers of ten; where there are under two, values of 1, 2 and 5."""
        for factors in ((1.0,), (1.0, 2.0, 5.0)):
            found = [f * 10.0**p for p in range(-6, 8) for f in factors if self._low <= f * 10.0**p <= self._high]
            if len(found) > 1:
                break
        found = found if len(found) > 1 else [self._low, self._high]
        return tuple(Tick(self(each), f"{each:.3g}" if each < MOST_PLAIN else f"{each:.0f}") for each in found)
