"""Dice similarity coefficient."""

from __future__ import annotations

from ..mask_pair import MaskPair
from ..metric import NAN, SegmentMetric, zero


def dice(pair: MaskPair) -> float:
    """Dice similarity coefficient, 2|A∩B| / (|A| + |B|); NaN where both are empty."""
    size = pair.reference_voxels + pair.prediction_voxels
    return 2 * pair.both / size if size else NAN


METRIC = SegmentMetric(
    name="dice",
    title="Dice similarity coefficient",
    unit="1",
    best=1.0,
    higher_is_better=True,
    symmetric=True,
    empty="In neither: undefined (MONAI's ignore_empty; the Metrics Reloaded library says 1). In one only: 0.",
    value=dice,
    worst=zero,
)
