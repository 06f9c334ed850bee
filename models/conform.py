"""FreeSurfer's conformed grid: 256 voxels of 1 mm along each axis, which run to the left, to the feet and to the front.

As ``mri_convert --conform``: the middle of the field of view stays in the middle, values are interpolated
linearly and are 0 outside. What lies more than 128 mm from the middle is left out.
"""

from __future__ import annotations

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

SIZE = 256
"""Voxels along each axis, 1 mm each."""

AXES = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, -1.0, 0.0]])
"""Columns: the axes' directions in LPS."""

NEARLY_WHOLE = 1e-5
"""Steps and offsets this near to whole voxels are whole: a grid that fits, written in decimals, is to fit exactly."""


def conform(volume: hd.Volume) -> NDArray[np.float32]:
    """The volume's values on its conformed grid, (256, 256, 256)."""
    matrix, offset = _indices(np.linalg.inv(volume.affine) @ conformed_affine(volume))
    conformed: NDArray[np.float32] = ndimage.affine_transform(
        volume.array.astype(np.float32, copy=False), matrix, offset, (SIZE,) * 3, order=1, mode="grid-constant"
    )
    return conformed


def restore(labels: NDArray[np.uint8], volume: hd.Volume) -> hd.Volume:
    """A label map of the conformed grid on the grid of the volume: the nearest label; 0 outside."""
    matrix, offset = _indices(np.linalg.inv(conformed_affine(volume)) @ volume.affine)
    restored = ndimage.affine_transform(labels, matrix, offset, volume.spatial_shape, order=0, mode="grid-constant")
    return volume.with_array(restored)


def conformed_affine(volume: hd.Volume) -> NDArray[np.float64]:
    """Indices of the conformed grid to LPS mm."""
    middle = volume.affine @ np.array([*(size / 2 for size in volume.spatial_shape), 1.0])
    affine = np.eye(4)
    affine[:3, :3] = AXES
    affine[:3, 3] = middle[:3] - AXES.sum(axis=1) * (SIZE / 2)
    return affine


def _indices(affine: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Matrix and offset from indices to indices."""
    whole = np.rint(affine)
    affine = np.where(np.abs(affine - whole) < NEARLY_WHOLE, whole, affine)
    return affine[:3, :3], affine[:3, 3]
