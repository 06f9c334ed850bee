"""Lesions are matched one to one."""

from __future__ import annotations

import numpy as np
import pytest
from voxfleet.benchmarks.lesions import Match, label_lesions, match_lesions
from voxfleet.benchmarks.mask_pair import Grid, MaskPair
from voxfleet.benchmarks.metrics.detection_f1 import detection_f1, pooled_f1

GRID = Grid((3, 3, 30), (1.0, 1.0, 1.0))


def rows(*spans: tuple[int, int]) -> np.ndarray:
    """Lesions along one row."""
    mask = np.zeros(GRID.shape, bool)
    for start, stop in spans:
        mask[1, 1, start:stop] = True
    return mask


def test_matches_by_hand():
    """Of three lesions one is found (2 of 5 voxels), one hardly touched (1 of 11), one missed; one is made up."""
    pair = MaskPair(rows((0, 4), (6, 12), (20, 23)), rows((2, 5), (11, 17), (26, 28)), GRID)
    found = match_lesions(pair)
    assert (found.reference, found.prediction) == (3, 3)
    # IoU 2 / 5 of the first, 1 / 11 of the second, which is under 0.1.
    assert found.matches == (Match(1, 1, 2 / 5),)
    assert (found.hits, found.reference, found.prediction) == (1, 3, 3)
    assert detection_f1(pair) == pytest.approx(2 / 6)
    assert match_lesions(pair, least_iou=1 / 11).hits == 2
    assert match_lesions(pair, least_iou=0.5).hits == 0


def test_one_blob_finds_one_lesion():
    """A candidate over two lesions counts once, for the one that it covers best."""
    pair = MaskPair(rows((0, 4), (5, 11)), rows((0, 11)), GRID)
    assert match_lesions(pair).matches == (Match(2, 1, 6 / 11),)


def test_the_most_overlap_in_sum():
    """A candidate leaves the lesion that it covers best to one that has no other.

    Candidate 4-10 shares 3 of 13 voxels with lesion 7-17 and 2 of 8 with lesion 2-6, candidate
    0-3 only 1 of 6 with the latter: 3/13 + 1/6 is more than 2/8 alone.
    """
    pair = MaskPair(rows((2, 6), (7, 17)), rows((0, 3), (4, 10)), GRID)
    assert match_lesions(pair).matches == (Match(1, 1, 1 / 6), Match(2, 2, 3 / 13))


def test_corners_join():
    """Voxels that touch at a corner are one lesion."""
    mask = np.zeros((2, 2, 2), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = True
    assert label_lesions(mask).max() == 1


def test_series_are_pooled():
    """Lesions of all series count alike: one hit of two and two of two are 2 * 3 / 8."""
    one = match_lesions(MaskPair(rows((0, 4), (6, 9)), rows((0, 4), (12, 15)), GRID))
    other = match_lesions(MaskPair(rows((0, 4), (6, 9)), rows((0, 4), (6, 9)), GRID))
    assert pooled_f1([one, other]) == pytest.approx(2 * 3 / 8)


def test_nothing_on_either_side():
    """Masks cut to no voxel have no lesions."""
    nothing = np.zeros((0, 0, 0), bool)
    found = match_lesions(MaskPair(nothing, nothing, GRID))
    assert (found.reference, found.prediction, found.matches) == (0, 0, ())
