"""Metric: what a metric file declares of itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from .mask_pair import MaskPair


@dataclass(frozen=True, slots=True)
class SegmentMetric:
    """A number for one structure in reference and prediction.

    Attributes
    ----------
    name : str
        Of columns and files, e.g. ``dice``.
    title : str
        For people, e.g. ``Dice similarity coefficient``.
    unit : str
        UCUM: ``1``, ``mm``, ``mL``, ``%``.
    best : float
        Value of a perfect prediction.
    higher_is_better : bool or None
        None where the best value lies between the others (signed differences).
    symmetric : bool
        Whether reference and prediction may change places: only such a metric says how two
        readers agree.
    empty : str
        The rule for empty masks, in a sentence, with where it comes from.
    value : callable
        From a pair to the value; NaN where the rule leaves it undefined, never infinite.
    worst : callable
        From a pair whose prediction failed to the value that this is counted as. Never NaN.
    """

    name: str
    title: str
    unit: str
    best: float
    higher_is_better: bool | None
    symmetric: bool
    empty: str
    value: Callable[[MaskPair], float]
    worst: Callable[[MaskPair], float]


def zero(_: MaskPair) -> float:
    """Give the worst value of overlaps."""
    return 0.0


def diagonal_mm(pair: MaskPair) -> float:
    """Give the worst value of distances: the diagonal of the image in mm."""
    return pair.grid.diagonal_mm


NAN = math.nan
