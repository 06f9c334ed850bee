"""The steps of the package's `nnUNet_predict_image` on images in memory, no NIfTI file between them.

Orientation, crop and postprocessing are the package's own functions; the order, and what its
599-line function does between them, is done here again (``nnunet.nnUNet_predict_image``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from totalsegmentator.alignment import as_closest_canonical, undo_canonical
from totalsegmentator.cropping import get_bbox_from_mask
from totalsegmentator.postprocessing import (
    keep_largest_blob_multilabel,
    postprocess_vertebrae_pp,
    remove_auxiliary_labels,
    remove_small_blobs_multilabel,
)

from ..model import ModelError
from .resampling import at_spacing, on_shape
from .tasks import Network, Prediction, Spacing

SPLIT_ABOVE_VOXELS = 512 * 512 * 900
"""A larger resampled image is predicted in three parts along z where several networks make one map."""
SPLIT_ABOVE_SLICES = 200
SPLIT_MARGIN = 20
"""Slices that a part sees beyond its own."""

SMALLEST_EXTREMITY_MM3 = 50_000.0
ALL_SIZES = 1e10

Labels = NDArray[np.uint8]
Box = tuple[slice, slice, slice]


class Networks(Protocol):
    """What predicts: any network of a task on a canonical image."""

    def labels(self, network: Network, image: NDArray[Any], spacing_mm: Spacing, class_map: str) -> Labels:
        """Labels of one network.

        Parameters
        ----------
        network : Network
        image : ndarray
            (x, y, z) to right, front and head.
        spacing_mm : tuple of float
            Along x, y, z.
        class_map : str
            What the labels are for; it decides how far tiles overlap.
        """
        ...


@dataclass(frozen=True, slots=True)
class Options:
    """What a caller may change, with the package's defaults.

    Attributes
    ----------
    resampling_order : int
        Of the spline that the image is resampled by (``--resampling_order``).
    smallest_mm3 : float
        Smaller pieces of every class are removed (``--remove_small_blobs``); 0: none is.
    """

    resampling_order: int = 1
    smallest_mm3: float = 0.0


def box_around(mask: NDArray[np.bool_], image: nib.Nifti1Image, margin_mm: Spacing) -> Box:
    """Box of a mask that is not empty, with a margin (cropping.crop_to_mask)."""
    margin = (np.array(margin_mm) / image.header.get_zooms()).astype(int)
    i, j, k = (slice(*ends) for ends in get_bbox_from_mask(mask, outside_value=0, addon=margin))
    return i, j, k


def predict(
    networks: Networks,
    prediction: Prediction,
    image: nib.Nifti1Image,
    options: Options,
    box: Box | None = None,
) -> Labels:
    """Labels on the grid of `image`, by one pass of the package's `nnUNet_predict_image`.

    Parameters
    ----------
    networks : Networks
    prediction : Prediction
    image : nibabel.Nifti1Image
        Three axes in any orientation; affine to RAS mm.
    options : Options
    box : Box or None
        Part of the image that is looked at; the rest is background.

    Raises
    ------
    InvalidVolume
        If the image is too thin for the networks.
    """
    seen = image
    if box is not None:
        # crop_to_mask(..., dtype=np.int32); its shift of the origin changes nothing that follows.
        seen = nib.Nifti1Image(np.asanyarray(image.dataobj)[box].astype(np.int32), image.affine)
    canonical = as_closest_canonical(seen)
    reduced = canonical
    if prediction.spacing_mm is not None:
        name = f"totalsegmentator:{prediction.class_map}"
        reduced = at_spacing(canonical, prediction.spacing_mm, options.resampling_order, name)
    labels = _postprocessed(_merged(networks, prediction, reduced), prediction, reduced, options)
    labels = on_shape(labels, canonical.shape)
    labels = np.asanyarray(undo_canonical(nib.Nifti1Image(labels, canonical.affine), image).dataobj)
    if box is None:
        return labels
    whole = np.zeros(image.shape, np.uint8)
    whole[box] = labels
    return whole


def _merged(networks: Networks, prediction: Prediction, image: nib.Nifti1Image) -> Labels:
    """Labels of all networks in one map, as class ids."""
    array = np.asanyarray(image.dataobj)
    x_mm, y_mm, z_mm = (float(zoom) for zoom in image.header.get_zooms())
    spacing_mm = (x_mm, y_mm, z_mm)
    if len(prediction.networks) == 1:
        return networks.labels(prediction.networks[0], array, spacing_mm, prediction.class_map)
    merged = np.zeros(array.shape, np.uint8)
    for seen, kept, place in _parts(array.shape):
        for network in prediction.networks:
            found = networks.labels(network, array[:, :, seen], spacing_mm, prediction.class_map)[:, :, kept]
            class_ids = _lookup(network)[found]
            np.copyto(merged[:, :, place], class_ids, where=class_ids != 0)
    return merged


def _parts(shape: tuple[int, ...]) -> tuple[tuple[slice, slice, slice], ...]:
    """Slices along z that a part sees, those of them that are kept, and where they belong.

    One part, or three (nnUNet_predict_image, ``do_triple_split``: its ranges, off by one as they are).
    """
    if np.prod(shape) <= SPLIT_ABOVE_VOXELS or shape[2] <= SPLIT_ABOVE_SLICES:
        return ((slice(None), slice(None), slice(None)),)
    third, margin = shape[2] // 3, SPLIT_MARGIN
    return (
        (slice(third + margin), slice(-margin), slice(third)),
        (slice(third + 1 - margin, third * 2 + margin), slice(margin - 1, -margin), slice(third, third * 2)),
        (slice(third * 2 + 1 - margin, None), slice(margin - 1, None), slice(third * 2, None)),
    )


def _lookup(network: Network) -> Labels:
    table = np.zeros(256, np.uint8)
    for label, number in (network.classes or {}).items():
        table[label] = number
    return table


def _postprocessed(labels: Labels, prediction: Prediction, image: nib.Nifti1Image, options: Options) -> Labels:
    """Labels after what the package does at the networks' spacing, and only for some class maps."""
    name, classes = prediction.class_map, prediction.classes
    # The affine in single precision, as the package reads it back from its NIfTI file, to measure voxels by.
    image = nib.Nifti1Image(labels, image.header.get_best_affine())
    zooms = image.header.get_zooms()
    voxel_mm3 = np.prod(zooms)
    labels = np.asanyarray(remove_auxiliary_labels(image, name).dataobj)
    if name == "body":
        labels = keep_largest_blob_multilabel(labels, classes, ["body_trunc"], quiet=True)
        smallest = [SMALLEST_EXTREMITY_MM3 / voxel_mm3, ALL_SIZES]
        labels = remove_small_blobs_multilabel(labels, classes, ["body_extremities"], interval=smallest, quiet=True)
    if name == "vertebrae_pp":
        labels = _separate_vertebrae(labels, classes, voxel_mm3, zooms)
    if options.smallest_mm3:
        smallest = [options.smallest_mm3 / voxel_mm3, ALL_SIZES]
        labels = remove_small_blobs_multilabel(labels, classes, list(classes.values()), interval=smallest, quiet=True)
    return labels


def _separate_vertebrae(labels: Labels, classes: dict[int, str], voxel_mm3: float, zooms: tuple[float, ...]) -> Labels:
    """postprocessing.postprocess_vertebrae_pp, which fails where all vertebrae of a scan make one piece."""
    try:
        separate: Labels = postprocess_vertebrae_pp(labels, classes, voxel_volume=voxel_mm3, voxel_spacing=zooms)
    except IndexError as exc:
        raise ModelError(
            "totalsegmentator:vertebrae_pp", "all vertebrae found are one piece, which cannot be parted"
        ) from exc
    return separate
