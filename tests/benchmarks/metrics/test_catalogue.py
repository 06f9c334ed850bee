"""The catalogue is the folder, and each metric keeps what it declares."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from voxfleet.benchmarks import metrics
from voxfleet.benchmarks.mask_pair import Grid, MaskPair
from voxfleet.benchmarks.metrics.catalogue import UnknownMetric, lesion_metrics, metric_named, segment_metrics

LABELS = {"accuracy", "cohen_kappa", "confusion_matrix", "fleiss_kappa"}
"""Files of metrics of labels."""
CURVES = {"froc"}
GRID = Grid((4, 5, 6), (2.0, 1.0, 0.5))
DIAGONAL_MM = math.sqrt(8**2 + 5**2 + 3**2)
ALL = (*segment_metrics(), *lesion_metrics())

# For each: in neither, missed (three voxels of 1 mm3), made up (three voxels).
EMPTY = {
    "dice": (math.nan, 0, 0),
    "iou": (math.nan, 0, 0),
    "sensitivity": (math.nan, 0, math.nan),
    "precision": (math.nan, 0, 0),
    "surface_dice_1mm": (math.nan, 0, 0),
    "surface_dice_2mm": (math.nan, 0, 0),
    "surface_dice_3mm": (math.nan, 0, 0),
    "hausdorff95": (math.nan, DIAGONAL_MM, DIAGONAL_MM),
    "mean_surface_distance": (math.nan, DIAGONAL_MM, DIAGONAL_MM),
    "volume_difference": (math.nan, -0.003, 0.003),
    "absolute_volume_difference": (math.nan, 0.003, 0.003),
    "relative_volume_difference": (math.nan, -100, 100),
    "centroid_distance": (math.nan, DIAGONAL_MM, DIAGONAL_MM),
    "detection_f1": (math.nan, 0, 0),
}


def pair(reference: int, prediction: int) -> MaskPair:
    """So many voxels in a row of either side."""
    masks = [np.zeros(GRID.shape, bool) for _ in range(2)]
    masks[0][1, 1, :reference] = True
    masks[1][1, 1, :prediction] = True
    return MaskPair(masks[0], masks[1], GRID)


def test_each_file_is_a_metric_of_the_catalogue():
    """Files of the folder are those of the catalogue's metrics, of labels and of curves."""
    files = {path.stem for path in Path(metrics.__path__[0]).glob("*.py")} - {"__init__", "catalogue"}
    named = {"surface_dice" if metric.name.startswith("surface_dice") else metric.name for metric in ALL}
    of_volume = {"absolute_volume_difference", "relative_volume_difference"}
    assert files == (named - of_volume) | LABELS | CURVES


def test_doc_tells_each_rule():
    """METRICS.md has a line for each metric with its unit and its rule for empty masks."""
    lines = (Path(metrics.__path__[0]).parent / "METRICS.md").read_text().splitlines()
    told = [line for line in lines if line.startswith("| `")]
    assert told == [f"| `{each.name}` | {each.title} | {each.unit} | {each.empty} |" for each in ALL]


def test_names_are_unique_and_lead_back():
    """Every metric is found by its name, the surface Dice at any tolerance too."""
    assert len({metric.name for metric in ALL}) == len(ALL)
    for metric in (*ALL, *segment_metrics([0.5])):
        found = metric_named(metric.name)
        assert (found.name, found.unit, found.best) == (metric.name, metric.unit, metric.best)
    with pytest.raises(UnknownMetric, match="no metric is called 'dise': take one of dice, iou"):
        metric_named("dise")


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.name)
def test_empty_masks(metric):
    """Each metric gives what its rule says for empty masks, and never an infinite value."""
    expected = EMPTY[metric.name]
    actual = [metric.value(pair(*sizes)) for sizes in ((0, 0), (3, 0), (0, 3))]
    assert actual == pytest.approx(expected, nan_ok=True)
    assert metric.empty


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.name)
def test_failure_is_worst(metric):
    """A failed series counts as an empty prediction where there was something to find, and as a number always."""
    assert metric.worst(pair(3, 0)) == pytest.approx(metric.value(pair(3, 0)))
    assert not math.isnan(metric.worst(pair(0, 0)))


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.name)
def test_perfect_is_best(metric):
    """A prediction that is the reference gets the best value."""
    assert metric.value(pair(3, 3)) == metric.best


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.name)
def test_symmetric_as_declared(metric):
    """Reference and prediction may change places in symmetric metrics and in no others."""
    generator = np.random.default_rng(3)
    one, other = (generator.random(GRID.shape) < share for share in (0.3, 0.4))
    there, back = metric.value(MaskPair(one, other, GRID)), metric.value(MaskPair(other, one, GRID))
    assert (there == pytest.approx(back, rel=1e-12)) == metric.symmetric
