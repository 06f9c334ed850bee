"""Morphology in millimetres, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from voxfleet.models.rules import morphology as mm
from voxfleet.models.rules.working_grid import block_mean

SPACING = (3.0, 1.0, 2.0)


def point() -> np.ndarray:
    """One voxel in the middle."""
    mask = np.zeros((5, 9, 9), dtype=bool)
    mask[2, 4, 4] = True
    return mask


def test_dilation_reaches_as_far_as_its_radius():
    """A point grown by 3 mm reaches 1 slice of 3 mm, 3 rows of 1 mm and 1 column of 2 mm."""
    k, j, i = np.nonzero(mm.dilation(point(), 3.0, SPACING))
    assert (set(k), set(j), set(i)) == ({1, 2, 3}, set(range(1, 8)), {3, 4, 5})
    # |dk|=0: di=0 has dj -3..3 (7), di=±1 has dj with 1+4<=9: -2..2 (2·5); |dk|=1: the point (2)
    assert len(k) == 7 + 2 * 5 + 2


def test_erosion_undoes_dilation_of_a_point():
    """What a point grew to within 3 mm shrinks back to it when a hair less is taken off."""
    np.testing.assert_array_equal(point(), mm.erosion(mm.dilation(point(), 3.0, SPACING), 2.9, SPACING))


def test_cut_structure_is_not_eaten_from_the_cut():
    """A structure that fills the array has no border."""
    mask = np.ones((3, 4, 5), dtype=bool)
    assert mm.erosion(mask, 10.0, SPACING).all()


def test_opening_removes_sheets_and_keeps_blocks():
    """A ball of 1.5 mm does not fit into a sheet 2 mm thick, and fits into a block of 6 mm."""
    mask = np.zeros((20, 20, 20), dtype=bool)
    mask[3:5] = True
    mask[10:16, 5:11, 5:11] = True
    opened = mm.opening(mask, 1.5, (1.0, 1.0, 1.0))
    assert not opened[3:5].any()
    assert opened[11:15, 6:10, 6:10].all()


def test_closing_bridges_gaps_below_twice_the_radius():
    """A gap of 3 mm is bridged by 2 mm; one of 6 mm is not."""
    mask = np.ones((24, 8, 8), dtype=bool)
    mask[5:8] = False
    mask[14:20] = False
    closed = mm.closing(mask, 2.0, (1.0, 1.0, 1.0))
    assert closed[5:8].all()
    assert not closed[16:18].any()


def test_holes_are_filled_and_ways_out_are_not():
    """An inner hole is filled; a tunnel to the border stays; in a slice a tunnel along k is a hole."""
    mask = np.ones((5, 7, 7), dtype=bool)
    mask[2, 3, 3] = False
    assert mm.fill_holes(mask).all()
    mask[:, 3, 3] = False
    np.testing.assert_array_equal(mask, mm.fill_holes(mask))
    assert mm.fill_axial_holes(mask).all()
    assert not mm.fill_axial_holes(mask, largest=0.5).all()


def test_components_by_size_and_touch():
    """Diagonal neighbours are apart; small ones go; those without a seed go."""
    mask = np.zeros((2, 4, 4), dtype=bool)
    mask[0, 0, 0] = mask[0, 1, 1] = mask[0, 1, 2] = True
    assert mm.sizes(mm.label(mask)).tolist() == [0, 1, 2]
    assert np.count_nonzero(mm.without_small(mask, 2)) == 2
    seeds = np.zeros_like(mask)
    seeds[0, 0, 0] = True
    np.testing.assert_array_equal(seeds, mm.touching(mask, seeds))


def test_empty_masks_stay_empty():
    """No operation makes something of nothing."""
    empty = np.zeros((3, 4, 5), dtype=bool)
    for result in (
        mm.erosion(empty, 2, SPACING),
        mm.dilation(empty, 2, SPACING),
        mm.opening(empty, 2, SPACING),
        mm.closing(empty, 2, SPACING),
        mm.without_small(empty, 0),
        mm.touching(empty, empty),
    ):
        assert not result.any()
    assert mm.bounding_box(empty) is None


@pytest.mark.parametrize(
    ("factors", "expected"),
    [
        ((1, 1, 1), [[0, 1, 2], [10, 11, 12]]),
        ((1, 2, 1), [[5, 6, 7]]),  # (0 + 10) / 2, ...
        ((1, 1, 2), [[0, 2], [10, 12]]),  # (0 + 1) / 2 = 0.5 down to 0; the last block is filled up: (2 + 2) / 2
    ],
)
def test_block_means_by_hand(factors, expected):
    """Means of blocks are those worked out on paper."""
    array = np.array([[[0, 1, 2], [10, 11, 12]]], dtype=np.int16)
    assert block_mean(array, factors).tolist() == [expected]
