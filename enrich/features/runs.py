"""Voxel sums, bounding boxes and counts of values of each number of a label map, in one pass.

The pass goes from run to run of equal numbers along the rows, so that a voxel costs no more
than its count.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .kernel import Kernel

MOMENTS = 10
"""Sums over the voxels of a number: of 1, k, j, i, kk, jj, ii, kj, ki, ji."""
WIDEST = 1 << 16
"""Most values that can be counted, from the lowest to the highest."""
SLAB_VOXELS = 1 << 20
"""Voxels looked at together: few enough to stay in a processor's cache, enough that calls take no time."""
REGION = np.dtype([("moments", "<i8", MOMENTS), ("first", "<i4", 3), ("last", "<i4", 3)])
"""``Region`` of ``runs.c``."""


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """Where the voxels of one or more numbers lie; there is one at least.

    Attributes
    ----------
    moments : ndarray of int64, shape (10,)
        The sums that ``MOMENTS`` tells of, exact.
    first, last : ndarray of int64, shape (3,)
        Corners (k, j, i) of the bounding box, both inside.
    """

    moments: NDArray[np.int64]
    first: NDArray[np.int64]
    last: NDArray[np.int64]

    @property
    def extent(self) -> tuple[int, int, int]:
        """Voxels of the bounding box, (k, j, i)."""
        k, j, i = (int(side) for side in self.last - self.first + 1)
        return k, j, i


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """What the pass found.

    Attributes
    ----------
    regions : dict
        By number, for the numbers present.
    counts : ndarray of uint32, shape (n + 1, width)
        Voxels of each number and value, the lowest value first; of width 0 if none were given.
    lowest : int
        The lowest value.
    """

    regions: dict[int, Region]
    counts: NDArray[np.uint32]
    lowest: int

    def region(self, numbers: Iterable[int]) -> Region:
        """Several numbers, of which one at least is present, as one region."""
        parts = [self.regions[number] for number in numbers if number in self.regions]
        return Region(
            np.sum([part.moments for part in parts], axis=0),
            np.min([part.first for part in parts], axis=0),
            np.max([part.last for part in parts], axis=0),
        )


def find_runs(
    labels: NDArray[np.unsignedinteger], values: NDArray[np.generic], counted: tuple[int, int] | None
) -> Runs:
    """The pass over a label map.

    Parameters
    ----------
    labels : ndarray (k, j, i) of uint8 or uint16
        Label map, not empty.
    values : ndarray (k, j, i)
        Image of the same shape.
    counted : tuple of int or None
        Lowest value, and how many there are from it to the highest (``WIDEST`` at most), if the
        values are integers that are to be counted.
    """
    kernel = Kernel()
    lowest, width = counted or (0, 0)
    slices, rows, columns = labels.shape
    depth = min(slices, max(1, SLAB_VOXELS // (rows * columns)))
    regions = kernel.reserve(REGION, int(labels.max()) + 1)
    counts = kernel.reserve(np.uint32, *regions.shape, width)
    slab = kernel.reserve(labels.dtype, depth, rows, columns)
    value_slab = kernel.reserve(np.uint16, *slab.shape)
    labels_here, values_here = kernel.view(slab), kernel.view(value_slab)
    for k in range(0, slices, depth):
        count = min(depth, slices - k)
        labels_here[:count] = labels[k : k + count]
        if width:
            # Both wrap round at 65,536, and so does their difference, which is less.
            values_here[:count] = values[k : k + count]
            values_here[:count] -= np.uint16(lowest % WIDEST)
        size = (labels.itemsize, k, count, rows, columns)
        kernel.call("add_runs", slab, *size, regions, value_slab, counts, width)
    found = kernel.view(regions).copy()
    present = np.flatnonzero(found["moments"][:, 0])
    by_number = {
        int(n): Region(found["moments"][n], found["first"][n].astype(np.int64), found["last"][n].astype(np.int64))
        for n in present
    }
    return Runs(by_number, kernel.view(counts).copy(), lowest)
