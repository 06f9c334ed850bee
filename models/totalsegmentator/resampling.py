"""The package's `change_spacing`, with the same values and without its float64 copies.

``totalsegmentator.resampling.change_spacing`` turns the whole image into float64 first: 630 MB for
512x512x300, and most of the time that a segmentation takes beside its network. Interpolation along
the axes is separable, so that nearest neighbours are taken by index, axis by axis; linear
interpolation reads the voxels as they are and computes in double precision as before.
"""

from __future__ import annotations

from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..volume_check import check_extent
from .tasks import Spacing


def at_spacing(image: nib.Nifti1Image, spacing_mm: Spacing, order: int, name: str) -> nib.Nifti1Image:
    """A canonical image at another spacing: ``change_spacing(image, spacing_mm, order=order, dtype=np.int32)``.

    Parameters
    ----------
    image : nibabel.Nifti1Image
        Three axes.
    spacing_mm : tuple of float
        Along those axes.
    order : int
        Of the spline, 0 to 5; 1 is the package's default.
    name : str
        Of the model, for errors.

    Returns
    -------
    nibabel.Nifti1Image
        Of int32, cut towards zero; `image` itself where it has that spacing.

    Raises
    ------
    InvalidVolume
        If no voxel is left along an axis.
    """
    own = np.array(image.header.get_zooms())
    if np.array_equal(own, np.array(spacing_mm)):
        return image
    zoom = own / np.array(spacing_mm)
    check_extent([round(size * factor) for size, factor in zip(image.shape, zoom, strict=True)], spacing_mm, name)
    array: NDArray[Any] = np.asanyarray(image.dataobj)
    if order > 1:
        array = array.astype(np.float64)
    values = ndimage.zoom(array, zoom, output=np.float64, mode="nearest", order=order)
    affine = image.affine.copy()
    affine[:3, :3] /= zoom
    return nib.Nifti1Image(values.astype(np.int32), affine)


def on_shape(labels: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Labels by nearest neighbour: ``change_spacing(labels, target_shape=shape, order=0)``."""
    for axis, (old, new) in enumerate(zip(labels.shape, shape, strict=True)):
        if old != new:
            nearest = ndimage.zoom(np.arange(old, dtype=np.float64), new / old, mode="nearest", order=0)
            labels = labels.take(nearest.astype(np.intp), axis=axis)
    return labels
