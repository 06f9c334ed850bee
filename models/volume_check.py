"""What every network needs of a volume before it is worth a forward pass."""

from __future__ import annotations

from collections.abc import Sequence

import highdicom as hd
import numpy as np
from numpy.typing import NDArray

from .rules.working_grid import InvalidVolume, check_spacing


def finite_values(volume: hd.Volume, model: str) -> NDArray[np.float32]:
    """The volume's values (k, j, i) as float32; see `check_values`."""
    check_values(volume, model)
    return np.ascontiguousarray(volume.array, dtype=np.float32)


def check_values(volume: hd.Volume, model: str) -> None:
    """Refuse a volume without an image.

    Raises
    ------
    InvalidVolume
        If there is not one value for each voxel, there are no voxels, a value is not finite, or all are equal; if
        the spacing is no patient's.
    """
    if volume.array.shape != volume.spatial_shape or volume.array.size == 0:
        raise InvalidVolume(model, f"array of shape {volume.array.shape}: one value for each voxel is needed")
    check_spacing(volume, model)
    lowest, highest = float(volume.array.min()), float(volume.array.max())
    if not np.isfinite(highest - lowest):
        raise InvalidVolume(model, "the volume holds values that are not finite")
    if lowest == highest:
        raise InvalidVolume(model, f"every voxel is {lowest:g}: there is nothing to segment")


def check_extent(shape: Sequence[int], spacing_mm: Sequence[float], model: str) -> None:
    """Refuse an image of which no voxel is left along an axis at a network's spacing.

    Parameters
    ----------
    shape : sequence of int
        At that spacing.
    spacing_mm : sequence of float
        Of the network, along the same axes.
    model : str
        For the error.

    Raises
    ------
    InvalidVolume
        If an axis has no voxel.
    """
    if 0 in shape:
        voxels, mm = " x ".join(map(str, shape)), " x ".join(f"{each:g}" for each in spacing_mm)
        raise InvalidVolume(model, f"too thin: at the network's spacing of {mm} mm it has {voxels} voxels")
