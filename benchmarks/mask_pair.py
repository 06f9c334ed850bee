"""MaskPair: one structure in reference and prediction, cut to the box that holds both."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .. import Error
from .outline import OutlineDistances, outline_distances

DIMENSIONS = 3

Mask = NDArray[np.bool_]


class MasksDiffer(Error):
    """Masks that are not on one grid, or a grid without a size."""

    code = "MASKS_DIFFER"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class Grid:
    """The image's grid of voxels.

    Attributes
    ----------
    shape : tuple of int
        Slices, rows, columns: (k, j, i).
    spacing_mm : tuple of float
        Between voxel centres along (k, j, i).
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]

    def __post_init__(self) -> None:
        if len(self.shape) != DIMENSIONS or len(self.spacing_mm) != DIMENSIONS:
            raise MasksDiffer(f"a grid has three axes, not shape {self.shape} and spacing {self.spacing_mm}")
        if not all(math.isfinite(each) and each > 0 for each in self.spacing_mm):
            raise MasksDiffer(f"spacing {self.spacing_mm} mm is not finite and above 0")

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel in ml."""
        return math.prod(self.spacing_mm) / 1000

    @property
    def diagonal_mm(self) -> float:
        """From corner to corner of the image: no distance in it is larger."""
        return math.hypot(*(n * mm for n, mm in zip(self.shape, self.spacing_mm, strict=True)))


@dataclass(frozen=True, eq=False)
class MaskPair:
    """Two masks of one structure, with what several metrics share computed once and when asked for.

    Attributes
    ----------
    reference, prediction : ndarray of bool, shape (k, j, i)
        Cut to one box that holds both, or whole.
    grid : Grid
        Of the whole image.
    """

    reference: Mask
    prediction: Mask
    grid: Grid

    def __post_init__(self) -> None:
        if self.reference.shape != self.prediction.shape:
            raise MasksDiffer(
                f"reference of {self.reference.shape} voxels and prediction of {self.prediction.shape}: "
                "resample one onto the other's grid first"
            )
        for mask in (self.reference, self.prediction):
            if mask.ndim != DIMENSIONS or mask.dtype != np.bool_:
                raise MasksDiffer(f"a mask is bool of three axes, not {mask.dtype} of {mask.ndim}")

    @cached_property
    def both(self) -> int:
        """Voxels in both."""
        return int(np.count_nonzero(self.reference & self.prediction))

    @cached_property
    def reference_voxels(self) -> int:
        """Voxels of the reference."""
        return int(np.count_nonzero(self.reference))

    @cached_property
    def prediction_voxels(self) -> int:
        """Voxels of the prediction."""
        return int(np.count_nonzero(self.prediction))

    @property
    def neither(self) -> bool:
        """Whether both masks are empty: nothing to find, nothing found."""
        return not (self.reference_voxels or self.prediction_voxels)

    @property
    def one_empty(self) -> bool:
        """Whether one mask is empty and the other not: missed, or made up."""
        return bool(self.reference_voxels) != bool(self.prediction_voxels)

    @cached_property
    def distances(self) -> OutlineDistances:
        """Of each surface element to the other outline, both ways; only where neither mask is empty."""
        return outline_distances(self.reference, self.prediction, self.grid.spacing_mm)
