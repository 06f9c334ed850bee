"""Precision (positive predictive value) over voxels."""

from __future__ import annotations

from ..mask_pair import MaskPair
from ..metric import NAN, SegmentMetric, zero


def precision(pair: MaskPair) -> float:
    """Share of the prediction's voxels that the reference has, |A∩B| / |B|; 0 where only the prediction is empty."""
    if pair.neither:
        return NAN
    return pair.both / pair.prediction_voxels if pair.prediction_voxels else 0.0


METRIC = SegmentMetric(
    name="precision",
    title="Precision",
    unit="1",
    best=1.0,
    higher_is_better=True,
    symmetric=False,
    empty="In neither: undefined. Empty prediction only: 0. Empty reference only: 0 (all three: Metrics Reloaded).",
    value=precision,
    worst=zero,
)
