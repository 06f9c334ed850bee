"""All metrics, by name."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ... import Error
from ..metric import SegmentMetric
from . import (
    centroid_distance,
    detection_f1,
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

_SURFACE_DICE = re.compile(r"surface_dice_([0-9.]+)mm")


class UnknownMetric(Error):
    """A metric's name that the catalogue does not hold."""

    code = "UNKNOWN_METRIC"

    def __init__(self, name: str) -> None:
        super().__init__(name)

    def __str__(self) -> str:
        return f"no metric is called {self.args[0]!r}: take one of {', '.join(each.name for each in segment_metrics())}"


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


def lesion_metrics() -> tuple[SegmentMetric, ...]:
    """Metrics of a structure that comes in several parts, such as nodules or metastases."""
    return (detection_f1.METRIC,)


def metric_named(name: str) -> SegmentMetric:
    """The metric of a name, the surface Dice at any tolerance included.

    Raises
    ------
    UnknownMetric
        If there is none.
    """
    at = _SURFACE_DICE.fullmatch(name)
    for metric in (*segment_metrics((float(at[1]),) if at else ()), *lesion_metrics()):
        if metric.name == name:
            return metric
    raise UnknownMetric(name)
