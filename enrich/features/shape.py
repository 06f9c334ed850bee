"""Shape features of all segments of a label map in one pass.

A slab of slices at a time, each pair of neighbouring voxels that differ is found once
for all segments. Such a pair is a vertex of the mesh of either side (``diameters``); pairs
along a row begin and end runs, whose second moments give the axes; the cells around them
give corner patterns, whose counts give area and volume (``mesh``). What a voxel costs
does not depend on the number of segments.

Equal to pyradiomics, which works with the spacing alone: how the volume lies in the
patient has no influence.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .diameters import LineCollector, Lines, diameters_mm
from .mesh import CORNERS, PATTERNS, mesh_table

SLAB_VOXELS = 1 << 18
"""Voxels looked at together: few enough to stay in a processor's cache."""
MOMENTS = 10
"""Sums over the voxels of a segment: of 1, k, j, i, kk, jj, ii, kj, ki, ji."""
FIRST_UNSET_BIT = np.array([(~pattern & (pattern + 1)).bit_length() - 1 for pattern in range(PATTERNS)], np.intp)
"""Of each corner pattern but the last: the first corner that is not in it."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Shape:
    """Shape of one segment.

    Attributes
    ----------
    extent : tuple of int
        Voxels of the bounding box, (k, j, i).
    features : dict
        Feature name without class to value, in mm; Flatness and Elongation are NaN for
        a single voxel.
    """

    extent: tuple[int, int, int]
    features: dict[str, float]


@dataclass(slots=True)
class Sums:
    """What is added up over slabs, for numbers 0 to n of a layer.

    Attributes
    ----------
    patterns : ndarray of int64, shape (n + 1, 256)
        Cells of each corner pattern.
    flux : ndarray of float64, shape (n + 1,)
        Scalar products of cell positions and their patterns' flux.
    moments : ndarray of float64, shape (10, n + 1)
        The sums that ``MOMENTS`` tells of; whole numbers, exact below 2^53.
    lines : LineCollector
        Ends of the lines of mesh vertices.
    """

    patterns: NDArray[np.int64]
    flux: NDArray[np.float64]
    moments: NDArray[np.float64]
    lines: LineCollector = field(default_factory=LineCollector)


@dataclass(frozen=True, slots=True, eq=False)
class Slab:
    """Some slices of a label map with a border of 0 all round, and the one after them.

    Attributes
    ----------
    flat : ndarray
        Voxels in C order, with zeros after the last.
    first : int
        Index of the first slice in the padded label map.
    depth, rows, columns : int
        Slices looked at (one more is there), padded rows and columns.
    """

    flat: NDArray[np.unsignedinteger]
    first: int
    depth: int
    rows: int
    columns: int

    @property
    def size(self) -> int:
        """Voxels looked at."""
        return self.depth * self.rows * self.columns

    def differs(self, stride: int, size: int) -> NDArray[np.bool_]:
        """Whether each voxel and the one a stride further hold different numbers."""
        different: NDArray[np.bool_] = self.flat[:size] != self.flat[stride : size + stride]
        return different

    def position(self, index: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
        """(k, j, i) in the padded label map."""
        line = index // self.columns
        k = line // self.rows
        return k + self.first, line - k * self.rows, index - line * self.columns


def shapes(
    labels: NDArray[np.unsignedinteger], mapping: NDArray[np.unsignedinteger], spacing_mm: tuple[float, float, float]
) -> dict[int, Shape]:
    """The 14 shape features of pyradiomics, by its names, of each segment present.

    Parameters
    ----------
    labels : ndarray (k, j, i) of uint8 or uint16
        Label map.
    mapping : ndarray, shape (n + 1,), of the same type
        Which segment each number counts for here, 0 for none: numbers that map to one
        segment are one structure.
    spacing_mm : tuple of float
        Between voxel centres, (k, j, i).

    Returns
    -------
    dict
        By segment number; segments without a voxel are not in it.
    """
    count = int(mapping.max(initial=0)) + 1
    sums = Sums(np.zeros((count, PATTERNS), np.int64), np.zeros(count), np.zeros((MOMENTS, count)))
    for slab in _slabs(labels, mapping):
        along_i, along_j, along_k = (_vertices(slab, axis, sums) for axis in (2, 1, 0))
        _add_patterns(slab, _mixed_cells(slab, along_i, along_j, along_k), sums)
    return {
        number: Shape(lines.extent, _features(number, lines, sums, spacing_mm))
        for number, lines in sums.lines.by_number()
    }


def _slabs(labels: NDArray[np.unsignedinteger], mapping: NDArray[np.unsignedinteger]) -> Iterator[Slab]:
    """Padded slabs that hold anything, each overlapping the next by one slice."""
    slices, rows, columns = labels.shape[0] + 2, labels.shape[1] + 2, labels.shape[2] + 2
    plane = rows * columns
    step = max(1, SLAB_VOXELS // plane)
    for first in range(0, slices - 1, step):
        depth = min(step, slices - 1 - first)
        flat = np.zeros((depth + 1) * plane + columns + 1, labels.dtype)
        low, high = max(first, 1), min(first + depth + 1, slices - 1)
        inside = flat[: (depth + 1) * plane].reshape(-1, rows, columns)[low - first : high - first, 1:-1, 1:-1]
        inside[...] = _mapped(labels[low - 1 : high - 1], mapping)
        if inside.any():
            yield Slab(flat, first, depth, rows, columns)


def _mapped(part: NDArray[np.unsignedinteger], mapping: NDArray[np.unsignedinteger]) -> NDArray[np.unsignedinteger]:
    """Numbers replaced by what they map to."""
    if part.dtype == np.uint8:
        table = np.zeros(256, np.uint8)
        table[: len(mapping)] = mapping
        # bytes.translate is twice as fast as indexing.
        return np.frombuffer(part.tobytes().translate(table.tobytes()), np.uint8).reshape(part.shape)
    mapped: NDArray[np.unsignedinteger] = mapping[part]
    return mapped


def _vertices(slab: Slab, axis: int, sums: Sums) -> NDArray[np.bool_]:
    """Mesh vertices between neighbours along an axis, added to the sums; where they are."""
    stride = (slab.rows * slab.columns, slab.columns, 1)[axis]
    # Along rows, the slice after the last is needed too, for the cells below it.
    differs = slab.differs(stride, min(len(slab.flat) - stride, slab.size + slab.rows * slab.columns))
    index = np.flatnonzero(differs[: slab.size])
    position = slab.position(index)
    sides = np.stack([slab.flat[index], slab.flat[index + stride]], axis=1)
    if axis == 2:  # noqa: PLR2004
        for side, sign in ((sides[:, 0], 1), (sides[:, 1], -1)):
            inside = side != 0
            k, j, i = (each[inside].astype(np.float64) for each in position)
            _add_moments(side[inside].astype(np.intp), (k, j, i), sign, sums)
    sums.lines.add(sides, position, axis, slab.first, (slab.depth, slab.rows, slab.columns))
    return differs


def _add_moments(number: NDArray[np.intp], position: tuple[Floats, Floats, Floats], sign: int, sums: Sums) -> None:
    """Add the sums over a row up to i where a run ends, and take them off where one begins."""
    k, j, i = position
    voxels = i + 1
    first = i * voxels / 2
    second = first * (2 * i + 1) / 3
    kv, jv = k * voxels, j * voxels
    for row, weights in enumerate((voxels, kv, jv, first, k * kv, j * jv, second, k * jv, k * first, j * first)):
        sums.moments[row] += sign * np.bincount(number, weights=weights, minlength=sums.moments.shape[1])


def _mixed_cells(
    slab: Slab, along_i: NDArray[np.bool_], along_j: NDArray[np.bool_], along_k: NDArray[np.bool_]
) -> NDArray[np.intp]:
    """First corners of the cells whose corners are not all alike: seven edges reach all eight."""
    size, plane, columns = slab.size, slab.rows * slab.columns, slab.columns
    below = np.zeros(size + columns, np.bool_)
    reach = min(len(along_i) - plane, size + columns)
    below[:reach] = along_i[plane : plane + reach]
    both = along_i[: size + columns] | below
    mixed = both[:size] | both[columns : size + columns]
    mixed |= along_j[:size]
    mixed |= along_j[plane : plane + size]
    mixed |= along_k[:size]
    return np.flatnonzero(mixed)


def _add_patterns(slab: Slab, cells: NDArray[np.intp], sums: Sums) -> None:
    """Count the corner patterns of the numbers in each cell, one number after the other."""
    plane = slab.rows * slab.columns
    corners = np.stack([slab.flat[cells + (k * plane + j * slab.columns + i)] for k, j, i in CORNERS])
    done = np.zeros(len(cells), np.uint8)
    while len(cells):
        number = corners[FIRST_UNSET_BIT[done], np.arange(len(cells))]
        same = (corners == number).view(np.uint8)
        same <<= np.arange(8, dtype=np.uint8)[:, None]
        pattern = np.bitwise_or.reduce(same, axis=0)
        inside = number != 0
        _add_cells(slab, cells[inside], number[inside].astype(np.intp), pattern[inside], sums)
        done |= pattern
        left = done != PATTERNS - 1
        cells, corners, done = cells[left], corners[:, left], done[left]


def _add_cells(
    slab: Slab, cells: NDArray[np.intp], number: NDArray[np.intp], pattern: NDArray[np.uint8], sums: Sums
) -> None:
    """Count one number's pattern in each cell, and add the flux."""
    key = number * PATTERNS + pattern
    sums.patterns += np.bincount(key, minlength=sums.patterns.size).reshape(sums.patterns.shape)
    flux = mesh_table().flux.astype(np.float64)
    weights = sum(flux[:, axis][pattern] * along for axis, along in enumerate(slab.position(cells)))
    sums.flux += np.bincount(number, weights=weights, minlength=len(sums.flux))


def _features(number: int, lines: Lines, sums: Sums, spacing_mm: tuple[float, float, float]) -> dict[str, float]:
    """Features of one segment from its sums."""
    voxel_mm3 = math.prod(spacing_mm)
    area, volume = _area_and_volume(number, lines, sums, spacing_mm)
    least, minor, major = _principal_moments(sums.moments[:, number], spacing_mm)
    in_slice, in_row_plane, in_column_plane, in_space = diameters_mm(lines, spacing_mm)
    return {
        "MeshVolume": volume,
        "VoxelVolume": float(sums.moments[0, number]) * voxel_mm3,
        "SurfaceArea": area,
        "SurfaceVolumeRatio": area / volume,
        "Sphericity": (36 * math.pi * volume**2) ** (1 / 3) / area,
        "Maximum3DDiameter": in_space,
        "Maximum2DDiameterSlice": in_slice,
        "Maximum2DDiameterColumn": in_row_plane,
        "Maximum2DDiameterRow": in_column_plane,
        "MajorAxisLength": 4 * math.sqrt(major),
        "MinorAxisLength": 4 * math.sqrt(minor),
        "LeastAxisLength": 4 * math.sqrt(least),
        "Elongation": math.sqrt(minor / major) if major else math.nan,
        "Flatness": math.sqrt(least / major) if major else math.nan,
    }


def _area_and_volume(
    number: int, lines: Lines, sums: Sums, spacing_mm: tuple[float, float, float]
) -> tuple[float, float]:
    """Mesh area in mm2 and volume in mm3, the latter seen from one voxel below the bounding box."""
    table = mesh_table()
    counts = sums.patterns[number]
    origin = np.array(lines.lowest_corner) - 1
    flux = int(sums.flux[number]) - int(origin @ (counts @ table.flux))
    determinant = int(counts @ table.determinants) + 2 * flux
    area = float(counts @ table.areas_mm2(spacing_mm))
    return area, determinant * math.prod(spacing_mm) / 48


def _principal_moments(sums: NDArray[np.float64], spacing_mm: tuple[float, float, float]) -> list[float]:
    """Eigenvalues of the covariance of voxel centres in mm2, ascending, from exact integer sums."""
    n, *rest = (int(value) for value in sums)
    first, square, mixed = rest[:3], rest[3:6], rest[6:]
    covariance = np.empty((3, 3))
    for a in range(3):
        for b in range(3):
            second = square[a] if a == b else mixed[a + b - 1]
            covariance[a, b] = (n * second - first[a] * first[b]) / n**2 * spacing_mm[a] * spacing_mm[b]
    return [max(0.0, float(value)) for value in np.linalg.eigvalsh(covariance)]
