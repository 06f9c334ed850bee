"""Volume difference: signed, absolute and relative."""

from __future__ import annotations

from ..mask_pair import MaskPair
from ..metric import NAN, SegmentMetric

MADE_UP_PERCENT = 100.0
"""Relative difference of a structure that only the prediction has (Metrics Reloaded's rule)."""


def volume_difference(pair: MaskPair) -> float:
    """Volume of the prediction less that of the reference, in ml; NaN where both are empty."""
    return NAN if pair.neither else (pair.prediction_voxels - pair.reference_voxels) * pair.grid.voxel_ml


def absolute_volume_difference(pair: MaskPair) -> float:
    """Size of the volume difference in ml; NaN where both are empty."""
    return abs(volume_difference(pair))


def relative_volume_difference(pair: MaskPair) -> float:
    """Volume difference in per cent of the reference; 100 where only the prediction has any, NaN where none has."""
    if pair.neither:
        return NAN
    if not pair.reference_voxels:
        return MADE_UP_PERCENT
    return 100 * (pair.prediction_voxels - pair.reference_voxels) / pair.reference_voxels


def _all_missed_ml(pair: MaskPair) -> float:
    """Give what an empty prediction would get."""
    return -pair.reference_voxels * pair.grid.voxel_ml


def _all_missed_absolute_ml(pair: MaskPair) -> float:
    return pair.reference_voxels * pair.grid.voxel_ml


def _all_missed_percent(_: MaskPair) -> float:
    return -100.0


METRIC = SegmentMetric(
    name="volume_difference",
    title="Volume difference, prediction less reference",
    unit="mL",
    best=0.0,
    higher_is_better=None,
    symmetric=False,
    empty="In neither: undefined. In one only: plus or minus the volume of the other. Failed: as if empty.",
    value=volume_difference,
    worst=_all_missed_ml,
)
ABSOLUTE = SegmentMetric(
    name="absolute_volume_difference",
    title="Absolute volume difference",
    unit="mL",
    best=0.0,
    higher_is_better=False,
    symmetric=True,
    empty="In neither: undefined. In one only: the volume of the other. Failed: as if empty.",
    value=absolute_volume_difference,
    worst=_all_missed_absolute_ml,
)
RELATIVE = SegmentMetric(
    name="relative_volume_difference",
    title="Relative volume difference",
    unit="%",
    best=0.0,
    higher_is_better=None,
    symmetric=False,
    empty="In neither: undefined. Empty prediction: -100. Empty reference: 100 (Metrics Reloaded). Failed: -100.",
    value=relative_volume_difference,
    worst=_all_missed_percent,
)
