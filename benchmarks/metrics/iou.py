"""Intersection over union, the Jaccard index."""

from __future__ import annotations

from ..mask_pair import MaskPair
from ..metric import NAN, SegmentMetric, zero


def iou(pair: MaskPair) -> float:
    """Intersection over union, |A∩B| / |A∪B|; NaN where both are empty."""
    union = pair.reference_voxels + pair.prediction_voxels - pair.both
    return pair.both / union if union else NAN


METRIC = SegmentMetric(
    name="iou",
    title="Intersection over union",
    unit="1",
    best=1.0,
    higher_is_better=True,
    symmetric=True,
    empty="In neither: undefined (Metrics Reloaded). In one only: 0.",
    value=iou,
    worst=zero,
)
