"""Metrics worked out on paper, on grids of uneven spacing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from voxfleet.benchmarks.mask_pair import Grid, MaskPair
from voxfleet.benchmarks.metrics.catalogue import segment_metrics
from voxfleet.benchmarks.metrics.surface_dice import surface_dice

SPACING_MM = (5.0, 2.0, 0.5)
GRID = Grid((10, 10, 20), SPACING_MM)


def box(*sides: tuple[int, int]) -> np.ndarray:
    """Voxels of a box, from (k, j, i) to (k, j, i), ends excluded."""
    mask = np.zeros(GRID.shape, bool)
    mask[tuple(slice(*side) for side in sides)] = True
    return mask


def values(reference: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
    """All metrics."""
    pair = MaskPair(reference, prediction, GRID)
    return {metric.name: metric.value(pair) for metric in segment_metrics()}


def test_overlaps_and_volumes():
    """Two boxes of 4 and 6 voxels that share 2; a voxel has 5 mm x 2 mm x 0.5 mm = 5 mm3."""
    actual = values(box((2, 3), (2, 4), (2, 4)), box((2, 3), (3, 4), (2, 8)))
    expected = {
        "dice": 2 * 2 / (4 + 6),
        "iou": 2 / 8,
        "sensitivity": 2 / 4,
        "precision": 2 / 6,
        "volume_difference": (6 - 4) * 0.005,
        "absolute_volume_difference": 0.010,
        "relative_volume_difference": 50.0,
        # Centroids (2, 2.5, 2.5) and (2, 3, 4.5): 0.5 rows of 2 mm and 2 columns of 0.5 mm.
        "centroid_distance": math.hypot(0.5 * 2, 2 * 0.5),
    }
    assert {name: actual[name] for name in expected} == pytest.approx(expected)


@pytest.mark.parametrize(("axis", "step_mm"), [(0, 5.0), (1, 2.0), (2, 0.5)])
def test_two_voxels_apart(axis, step_mm):
    """One voxel and one three further on.

    A voxel has eight surface elements of one area, at its corners. Those at -1/2 are three
    steps from the nearest of the other, those at +1/2 two: half of the area lies at 3 steps
    and half at 2, from either side.
    """
    place, further = [2, 2, 2], [2, 2, 2]
    further[axis] += 3
    one, other = (box(*((at, at + 1) for at in where)) for where in (place, further))
    actual = values(one, other)
    assert actual["mean_surface_distance"] == pytest.approx(2.5 * step_mm)
    assert actual["hausdorff95"] == pytest.approx(3 * step_mm)
    assert actual["centroid_distance"] == pytest.approx(3 * step_mm)
    pair = MaskPair(one, other, GRID)
    for tolerance_mm, expected in ((1.99, 0.0), (2.0, 0.5), (2.99, 0.5), (3.0, 1.0)):
        assert surface_dice(pair, tolerance_mm * step_mm) == pytest.approx(expected)


def test_area_counts_not_elements():
    """A plate of one slice against itself and the slice above: elements weigh by area.

    Reference 4 x 6 voxels of one slice, prediction of that and the next. The elements of an
    inner corner lie in the plane and have a whole face, 2 mm x 0.5 mm = 1 mm2; on an edge
    and at a corner marching cubes cut slantwise. All of the reference's lower side is at 0,
    its upper side at 5 mm from the prediction's upper side, but on the rim the prediction has
    an element at the very place (its own side wall), at distance 0.
    Upper inner elements: 3 x 5 of 1 mm2, 5 mm from the prediction's top and less than that from
    its rim: the row next to the rim is 2 mm away in j, the columns 0.5, 1, 1.5 mm in i.
    """
    reference, prediction = box((2, 3), (2, 6), (2, 8)), box((2, 4), (2, 6), (2, 8))
    pair = MaskPair(reference, prediction, GRID)
    side = pair.distances.from_reference
    # Inner rows are 1, 2, 1 steps of 2 mm from the rim, inner columns 1, 2, 3, 2, 1 steps of 0.5 mm.
    expected = sorted(min(2.0 * row, 0.5 * column) for row in (1, 2, 1) for column in (1, 2, 3, 2, 1))
    far = side.distance_mm > 0
    assert sorted(side.distance_mm[far]) == pytest.approx(expected)
    assert side.area_mm2[far] == pytest.approx(np.ones(15))


def test_distance_that_equals_the_tolerance_is_within():
    """Three steps of 0.1 mm are within 0.3 mm, though 3 x 0.1 exceeds 0.3 in binary fractions."""
    grid = Grid((3, 3, 8), (1.0, 1.0, 0.1))
    one, other = np.zeros(grid.shape, bool), np.zeros(grid.shape, bool)
    one[1, 1, 1] = other[1, 1, 4] = True
    assert 3 * 0.1 > 0.3
    assert surface_dice(MaskPair(one, other, grid), 0.3) == 1.0


def test_cut_off_structure_is_closed():
    """A structure that fills the image has an outline where the image ends."""
    grid = Grid((2, 2, 2), (1.0, 1.0, 1.0))
    whole = np.ones(grid.shape, bool)
    half = whole.copy()
    half[1] = False
    # The lower half's upper elements lie at corner 1, the whole's at 2: at most one step apart.
    pair = MaskPair(whole, half, grid)
    assert max(pair.distances.from_reference.distance_mm) == 1.0
