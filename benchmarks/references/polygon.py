"""Polygons on a grid of pixels: which pixel centres a contour turns round.

The rule is exact: a pixel belongs to a polygon if its centre lies inside; a centre on the line belongs
if the line is a left or upper edge, so that polygons that share an edge share no pixel and miss none.
(rt-utils rounds vertices to whole pixels before it fills, which moves outlines by up to half a voxel;
`skimage.draw.polygon2mask` keeps to this rule.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

VERTEX_DECIMALS = 6
"""Vertices are taken to this many decimals of a pixel, so that the noise of a matrix decides nothing."""
SMALLEST_AREA = 1e-6
"""A polygon of less than this many pixels has no area: its points lie on a line."""
_CORNERS = 3


@dataclass(frozen=True, slots=True, eq=False)
class Turns:
    """How often a polygon turns round each pixel centre of a part of the plane.

    Attributes
    ----------
    start : tuple of int
        Row and column of the part's first pixel, which may be negative.
    counts : ndarray of int16, shape (rows, columns)
        0 outside; 1 or -1 inside, by the direction in which it was drawn; other values only where the
        polygon crosses itself.
    """

    start: tuple[int, int]
    counts: NDArray[np.int16]

    @property
    def inside(self) -> NDArray[np.bool_]:
        """Pixels that the polygon turns round."""
        return np.not_equal(self.counts, 0)

    @property
    def simple(self) -> bool:
        """Whether no pixel depends on how crossings are read: all turns are of one direction, once."""
        low, high = int(self.counts.min(initial=0)), int(self.counts.max(initial=0))
        return (low, high) in {(0, 0), (0, 1), (-1, 0)}


def area(polygon: NDArray[np.float64]) -> float:
    """Area of a polygon (n, 2) without sign, in its own unit squared (shoelace formula)."""
    if len(polygon) < _CORNERS:
        return 0.0
    rows, columns = (polygon - polygon.mean(axis=0)).T
    return float(abs(np.dot(rows, np.roll(columns, -1)) - np.dot(columns, np.roll(rows, -1))) / 2)


def turns(polygon: NDArray[np.float64]) -> Turns:
    """Turns round all pixel centres within a polygon's reach.

    Parameters
    ----------
    polygon : ndarray, shape (n, 2)
        Vertices as continuous (row, column), pixel centres at whole numbers; closed from last to first.
    """
    vertices = np.round(polygon, VERTEX_DECIMALS)
    low, high = np.ceil(vertices.min(axis=0)).astype(int), np.floor(vertices.max(axis=0)).astype(int)
    shape = np.maximum(high - low + 1, 0)
    ends = np.roll(vertices, -1, axis=0)
    first = np.ceil(np.minimum(vertices[:, 0], ends[:, 0])).astype(int)
    heights = np.ceil(np.maximum(vertices[:, 0], ends[:, 0])).astype(int) - first
    edge = np.repeat(np.arange(len(vertices)), heights)
    rows = np.arange(len(edge)) - np.repeat(np.cumsum(heights) - heights, heights) + first[edge]
    step = ends - vertices
    at = vertices[edge, 1] + (rows - vertices[edge, 0]) * step[edge, 1] / step[edge, 0]
    columns = np.ceil(np.round(at, VERTEX_DECIMALS)).astype(int) - low[1]
    crossings = np.zeros((shape[0], shape[1] + 1), np.int16)
    np.add.at(crossings, (rows - low[0], columns), np.where(step[edge, 0] > 0, 1, -1))
    counts = np.cumsum(crossings[:, :-1], axis=1, dtype=np.int16)
    return Turns((int(low[0]), int(low[1])), counts)


def turns_round(polygon: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.int16]:
    """Turns of a polygon (n, 2) round any points (m, 2) of its plane, by the same rule as `turns`."""
    vertices = np.round(polygon, VERTEX_DECIMALS)
    points = np.round(points, VERTEX_DECIMALS)
    counts = np.zeros(len(points), np.int16)
    for (row, column), (next_row, next_column) in zip(vertices, np.roll(vertices, -1, axis=0), strict=True):
        if row == next_row:
            continue
        passed = (points[:, 0] >= min(row, next_row)) & (points[:, 0] < max(row, next_row))
        at = column + (points[passed, 0] - row) * ((next_column - column) / (next_row - row))
        right = np.flatnonzero(passed)[points[passed, 1] >= np.round(at, VERTEX_DECIMALS)]
        counts[right] += 1 if next_row > row else -1
    return counts


def ellipse(centre: tuple[float, float], one: tuple[float, float], other: tuple[float, float]) -> Turns:
    """Pixels whose centres lie within an ellipse.

    Parameters
    ----------
    centre : tuple of float
        Row and column, pixel centres at whole numbers.
    one, other : tuple of float
        The half axes, from the centre, at right angles to each other.
    """
    axes = np.array([one, other], float)
    reach = np.sqrt((axes**2).sum(axis=0))
    low = np.ceil(np.array(centre) - reach).astype(int)
    high = np.maximum(np.floor(np.array(centre) + reach).astype(int), low - 1)
    rows, columns = np.mgrid[low[0] : high[0] + 1, low[1] : high[1] + 1]
    off = np.stack([rows - centre[0], columns - centre[1]], axis=-1)
    along = off @ axes.T / (axes**2).sum(axis=1)
    return Turns((int(low[0]), int(low[1])), ((along**2).sum(axis=-1) <= 1).astype(np.int16))
