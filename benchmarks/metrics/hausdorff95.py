"""95th percentile of the Hausdorff distance."""

from __future__ import annotations

from ..mask_pair import MaskPair
from ..metric import NAN, SegmentMetric, diagonal_mm

PERCENTILE = 95.0


def hausdorff95(pair: MaskPair) -> float:
    """Larger of the two distances in mm that 95 % of an outline's area does not exceed.

    The percentile is of each direction on its own, weighted by area (DeepMind's robust
    Hausdorff distance); Metrics Reloaded and MONAI too take the larger of the two.
    """
    if pair.neither:
        return NAN
    if pair.one_empty:
        return pair.grid.diagonal_mm
    return max(
        side.percentile_mm(PERCENTILE) for side in (pair.distances.from_reference, pair.distances.from_prediction)
    )


METRIC = SegmentMetric(
    name="hausdorff95",
    title="Hausdorff distance, 95th percentile",
    unit="mm",
    best=0.0,
    higher_is_better=False,
    symmetric=True,
    empty="In neither: undefined. In one only: the diagonal of the image, as in BraTS (374 mm on its grid).",
    value=hausdorff95,
    worst=diagonal_mm,
)
