"""From masks on the reduced grid to a label map on the full grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .morphology import Mask
from .working_grid import WorkingGrid


@dataclass(frozen=True, slots=True, eq=False)
class Structure:
    """A label, its mask on the reduced grid, and the HU that decide at its border.

    Attributes
    ----------
    label : int
        1..255.
    mask : ndarray of bool
        On the reduced grid.
    lowest_hu, highest_hu : float
        A full-grid voxel in the border (one reduced voxel to either side) belongs to the
        structure if its value is at least the one and below the other.
    within : tuple of int
        Labels that a border voxel may be taken from; inside the border the mask decides alone.
    """

    label: int
    mask: Mask
    lowest_hu: float
    highest_hu: float
    within: tuple[int, ...] = (0,)


def refine(grid: WorkingGrid, structures: tuple[Structure, ...]) -> NDArray[np.uint8]:
    """Label map (k, j, i) on the turned full grid; a later structure takes from an earlier one.

    Where nothing was averaged the masks are the answer as they are.
    """
    sure = np.zeros(grid.reduced.shape, dtype=np.uint8)
    if grid.factors == (1, 1, 1):
        for structure in structures:
            sure[structure.mask] = structure.label
        return sure
    borders = np.zeros(grid.reduced.shape, dtype=np.uint8)
    for bit, structure in enumerate(structures):
        core = ndimage.binary_erosion(structure.mask, border_value=1)
        sure[core] = structure.label
        borders[ndimage.binary_dilation(structure.mask) & ~core] |= np.uint8(1 << bit)
    labels = np.empty(grid.hounsfield.shape, dtype=np.uint8)
    step = grid.factors[0]
    for k in range(len(sure)):
        slab = slice(k * step, min((k + 1) * step, len(labels)))
        labels[slab] = _enlarge_slice(grid, sure[k])
        _decide_borders(labels[slab], grid.hounsfield[slab], _enlarge_slice(grid, borders[k]), structures)
    return labels


def _decide_borders(
    labels: NDArray[np.uint8],
    hounsfield: NDArray[np.int16],
    borders: NDArray[np.uint8],
    structures: tuple[Structure, ...],
) -> None:
    """Label the border voxels of some slices in place."""
    for bit, structure in enumerate(structures):
        at_border = (borders & (1 << bit)) != 0
        if not at_border.any():
            continue
        taken = at_border & (hounsfield >= structure.lowest_hu) & (hounsfield < structure.highest_hu)
        taken &= np.isin(labels, structure.within)
        labels[taken] = structure.label


def _enlarge_slice(grid: WorkingGrid, plane: NDArray[np.uint8]) -> NDArray[np.uint8]:
    _, rows, columns = grid.hounsfield.shape
    return plane.repeat(grid.factors[1], axis=0).repeat(grid.factors[2], axis=1)[:rows, :columns]
