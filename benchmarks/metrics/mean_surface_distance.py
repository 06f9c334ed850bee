"""Mean average surface distance."""

from __future__ import annotations

from ..mask_pair import MaskPair
from ..metric import NAN, SegmentMetric, diagonal_mm


def mean_surface_distance(pair: MaskPair) -> float:
    """Mean of the two directed mean distances in mm, each weighted by area.

    Metrics Reloaded's MASD: both outlines count alike, however large they are (its ASSD would
    pool them). DeepMind's ``compute_average_surface_distance`` gives the two halves.
    """
    if pair.neither:
        return NAN
    if pair.one_empty:
        return pair.grid.diagonal_mm
    return (pair.distances.from_reference.mean_mm + pair.distances.from_prediction.mean_mm) / 2


METRIC = SegmentMetric(
    name="mean_surface_distance",
    title="Mean average surface distance",
    unit="mm",
    best=0.0,
    higher_is_better=False,
    symmetric=True,
    empty="In neither: undefined. In one only: the diagonal of the image, the largest distance it can hold.",
    value=mean_surface_distance,
    worst=diagonal_mm,
)
