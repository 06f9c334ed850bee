"""nnU-Net's preprocessing for prediction: its values, bit for bit, within the memory of one float64 copy of an image.

``DefaultPreprocessor.run_case_npy`` holds several such copies at once while it resamples, and also resamples a
segmentation that prediction does not look at: for 512x512x1200 voxels together 12 GB.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from nnunetv2.configuration import ANISO_THRESHOLD
from nnunetv2.preprocessing.cropping.cropping import crop_to_nonzero
from nnunetv2.preprocessing.resampling.default_resampling import (
    compute_new_shape,
    determine_do_sep_z_and_axis,
    resample_data_or_seg_to_shape,
)
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from numpy.typing import NDArray
from scipy import ndimage

from ..volume_check import check_extent

PREPROCESSOR = "nnunetv2.preprocessing.preprocessors.default_preprocessor.DefaultPreprocessor"
"""What is done here; by its name, as its module imports what trainers need."""
MARGIN = 12
"""Voxels by which `scipy.ndimage.zoom` continues an image before it computes splines."""
PLANES_AT_ONCE = 16

Box = tuple[slice, ...]


@dataclass(frozen=True, slots=True)
class Cropped:
    """Where what the network sees comes from; axes are those of the network (``transpose_forward``).

    Attributes
    ----------
    whole : tuple of int
        Shape of the image.
    box : tuple of slice
        Part of it that is not zero.
    spacing_mm : tuple of float
        Of the image.
    """

    whole: tuple[int, ...]
    box: Box
    spacing_mm: tuple[float, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels of the box along its axes."""
        return tuple(side.stop - side.start for side in self.box)


def preprocessed(
    channels: NDArray[Any],
    spacing_mm: Sequence[float],
    plans: PlansManager,
    configuration: ConfigurationManager,
    dataset: dict[str, Any],
    name: str,
) -> tuple[NDArray[np.float32], Cropped]:
    """What the network sees of an image: its axes turned, cropped, normalised and resampled.

    Parameters
    ----------
    channels : ndarray
        (channel, k, j, i), all finite; not changed.
    spacing_mm : sequence of float
        Along k, j, i.
    plans, configuration, dataset
        Of the trained folder.
    name : str
        Of the model, for errors.

    Returns
    -------
    ndarray of float32
        (channel, ...) equal to what ``run_case_npy`` gives.
    Cropped
        Where that lies in the image.

    Raises
    ------
    InvalidVolume
        If the image is thinner than half a voxel of the network.
    """
    turned_mm = tuple(spacing_mm[axis] for axis in plans.transpose_forward)
    preprocessor = configuration.preprocessor_class(verbose=False)
    if f"{type(preprocessor).__module__}.{type(preprocessor).__name__}" != PREPROCESSOR:
        properties = {"spacing": list(spacing_mm)}
        data, _, properties = preprocessor.run_case_npy(channels, None, properties, plans, configuration, dataset)
        box = tuple(slice(*side) for side in properties["bbox_used_for_cropping"])
        whole = tuple(properties["shape_before_cropping"])
        return np.ascontiguousarray(data, dtype=np.float32), Cropped(whole, box, turned_mm)
    # A copy in C order, as nnU-Net's reader gives it: the order of sums in means depends on it.
    image = np.array(channels, dtype=np.float32, order="C")
    image = image.transpose(0, *(axis + 1 for axis in plans.transpose_forward))
    whole = image.shape[1:]
    image, outside, box = _crop(image, configuration)
    intensities = plans.foreground_intensity_properties_per_channel
    image = preprocessor._normalize(image, outside, configuration, intensities)  # noqa: SLF001 - has no public name
    wanted = tuple(configuration.spacing)
    new_mm = wanted if len(wanted) == len(turned_mm) else (turned_mm[0], *wanted)
    shape = tuple(int(size) for size in compute_new_shape(image.shape[1:], turned_mm, new_mm))
    check_extent(shape, new_mm, name)
    image = _resampled(image, shape, (turned_mm, new_mm), configuration.resampling_fn_data)
    return np.ascontiguousarray(image, dtype=np.float32), Cropped(whole, box, turned_mm)


def _crop(image: NDArray[np.float32], configuration: ConfigurationManager) -> tuple[NDArray[Any], NDArray[Any], Box]:
    """The part that is not zero, as nnU-Net's `crop_to_nonzero`; and -1 where a channel's mean leaves a voxel out."""
    if any(configuration.use_mask_for_norm):
        image, outside, sides = crop_to_nonzero(image)
        return image, outside, tuple(slice(*side) for side in sides)
    # Holes need not be filled here: they lie within the box.
    seen = [np.zeros(size, bool) for size in image.shape[1:]]
    for channel in image:
        for number, plane in enumerate(channel):
            nonzero = plane != 0
            seen[0][number] |= nonzero.any()
            seen[1] |= nonzero.any(axis=1)
            seen[2] |= nonzero.any(axis=0)
    box = tuple(_span(along) for along in seen)
    image = image[(slice(None), *box)]
    return image, np.broadcast_to(np.int8(0), (1, *image.shape[1:])), box


def _span(seen: NDArray[np.bool_]) -> slice:
    """From the first to the last; everything where there is none, as in nnU-Net."""
    if not seen.any():
        return slice(0, len(seen))
    return slice(int(seen.argmax()), len(seen) - int(seen[::-1].argmax()))


def _resampled(
    image: NDArray[np.float32],
    shape: tuple[int, ...],
    spacings_mm: tuple[tuple[float, ...], tuple[float, ...]],
    resample: Callable[..., NDArray[Any]],
) -> NDArray[Any]:
    """The image in another shape, by the function of the plans or, where that is nnU-Net's spline, as it does."""
    order = _spline_order(resample, *spacings_mm)
    if order is None or shape == image.shape[1:]:
        return resample(image, shape, *spacings_mm)
    found = np.empty((len(image), *shape), np.float32)
    for channel, resized in zip(image, found, strict=True):
        _resize(channel, resized, order)
    return found


def _spline_order(
    resample: Callable[..., NDArray[Any]], spacing_mm: tuple[float, ...], new_mm: tuple[float, ...]
) -> int | None:
    """Order of nnU-Net's spline; None for another function, and where thick slices are resampled one by one."""
    if not isinstance(resample, partial) or resample.func is not resample_data_or_seg_to_shape:
        return None
    asked = {"is_seg": False, "order": 3, "force_separate_z": False, **resample.keywords}
    threshold = asked.get("separate_z_anisotropy_threshold", ANISO_THRESHOLD)
    separate, _ = determine_do_sep_z_and_axis(asked["force_separate_z"], spacing_mm, new_mm, threshold)
    return None if separate or asked["is_seg"] or asked["order"] < 1 else int(asked["order"])


def _resize(channel: NDArray[np.float32], resized: NDArray[np.float32], order: int) -> None:
    """Fill `resized` as ``skimage.transform.resize(channel.astype(float), ..., order, mode="edge")`` does.

    That is `scipy.ndimage.zoom` with ``grid_mode=True`` and an edge that goes on, and a clip to the values that
    there were. Here the spline's coefficients are computed in place, and read at the same points.
    """
    margin = MARGIN if order > 1 else 0
    values = channel if order == 1 else _coefficients(channel, order)
    scales = np.divide(channel.shape, resized.shape)
    at = [(np.arange(new) + 0.5) * scale - 0.5 + margin for new, scale in zip(resized.shape, scales, strict=True)]
    lowest, highest = float(channel.min()), float(channel.max())
    for start in range(0, len(resized), PLANES_AT_ONCE):
        planes = slice(start, start + PLANES_AT_ONCE)
        points = np.stack(np.meshgrid(at[0][planes], *at[1:], indexing="ij"))
        found = ndimage.map_coordinates(values, points, np.float64, order, mode="nearest", prefilter=False)
        resized[planes] = found.clip(lowest, highest)


def _coefficients(channel: NDArray[np.float32], order: int) -> NDArray[np.float64]:
    """Of the spline through the values of an image that goes on at its edges by `MARGIN` voxels."""
    values = np.empty([size + 2 * MARGIN for size in channel.shape], np.float64)
    inner = slice(MARGIN, -MARGIN)
    values[inner, inner, inner] = channel
    for axis in range(values.ndim):
        along = np.moveaxis(values, axis, 0)
        along[:MARGIN], along[-MARGIN:] = along[MARGIN], along[-MARGIN - 1]
    for axis in range(values.ndim):
        ndimage.spline_filter1d(values, order, axis, output=values, mode="nearest")
    return values
