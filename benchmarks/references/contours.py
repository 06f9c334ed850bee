"""Contours filled slice by slice, and what makes a contour's filling uncertain."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from ... import Error
from .errors import OutsideImage
from .packed_mask import PackedMask, nothing, pack
from .polygon import SMALLEST_AREA, Turns, area, turns
from .reference import Remark

ON_SLICE = 0.05
"""A contour that lies within this part of the slices' distance from a slice lies on it."""


class ContourFault(Error):
    """Base of what is wrong with one contour; a structure that has one is left out and told of."""

    code = "CONTOUR_FAULT"

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(where, reason)

    def __str__(self) -> str:
        return f"{self.args[0]}: {self.args[1]}"

    def remark(self, structure: str) -> Remark:
        """Remark that the structure is left out."""
        return Remark(self.code, structure, str(self), left_out=True)


class SelfCrossingContour(ContourFault):
    """A contour that crosses itself, so that some pixels are in or out by the rule one reads it with."""

    code = "SELF_CROSSING_CONTOUR"


class OverlappingContours(ContourFault):
    """Contours of one structure on one plane that share a part: united or less the part, nobody tells."""

    code = "OVERLAPPING_CONTOURS"


class NonPlanarContour(ContourFault):
    """A closed contour whose points do not lie on one plane."""

    code = "NON_PLANAR_CONTOUR"


class ZeroAreaContour(ContourFault):
    """A contour that has no area."""

    code = "ZERO_AREA_CONTOUR"


def filled(where: str, polygon: NDArray[np.float64]) -> Turns:
    """Pixels of one contour.

    Parameters
    ----------
    where : str
        Named by the errors, e.g. ``contour 3 on slice 12``.
    polygon : ndarray, shape (n, 2)
        Continuous (row, column), pixel centres at whole numbers.

    Raises
    ------
    ZeroAreaContour
        If it has no area.
    SelfCrossingContour
        If it turns round a pixel twice, or round two pixels in opposite directions.
    """
    if not np.isfinite(polygon).all():
        raise NonPlanarContour(where, "a coordinate is not a number")
    found = turns(polygon)
    if area(polygon) < SMALLEST_AREA and not found.inside.any():
        raise ZeroAreaContour(where, f"its {len(polygon)} points enclose no area")
    if not found.simple:
        raise SelfCrossingContour(where, "it crosses itself round pixel centres: draw it anew, or as two contours")
    return found


def nested(where: str, contours: Sequence[Turns]) -> list[Turns]:
    """Contours of one plane, of which any two lie apart or one within the other.

    Raises
    ------
    OverlappingContours
        If two share a part of both.
    """
    kept = list(contours)
    for n, one in enumerate(kept):
        for other in kept[n + 1 :]:
            both = shared(one, other)
            if both and both not in (np.count_nonzero(one.counts), np.count_nonzero(other.counts)):
                raise OverlappingContours(where, f"two contours share {both} pixels, and neither holds the other")
    return kept


def shared(one: Turns, other: Turns) -> int:
    """Pixels that are in both."""
    low = np.maximum(one.start, other.start)
    high = np.minimum(np.add(one.start, one.counts.shape), np.add(other.start, other.counts.shape))
    if (high <= low).any():
        return 0
    a, b = (
        each.inside[low[0] - each.start[0] : high[0] - each.start[0], low[1] - each.start[1] : high[1] - each.start[1]]
        for each in (one, other)
    )
    return int(np.count_nonzero(a & b))


def exclusive(contours: Iterable[Turns]) -> Turns:
    """Pixels that lie in an odd number of contours: what lies in another is a hole in it."""
    given = list(contours)
    low = np.min([each.start for each in given], axis=0)
    high = np.max([np.add(each.start, each.counts.shape) for each in given], axis=0)
    counts = np.zeros(high - low, np.int16)
    for each in given:
        row, column = np.subtract(each.start, low)
        counts[row : row + each.counts.shape[0], column : column + each.counts.shape[1]] ^= each.inside
    return Turns((int(low[0]), int(low[1])), counts)


def stacked(source: str, name: str, planes: Iterable[tuple[int, Turns]], shape: tuple[int, int, int]) -> PackedMask:
    """Mask of pixels on slices; what lies on one slice twice is taken together.

    Parameters
    ----------
    planes : iterable of (int, Turns)
        Slice k, and pixels of it.
    shape : tuple of int
        Of the grid, (k, j, i).

    Raises
    ------
    OutsideImage
        If pixels lie beyond the image, or a slice does.
    """
    given = [(k, each) for k, each in planes if each.inside.any()]
    if not given:
        return nothing(shape)
    inside = [(k, *_cut(source, name, each, shape)) for k, each in given]
    if outside := [k for k, _, _ in inside if not 0 <= k < shape[0]]:
        raise OutsideImage(source, f"{name} lies on {len(set(outside))} slices that the image does not have")
    first = min(k for k, _, _ in inside)
    low = np.min([start for _, start, _ in inside], axis=0)
    high = np.max([np.add(start, part.shape) for _, start, part in inside], axis=0)
    array = np.zeros((max(k for k, _, _ in inside) - first + 1, *(high - low)), np.bool_)
    for k, start, part in inside:
        row, column = np.subtract(start, low)
        array[k - first, row : row + part.shape[0], column : column + part.shape[1]] |= part
    return pack(array, shape, (first, int(low[0]), int(low[1])))


def _cut(
    source: str, name: str, plane: Turns, shape: tuple[int, int, int]
) -> tuple[tuple[int, int], NDArray[np.bool_]]:
    """Box of a plane's pixels, all of which lie within the image."""
    mask = plane.inside
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    start = (plane.start[0] + int(rows[0]), plane.start[1] + int(columns[0]))
    part = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    if min(start) < 0 or start[0] + part.shape[0] > shape[1] or start[1] + part.shape[1] > shape[2]:
        raise OutsideImage(source, f"{name} reaches beyond the edge of the image's slices")
    return start, part


def slices_of_planes(planes: list[float], slab: float | None, slices: int) -> list[tuple[int, float]]:
    """Slices that each plane of contours fills.

    Parameters
    ----------
    planes : list of float
        Places of the planes in distances of the image's slices, ascending.
    slab : float or None
        Thickness that a contour stands for, if it is told; else the planes' smallest distance.
    slices : int
        Of the image.

    Returns
    -------
    list of (int, float)
        Slice k and its plane. Where all planes lie on slices, these and no others.
    """
    if all(abs(k - round(k)) <= ON_SLICE for k in planes):
        return [(round(k), k) for k in planes]
    gaps = np.diff(planes)
    half = (slab or (float(gaps.min()) if gaps.size else 1.0)) / 2
    chosen = []
    for k in range(int(np.floor(planes[0] - half)), int(np.ceil(planes[-1] + half)) + 1):
        nearest = min(planes, key=lambda plane: (abs(plane - k), plane))
        if 0 <= k < slices and -half < k - nearest <= half:
            chosen.append((k, nearest))
    beyond = [plane for plane in planes if abs(plane - (slices - 1) / 2) > slices / 2]
    return chosen + [(round(plane), plane) for plane in beyond]
