"""Normalised surface Dice at a tolerance."""

from __future__ import annotations

from functools import partial

from ..mask_pair import MaskPair
from ..metric import NAN, SegmentMetric, zero

EQUAL = 1 + 1e-9
"""A distance that exceeds the tolerance by no more than the rounding of binary fractions is within it."""


def surface_dice(pair: MaskPair, tolerance_mm: float) -> float:
    """Share of both outlines' area that lies within a tolerance of the other outline.

    Nikolov et al., J Med Internet Res 2021;23(7):e26151: area-weighted surface elements
    between the voxel centres, (|S_A within| + |S_B within|) / (|S_A| + |S_B|).

    Parameters
    ----------
    pair : MaskPair
        NaN where both are empty, 0 where one is.
    tolerance_mm : float
        Largest distance that is acceptable; one that equals it is within.
    """
    if pair.neither:
        return NAN
    if pair.one_empty:
        return 0.0
    limit = tolerance_mm * EQUAL
    sides = (pair.distances.from_reference, pair.distances.from_prediction)
    within = sum(float(side.area_mm2[side.distance_mm <= limit].sum()) for side in sides)
    return within / sum(side.total_mm2 for side in sides)


def surface_dice_at(tolerance_mm: float) -> SegmentMetric:
    """The metric at one tolerance, e.g. ``surface_dice_2mm``."""
    return SegmentMetric(
        name=f"surface_dice_{tolerance_mm:g}mm",
        title=f"Normalised surface Dice at {tolerance_mm:g} mm",
        unit="1",
        best=1.0,
        higher_is_better=True,
        symmetric=True,
        empty="In neither: undefined (DeepMind, MONAI). In one only: 0 (Metrics Reloaded).",
        value=partial(surface_dice, tolerance_mm=tolerance_mm),
        worst=zero,
    )
