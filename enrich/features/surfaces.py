"""Meshes of all segments of a label map in one pass: counts of corner patterns, and diameters.

Each cell whose eight corners are not all alike is looked at once for all segments. Its corner
patterns are counted (``mesh``); its mesh vertices widen the lines of half voxels that they lie on,
of which only the ends can be far from each other. Of these, the corners of the convex hull of
each plane give the diameters, of which few are compared with each other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .kernel import Block, Kernel
from .mesh import PATTERNS, mesh_table
from .runs import SLAB_VOXELS, Region

LARGEST_LINES = 1 << 28
"""Bytes of lines that are held at one time, if segments are no larger; more segments take more passes."""
READ_BEYOND = 32
"""Bytes after the last voxel that the kernel may look at."""
SURFACE = np.dtype(
    [
        ("flux", "<i8"),
        ("origin", "<i4", 3),
        ("lines", "<i4", 3),
        ("along_i", "<u4"),
        ("along_j", "<u4"),
        ("patterns", "<i4", PATTERNS),
    ]
)
"""``Surface`` of ``kernel.h``; its lines are planes, rows and columns."""
ENDS = np.dtype([("low", "<i4"), ("high", "<i4")])
EMPTY = 0xFF
"""Byte that memory of lines is filled with, which makes every end -1."""
POINT, CORNER = np.dtype(("<i4", 2)), np.dtype(("<f8", 4))


@dataclass(frozen=True, slots=True, eq=False)
class Surface:
    """Mesh of one segment.

    Attributes
    ----------
    patterns : ndarray of int64, shape (256,)
        Cells of each corner pattern.
    flux : int
        Scalar products of cells' positions and their patterns' flux, seen from one voxel below
        the bounding box.
    diameters_mm : tuple of float
        Largest distance of two vertices in a slice, in a plane of one row, of one column, and in space.
    """

    patterns: NDArray[np.int64]
    flux: int
    diameters_mm: tuple[float, float, float, float]


def surfaces(
    labels: NDArray[np.unsignedinteger],
    mapping: NDArray[np.unsignedinteger],
    regions: Mapping[int, Region],
    spacing_mm: tuple[float, float, float],
) -> dict[int, Surface]:
    """Mesh of each segment.

    Parameters
    ----------
    labels : ndarray (k, j, i) of uint8 or uint16
        Label map.
    mapping : ndarray, shape (n + 1,), of the same type
        Which segment each number counts for here, 0 for none: numbers that map to one
        segment are one structure. Numbers that do not occur may map to anything.
    regions : mapping
        Of the segments present, by number.
    spacing_mm : tuple of float
        Between voxel centres, (k, j, i).
    """
    found: dict[int, Surface] = {}
    for batch in _batches(regions):
        others = [number for number in regions if number not in batch]
        only = np.where(np.isin(mapping, others), 0, mapping).astype(mapping.dtype)
        found |= _pass(labels, only, batch, spacing_mm)
    return found


def _batches(regions: Mapping[int, Region]) -> Iterator[dict[int, Region]]:
    """Segments whose lines are held together."""
    batch: dict[int, Region] = {}
    held = 0
    for number, region in regions.items():
        planes, rows, columns = _lines(region)
        size = planes * (rows + columns) * ENDS.itemsize
        if batch and held + size > LARGEST_LINES:
            yield batch
            batch, held = {}, 0
        batch[number] = region
        held += size
    if batch:
        yield batch


def _lines(region: Region) -> tuple[int, int, int]:
    """Half voxels of the bounding box and of the half voxel around it, (k, j, i)."""
    k, j, i = region.extent
    return 2 * k + 1, 2 * j + 1, 2 * i + 1


def _pass(
    labels: NDArray[np.unsignedinteger],
    mapping: NDArray[np.unsignedinteger],
    regions: Mapping[int, Region],
    spacing_mm: tuple[float, float, float],
) -> dict[int, Surface]:
    """Meshes of one batch."""
    kernel = Kernel()
    lines = {
        number: tuple(kernel.reserve(ENDS, size[0], size[axis], fill=EMPTY) for axis in (1, 2))
        for number, size in ((number, _lines(region)) for number, region in regions.items())
    }
    table = kernel.reserve(SURFACE, int(mapping.max()) + 1)
    flux = kernel.reserve("<i4", PATTERNS, 3)
    kernel.view(flux)[...] = mesh_table().flux
    records = kernel.view(table)
    for number, region in regions.items():
        # In the padded label map, half a voxel before the first one.
        records[number]["origin"] = 2 * region.first + 1
        records[number]["lines"] = _lines(region)
        records[number]["along_i"], records[number]["along_j"] = (each.address for each in lines[number])
    _add_cells(kernel, labels, mapping, table, flux)
    found = kernel.view(table).copy()
    half_mm = kernel.reserve("<f8", 3)
    kernel.view(half_mm)[...] = np.array(spacing_mm) / 2
    return {
        number: Surface(
            (patterns := found[number]["patterns"].astype(np.int64)),
            int(found[number]["flux"]) - int(region.first @ (patterns @ mesh_table().flux)),
            _diameters_mm(kernel, table.address + number * SURFACE.itemsize, _lines(region), half_mm),
        )
        for number, region in regions.items()
    }


def _add_cells(
    kernel: Kernel,
    labels: NDArray[np.unsignedinteger],
    mapping: NDArray[np.unsignedinteger],
    table: Block,
    flux: Block,
) -> None:
    """Hand all cells to the kernel, padded slabs at a time, each of which overlaps the next by one slice."""
    slices, rows, columns = (length + 2 for length in labels.shape)
    depth = min(slices - 1, max(1, SLAB_VOXELS // (rows * columns)))
    slab = kernel.reserve(labels.dtype, depth + 1, rows, columns)
    kernel.reserve(np.uint8, READ_BEYOND)
    here = kernel.view(slab)
    unchanged = np.array_equal(mapping, np.arange(len(mapping)))
    for first in range(0, slices - 1, depth):
        count = min(depth, slices - 1 - first)
        low, high = max(first, 1), min(first + count + 1, slices - 1)
        part = labels[low - 1 : high - 1]
        here[low - first : high - first, 1:-1, 1:-1] = part if unchanged else _mapped(part, mapping)
        here[high - first :] = 0
        kernel.call("add_cells", slab, labels.itemsize, first, count, rows, columns, table, flux)


def _mapped(part: NDArray[np.unsignedinteger], mapping: NDArray[np.unsignedinteger]) -> NDArray[np.unsignedinteger]:
    """Numbers replaced by what they map to."""
    if part.dtype == np.uint8:
        table = np.zeros(256, np.uint8)
        table[: len(mapping)] = mapping
        # bytes.translate is twice as fast as indexing.
        return np.frombuffer(part.tobytes().translate(table.tobytes()), np.uint8).reshape(part.shape)
    mapped: NDArray[np.unsignedinteger] = mapping[part]
    return mapped


def _diameters_mm(
    kernel: Kernel, surface: int, lines: tuple[int, int, int], half_mm: Block
) -> tuple[float, float, float, float]:
    """Diameters of a segment whose record is at an address."""
    planes, rows, columns = lines
    marks = kernel.reserve(np.uint8, planes, rows)
    column_marks = kernel.reserve(np.uint8, planes, columns)
    hull = kernel.reserve(POINT, 2 * max(lines))
    squares = kernel.reserve("<f8", 3)
    count = kernel.call("diameters_in_planes", surface, half_mm, hull, marks, column_marks, squares)
    in_slice, in_row_plane, in_column_plane = (float(square) for square in kernel.view(squares))
    corners = kernel.reserve(CORNER, count)
    in_any_plane = max(in_slice, in_row_plane, in_column_plane)
    in_space = kernel.call("diameter_in_space", surface, half_mm, marks, corners, in_any_plane)
    kernel.release(marks)
    return math.sqrt(in_slice), math.sqrt(in_row_plane), math.sqrt(in_column_plane), math.sqrt(in_space)
