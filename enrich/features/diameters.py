"""Largest distances between the vertices of a segment's mesh, without comparing them all.

A vertex lies halfway between two neighbouring voxels of which one belongs to the segment, so
that vertices lie on lines of a grid of half voxels, and only the two ends of each
line matter. Of these, those that lie between their neighbours in a plane are no corners
of the convex hull and fall away. What is left is held against bounds from its widths in
a few directions, and only planes that can still win are compared point by point.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull

EMPTY = -1
"""Of a line without a vertex."""
DIRECTIONS = 16
"""In which the widths of planes are taken; their maximum is within 0.5 % of the diameter."""
SLACK = 1 / math.cos(math.pi / (2 * DIRECTIONS))
"""No diameter exceeds the largest of those widths by more than this factor."""
SMALL = 256
"""Points that are compared directly rather than by their hull."""
THINNED_ENOUGH = 0.9
"""Thinning ends when a round leaves more than this share of the points."""

Ints = NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class LineEnds:
    """Lines of vertices of one segment, dense over its bounding box, in half voxels.

    Attributes
    ----------
    low, high : ndarray of int32, shape (planes, lines)
        First and last vertex of each line, ``EMPTY`` where there is none.
    """

    low: Ints
    high: Ints


@dataclass(frozen=True, slots=True, eq=False)
class Lines:
    """All mesh vertices of one segment that are ends of lines.

    Attributes
    ----------
    along_i : LineEnds
        Indexed (k, j).
    along_j : LineEnds
        Indexed (k, i).
    lowest_corner : tuple of int
        First voxel (k, j, i) of the bounding box.
    """

    along_i: LineEnds
    along_j: LineEnds
    lowest_corner: tuple[int, int, int]

    @property
    def extent(self) -> tuple[int, int, int]:
        """Voxels of the bounding box, (k, j, i); vertices stand half a voxel outside it."""
        planes, rows = self.along_i.low.shape
        return planes // 2, rows // 2, self.along_j.low.shape[1] // 2


@dataclass(slots=True)
class LineCollector:
    """Ends of lines as they are found, for all segments, as columns of (number, k, line, low, high)."""

    along_i: list[NDArray[np.int32]] = field(default_factory=list)
    along_j: list[NDArray[np.int32]] = field(default_factory=list)

    def add(
        self,
        sides: NDArray[np.unsignedinteger],
        position: tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]],
        axis: int,
        first: int,
        shape: tuple[int, int, int],
    ) -> None:
        """Keep the ends of the lines that these vertices lie on.

        Parameters
        ----------
        sides : ndarray, shape (n, 2)
            Numbers before and behind each vertex.
        position : tuple of ndarray
            (k, j, i) of the voxel before it, in raster order.
        axis : int
            0, 1 or 2: along k, j or i.
        first : int
            Slice that ``position`` begins in.
        shape : tuple of int
            Slices, rows and columns that it spans.
        """
        number = sides.ravel()
        inside = np.flatnonzero(number)
        number = number[inside].astype(np.intp)
        k, j, i = (index[inside // 2] for index in position)
        half = [0, 0, 0]
        half[axis] = 1
        for kept, line, along, size, line_half, along_half in (
            (self.along_i, j, i, shape[1], half[1], half[2]),
            (self.along_j, i, j, shape[2], half[2], half[1]),
        ):
            key = (number * shape[0] + (k - first)) * size + line
            found, low, high = _ends(key, along)
            plane, line_found = np.divmod(found, size)
            number_found, k_found = np.divmod(plane, shape[0])
            columns = (
                number_found,
                2 * (k_found + first) + half[0],
                2 * line_found + line_half,
                2 * low + along_half,
                2 * high + along_half,
            )
            kept.append(np.stack(columns).astype(np.int32))

    def by_number(self) -> Iterator[tuple[int, Lines]]:
        """The lines of each segment found, ascending."""
        if not self.along_i:
            return
        along_i, along_j = _sorted(self.along_i), _sorted(self.along_j)
        for number in np.unique(along_i[0]):
            rows, columns = (_of_number(table, number) for table in (along_i, along_j))
            corner = [int(rows[0].min()), int(rows[1].min()), int(rows[2].min())]
            yield (
                int(number),
                Lines(_dense(*rows), _dense(*columns), (corner[0] // 2 + 1, corner[1] // 2 + 1, corner[2] // 2 + 1)),
            )


def _ends(key: NDArray[np.intp], along: NDArray[np.intp]) -> tuple[NDArray[np.intp], Ints, Ints]:
    """Each key once, with the first and the last position it occurs at; positions ascend in each key."""
    low = np.full(int(key.max(initial=-1)) + 1, EMPTY, np.int32)
    high = np.empty(len(low), np.int32)
    low[key[::-1]] = along[::-1]
    high[key] = along
    found = np.flatnonzero(low != EMPTY)
    return found, low[found], high[found]


def _sorted(parts: list[NDArray[np.int32]]) -> NDArray[np.int32]:
    table = np.concatenate(parts, axis=1)
    parts.clear()
    return table[:, np.argsort(table[0].astype(np.uint16), kind="stable")]


def _of_number(table: NDArray[np.int32], number: int) -> NDArray[np.int32]:
    first, last = np.searchsorted(table[0], [number, number + 1])
    return table[1:, first:last]


def _dense(plane: Ints, line: Ints, low: Ints, high: Ints) -> LineEnds:
    plane, line = plane - plane.min(), line - line.min()
    shape = (int(plane.max()) + 1, int(line.max()) + 1)
    ends = LineEnds(np.full(shape, EMPTY, np.int32), np.full(shape, EMPTY, np.int32))
    ends.low[plane, line] = low
    ends.high[plane, line] = high
    return ends


def diameters_mm(lines: Lines, spacing_mm: tuple[float, float, float]) -> tuple[float, float, float, float]:
    """Largest distance of two vertices in a slice, in a plane of one row, of one column, and in space.

    Parameters
    ----------
    lines : Lines
        Of one segment.
    spacing_mm : tuple of float
        Between voxel centres, (k, j, i).
    """
    k, j, i = (step / 2 for step in spacing_mm)
    rows, columns = lines.along_i, lines.along_j
    by_slice = _outline(rows.low, rows.high)
    by_row = _outline(rows.low.T, rows.high.T)
    by_column = _outline(columns.low.T, columns.high.T)
    in_slice = _widest_plane(by_slice, j, i)
    in_row_plane = _widest_plane(by_row, k, i)
    in_column_plane = _widest_plane(by_column, k, j)
    corners = by_slice.both(by_row) * np.array([k, j, i])
    in_space = _widest(corners, max(in_slice, in_row_plane, in_column_plane))
    return in_slice, in_row_plane, in_column_plane, in_space


@dataclass(frozen=True, slots=True, eq=False)
class Outline:
    """Ends of lines that may be corners of the convex hull of their plane.

    Attributes
    ----------
    plane, line, end : ndarray of int32
        In half voxels from the bounding box; low ends first, then high ends.
    lows : int
        How many are low ends.
    shape : tuple of int
        Planes and lines that there are.
    """

    plane: Ints
    line: Ints
    end: Ints
    lows: int
    shape: tuple[int, int]

    def both(self, other: Outline) -> NDArray[np.float64]:
        """Points (plane, line, end) of this outline that are in the other too, whose planes are our lines."""
        mask = np.zeros((2, *self.shape), np.bool_)
        side = np.arange(len(other.plane)) >= other.lows
        mask[side.astype(np.intp), other.line, other.plane] = True
        side = np.arange(len(self.plane)) >= self.lows
        chosen = mask[side.astype(np.intp), self.plane, self.line]
        return np.stack([self.plane[chosen], self.line[chosen], self.end[chosen]], axis=1).astype(np.float64)


def _outline(low: Ints, high: Ints) -> Outline:
    """Thinned ends of all planes; rows of the arrays are planes."""
    plane, line = (index.astype(np.int32) for index in np.nonzero(low != EMPTY))
    lows = _thin(plane, line, low[plane, line])
    highs = _thin(plane, line, -high[plane, line])
    parts = [np.concatenate(pair) for pair in zip(lows, (*highs[:2], -highs[2]), strict=True)]
    return Outline(parts[0], parts[1], parts[2], len(lows[0]), (low.shape[0], low.shape[1]))


def _thin(plane: Ints, line: Ints, end: Ints) -> tuple[Ints, Ints, Ints]:
    """Drop ends that lie on or above the straight line between their two neighbours in the plane."""
    while len(plane) > 2:  # noqa: PLR2004
        enclosed = plane[2:] == plane[:-2]
        before, behind = line[1:-1] - line[:-2], line[2:] - line[1:-1]
        enclosed &= (end[1:-1] - end[:-2]) * behind >= (end[2:] - end[1:-1]) * before
        kept = np.ones(len(plane), np.bool_)
        kept[1:-1] = ~enclosed
        count = len(plane)
        plane, line, end = plane[kept], line[kept], end[kept]
        if len(plane) > THINNED_ENOUGH * count:
            break
    return plane, line, end


def _widest_plane(outline: Outline, line_mm: float, end_mm: float) -> float:
    """Largest distance between two points of one plane."""
    order = np.argsort(outline.plane, kind="stable")
    plane = outline.plane[order]
    points = np.stack([outline.line[order] * line_mm, outline.end[order] * end_mm], axis=1)
    starts = np.flatnonzero(np.diff(plane, prepend=-1))
    width = np.zeros(len(starts))
    for angle in np.arange(DIRECTIONS) * (math.pi / DIRECTIONS):
        along = points @ np.array([math.cos(angle), math.sin(angle)])
        np.maximum(width, np.maximum.reduceat(along, starts) - np.minimum.reduceat(along, starts), out=width)
    stops = np.append(starts[1:], len(plane))
    best = 0.0
    for index in np.argsort(-width):
        if width[index] * SLACK <= best:
            break
        best = max(best, _farthest(points[starts[index] : stops[index]]))
    return best


def _widest(points: NDArray[np.float64], at_least: float) -> float:
    """Largest distance between two points in space, known to be no less than a bound."""
    low, high = points.min(axis=0), points.max(axis=0)
    reach = np.maximum(points - low, high - points)
    points = points[(reach * reach).sum(axis=1) >= at_least**2 * (1 - 1e-12)]
    if len(points) > SMALL:
        points = points[ConvexHull(points).vertices]
    return max(at_least, _farthest(points))


def _farthest(points: NDArray[np.float64]) -> float:
    """Largest distance, every point compared with every other."""
    square = np.zeros((len(points), len(points)))
    for axis in points.T:
        square += (axis[:, None] - axis) ** 2
    return math.sqrt(square.max(initial=0.0))
