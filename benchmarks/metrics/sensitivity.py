"""Sensitivity (recall) over voxels."""

from __future__ import annotations

from ..mask_pair import MaskPair
from ..metric import NAN, SegmentMetric, zero


def sensitivity(pair: MaskPair) -> float:
    """Share of the reference's voxels that the prediction has, |A∩B| / |A|; NaN for an empty reference."""
    return pair.both / pair.reference_voxels if pair.reference_voxels else NAN


METRIC = SegmentMetric(
    name="sensitivity",
    title="Sensitivity",
    unit="1",
    best=1.0,
    higher_is_better=True,
    symmetric=False,
    empty="Empty reference: undefined, whatever the prediction holds (Metrics Reloaded). Empty prediction only: 0.",
    value=sensitivity,
    worst=zero,
)
