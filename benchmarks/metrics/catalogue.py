"""All metrics, by name."""

from __future__ import annotations

from collections.abc import Sequence

from ..metric import SegmentMetric
from . import (
    centroid_distance,
    dice,
    hausdorff95,
    iou,
    mean_surface_distance,
    precision,
    sensitivity,
    volume_difference,
)
from .surface_dice import surface_dice_at

TOLERANCES_MM = (1.0, 2.0, 3.0)
"""Of the surface Dice where none are asked for; TotalSegmentator publishes it at 3 mm."""


def segment_metrics(tolerances_mm: Sequence[float] = TOLERANCES_MM) -> tuple[SegmentMetric, ...]:
    """All metrics of a structure, in the order of reports."""
    return (
        dice.METRIC,
        iou.METRIC,
        sensitivity.METRIC,
        precision.METRIC,
        *(surface_dice_at(tolerance) for tolerance in tolerances_mm),
        hausdorff95.METRIC,
        mean_surface_distance.METRIC,
        volume_difference.METRIC,
        volume_difference.ABSOLUTE,
        volume_difference.RELATIVE,
        centroid_distance.METRIC,
    )
