"""Pixels that polygons turn round."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from voxfleet.benchmarks.references.contours import (
    OverlappingContours,
    SelfCrossingContour,
    ZeroAreaContour,
    exclusive,
    filled,
    nested,
)
from voxfleet.benchmarks.references.polygon import Turns, area, ellipse, turns, turns_round

SHAPE = (40, 40)


def mask_of(found: Turns) -> np.ndarray:
    """Pixels on a whole image."""
    mask = np.zeros(SHAPE, bool)
    rows, columns = found.counts.shape
    mask[found.start[0] : found.start[0] + rows, found.start[1] : found.start[1] + columns] = found.inside
    return mask


def square(low: float, high: float) -> np.ndarray:
    """Square from corner to corner, drawn clockwise."""
    return np.array([[low, low], [low, high], [high, high], [high, low]])


STAR = st.lists(st.tuples(st.floats(0, 2 * np.pi), st.floats(2, 18)), min_size=3, max_size=40, unique_by=lambda p: p[0])


@given(STAR)
@settings(max_examples=60, deadline=None)
def test_pixels_are_those_of_scikit_image(corners: list[tuple[float, float]]) -> None:
    """Any simple polygon has the pixels that skimage.draw gives it, bar those whose centre is on the line."""
    draw = pytest.importorskip("skimage.draw")
    corners = sorted(corners)
    polygon = np.array([[19.7 + r * np.sin(angle), 20.3 + r * np.cos(angle)] for angle, r in corners])
    ours, theirs = mask_of(turns(polygon)), draw.polygon2mask(SHAPE, polygon)
    assert _on_no_line(polygon, np.argwhere(ours != theirs)) == 0


def _on_no_line(polygon: np.ndarray, pixels: np.ndarray) -> int:
    """Pixels farther than the rounding of vertices from every edge."""
    away = 0
    for pixel in pixels:
        start, step = polygon, np.roll(polygon, -1, axis=0) - polygon
        length = np.maximum((step**2).sum(axis=1), 1e-30)
        t = np.clip(((pixel - start) * step).sum(axis=1) / length, 0, 1)
        away += np.linalg.norm(start + t[:, None] * step - pixel, axis=1).min() > 1e-5
    return away


@given(STAR)
@settings(max_examples=40, deadline=None)
def test_rows_and_points_agree(corners: list[tuple[float, float]]) -> None:
    """Filling row by row and asking each point give the same."""
    polygon = np.array([[19.7 + r * np.sin(angle), 20.3 + r * np.cos(angle)] for angle, r in sorted(corners)])
    points = np.argwhere(np.ones(SHAPE)).astype(float)
    assert np.array_equal(mask_of(turns(polygon)), turns_round(polygon, points).reshape(SHAPE) != 0)


def test_shared_edges_share_no_pixel() -> None:
    """Two squares side by side through pixel centres fill each pixel once: 3 x 3 and 3 x 3 of 3 x 6."""
    left = mask_of(turns(np.array([[1, 1], [1, 4], [4, 4], [4, 1]], float)))
    right = mask_of(turns(np.array([[1, 4], [1, 7], [4, 7], [4, 4]], float)))
    assert (left.sum(), right.sum(), (left & right).sum()) == (9, 9, 0)


def test_area_by_hand() -> None:
    """A square of side 3 has area 9, whichever way it is drawn; two points have none."""
    assert area(square(1, 4)) == area(square(1, 4)[::-1]) == 9
    assert area(np.array([[0.0, 0.0], [5.0, 5.0]])) == 0


def test_keyhole_is_a_hole() -> None:
    """A keyhole's channel is walked twice: 10 x 10 pixels less 3 x 3."""
    keyhole = [[0, 0], [0, 10], [10, 10], [10, 0], [0, 0], [3, 3], [6, 3], [6, 6], [3, 6], [3, 3]]
    assert mask_of(filled("keyhole", np.array(keyhole) + 0.5)).sum() == 100 - 9


def test_nested_contours_are_holes() -> None:
    """A square in a square is a hole, and a third one in it an island: 100 - 36 + 4."""
    drawn = nested("plane", [filled("c", square(a, b)) for a, b in ((0.5, 10.5), (2.5, 8.5), (4.5, 6.5))])
    assert mask_of(exclusive(drawn)).sum() == 100 - 36 + 4


def test_overlap_in_part_is_refused() -> None:
    """Two contours of which neither holds the other are read in two ways, so in none."""
    with pytest.raises(OverlappingContours, match="share 4 pixels") as caught:
        nested("plane", [filled("c", square(0.5, 5.5)), filled("c", square(3.5, 9.5))])
    assert caught.value.code == "OVERLAPPING_CONTOURS"


def test_self_crossing_is_refused() -> None:
    """A figure of eight is no outline."""
    with pytest.raises(SelfCrossingContour) as caught:
        filled("contour 1", np.array([[0, 0], [9, 9], [9, 0], [0, 9]], float))
    assert caught.value.code == "SELF_CROSSING_CONTOUR"


def test_crossing_between_pixels_is_none() -> None:
    """A loop of the pen that holds no pixel's centre changes nothing."""
    loop = [[0.5, 0.5], [0.5, 8.5], [8.5, 8.5], [8.5, 0.5], [0.6, 0.5], [0.6, 0.6], [0.7, 0.4]]
    assert mask_of(filled("contour 1", np.array(loop))).sum() == 64


@pytest.mark.parametrize("points", [[[1, 1]], [[1, 1], [5, 5]], [[1, 1], [3, 3], [5, 5]], [[1, 1], [1, 9], [1, 4]]])
def test_no_area_is_refused(points: list[list[float]]) -> None:
    """Points on a line enclose nothing."""
    with pytest.raises(ZeroAreaContour) as caught:
        filled("contour 1", np.array(points, float))
    assert caught.value.code == "ZERO_AREA_CONTOUR"


def test_circle_by_hand() -> None:
    """A circle of radius 2 round a pixel holds 13 centres: 1 + 4 (1) + 4 (1.41) + 4 (2)."""
    assert np.count_nonzero(ellipse((10.0, 10.0), (2.0, 0.0), (0.0, 2.0)).counts) == 13
