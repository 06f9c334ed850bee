"""Distance between the centroids."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..mask_pair import Mask, MaskPair
from ..metric import NAN, SegmentMetric, diagonal_mm


def centroid_distance(pair: MaskPair) -> float:
    """Distance in mm between the centres of mass of reference and prediction."""
    if pair.neither:
        return NAN
    if pair.one_empty:
        return pair.grid.diagonal_mm
    apart = _centroid(pair.prediction) - _centroid(pair.reference)
    return float(np.linalg.norm(apart * pair.grid.spacing_mm))


def _centroid(mask: Mask) -> NDArray[np.float64]:
    """Mean index along each axis; from projections, so that no list of all voxels is made."""
    total = np.count_nonzero(mask)
    middle = []
    for axis in range(mask.ndim):
        others = tuple(each for each in range(mask.ndim) if each != axis)
        middle.append(float(np.count_nonzero(mask, axis=others) @ np.arange(mask.shape[axis])) / total)
    return np.array(middle)


METRIC = SegmentMetric(
    name="centroid_distance",
    title="Distance between centroids",
    unit="mm",
    best=0.0,
    higher_is_better=False,
    symmetric=True,
    empty="In neither: undefined. In one only: the diagonal of the image (the Metrics Reloaded library gives -1).",
    value=centroid_distance,
    worst=diagonal_mm,
)
