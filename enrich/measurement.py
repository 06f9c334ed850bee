"""Measurement: one number about one segment."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite

from pydicom.sr.coding import Code

from .. import Error

ORIGINAL = "original"
"""Name, in pyradiomics' words, of the image that no filter has changed."""


class InvalidMeasurement(Error):
    """A measurement that an SR cannot hold."""

    code = "INVALID_MEASUREMENT"

    def __init__(self, name: str, segment_number: int, reason: str) -> None:
        super().__init__(name, segment_number, reason)


@dataclass(frozen=True, slots=True)
class Measurement:
    """One value, named by an IBSI code, of one segment.

    Attributes
    ----------
    segment_number : int
        Segment Number (0062,0004) in the written SEG.
    name : str
        pyradiomics' feature name without filter, e.g. ``shape_MeshVolume``; column name of tables.
    value : float
        Finite; as exported (kurtosis is excess kurtosis).
    concept, unit : Code
        Concept name (scheme IBSI) and unit (scheme UCUM).
    image_filter : str
        pyradiomics' name of the filtered image that was measured, e.g. ``wavelet-LLH``.
    """

    segment_number: int
    name: str
    value: float
    concept: Code
    unit: Code
    image_filter: str = ORIGINAL

    @property
    def column(self) -> str:
        """Name that no other feature of the segment has: with the filter, where there is one."""
        return _column(self.name, self.image_filter)

    def __post_init__(self) -> None:
        if not isfinite(self.value):
            raise InvalidMeasurement(self.name, self.segment_number, f"{self.value} is not finite")


@dataclass(frozen=True, slots=True)
class FailedFeature:
    """A feature that has no value for this segment, and why."""

    segment_number: int
    name: str
    reason: str
    image_filter: str = ORIGINAL

    @property
    def column(self) -> str:
        """As of `Measurement.column`."""
        return _column(self.name, self.image_filter)


MOST_NAMED = 40
"""Features that are named one by one where a segment has none: all published ones, not those of every filter."""


def sentences(failed: Iterable[FailedFeature]) -> tuple[str, ...]:
    """What has no value and why; one sentence for many features that a segment lacks for one reason."""
    alike: dict[tuple[int, str], list[str]] = {}
    for each in failed:
        alike.setdefault((each.segment_number, each.reason), []).append(each.column)
    told = []
    for (number, reason), names in alike.items():
        few = names if len(names) <= MOST_NAMED else [f"{names[0]} and {len(names) - 1} more features"]
        told += [f"segment {number} {name}: {reason}" for name in few]
    return tuple(told)


@dataclass(frozen=True, slots=True)
class Measured:
    """All measurements of one segmentation, and those that could not be made."""

    measurements: tuple[Measurement, ...]
    failed: tuple[FailedFeature, ...] = ()


def _column(name: str, image_filter: str) -> str:
    return name if image_filter == ORIGINAL else f"{image_filter}_{name}"
