"""The grid that rule-based chest models work on: turned to the patient, and reduced.

Whatever way a scan was stored, the rules see one array whose axes run to the patient's head,
back (posterior) and left. Morphology runs on block means of about `TARGET_SPACING_MM`; the
borders found there are then decided voxel by voxel on the full grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import highdicom as hd
import numpy as np
from numpy.typing import NDArray

from ..model import ModelError
from .morphology import Mask, Spacing

TARGET_SPACING_MM = 2.25
"""Voxels are averaged, the whole number along each axis that comes nearest to this spacing."""

LOWEST_HU, HIGHEST_HU = -1024, 3071
"""The 12 bit range of CT; padding outside the field of view (-2000, -3024) is taken as air."""

AIR_HU = -500
"""A CT whose lowest value lies above was stored without its Rescale Intercept, or is a crop within the body."""

PATIENT_AXES = "HPL"
"""Axes k, j, i run to the head, to the back and to the left."""


SPACING_MM = (0.01, 100.0)
"""Between the voxels of a scan of a patient, from the finest to the coarsest."""


class InvalidVolume(ModelError):
    """The volume is no CT in Hounsfield units that rules can work on."""

    code = "INVALID_VOLUME"
    refused = True


def check_spacing(volume: hd.Volume, model: str) -> None:
    """Refuse a volume whose voxels are no patient's.

    Raises
    ------
    InvalidVolume
        If their distance along an axis is not within `SPACING_MM`: metres or micrometres taken for millimetres.
    """
    lowest, highest = SPACING_MM
    if not all(lowest <= step <= highest for step in volume.spacing):
        spacing = " x ".join(f"{step:g}" for step in volume.spacing)
        raise InvalidVolume(model, f"voxels are {spacing} mm apart: {lowest:g} to {highest:g} mm is a patient's scan")


@dataclass(frozen=True, slots=True, eq=False)
class WorkingGrid:
    """One CT, turned and reduced.

    Attributes
    ----------
    source : highdicom.Volume
        The volume as it was given.
    hounsfield : ndarray of int16
        (k, j, i) to head, posterior and left, clipped to the 12 bit range of CT.
    factors : tuple of int
        Voxels averaged along k, j and i.
    reduced : ndarray of int16
        Block means of `hounsfield`.
    spacing_mm : tuple of float
        Of `reduced`.
    x_of_index : ndarray of float
        Patient coordinate x (to the left, mm) of a reduced voxel is
        ``x_of_index[:3] @ (k, j, i) + x_of_index[3]``.
    """

    source: hd.Volume
    hounsfield: NDArray[np.int16]
    factors: tuple[int, int, int]
    reduced: NDArray[np.int16]
    spacing_mm: Spacing
    x_of_index: NDArray[np.float64]

    @property
    def voxel_ml(self) -> float:
        """Millilitres in one reduced voxel."""
        return float(np.prod(self.spacing_mm)) / 1000.0

    def enlarge(self, array: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A reduced array on the turned full grid, each value repeated."""
        for axis, factor in enumerate(self.factors):
            if factor > 1:
                array = np.repeat(array, factor, axis=axis)
        k, j, i = self.hounsfield.shape
        return array[:k, :j, :i]

    def to_source(self, labels: NDArray[np.uint8]) -> hd.Volume:
        """Labels of the turned full grid, on the grid of the volume as it was given."""
        turned = self.source.to_patient_orientation(PATIENT_AXES).with_array(labels)
        back = turned.to_patient_orientation(self.source.get_closest_patient_orientation())
        return self.source.with_array(np.ascontiguousarray(back.array))

    def centroid_x_mm(self, mask: Mask) -> float:
        """Patient coordinate x (to the left) of a reduced mask's centre of mass; the mask is not empty."""
        index = [float(np.average(np.arange(n), weights=_profile(mask, axis))) for axis, n in enumerate(mask.shape)]
        return float(self.x_of_index[:3] @ np.array(index) + self.x_of_index[3])

    def right_of_mm(self, x_mm: float) -> Mask:
        """Reduced voxels (broadcast to the whole grid) on the patient's right of a sagittal plane."""
        k, j, i = np.ogrid[tuple(slice(0, n) for n in self.reduced.shape)]
        x = self.x_of_index[0] * k + self.x_of_index[1] * j + self.x_of_index[2] * i + self.x_of_index[3]
        return np.asarray(x < x_mm)


def working_grid(volume: hd.Volume, model: str) -> WorkingGrid:
    """The working grid of one CT.

    Parameters
    ----------
    volume : highdicom.Volume
        Array (k, j, i) in Hounsfield units, of any orientation; affine to LPS mm.
    model : str
        Name of the model that asks, for the error.

    Raises
    ------
    InvalidVolume
        If the array has channels, is empty, holds NaN, or shows no air; if its spacing is no patient's.
    """
    if volume.array.shape != volume.spatial_shape or volume.array.size == 0:
        raise InvalidVolume(model, f"array of shape {volume.array.shape}: one value for each voxel is needed")
    check_spacing(volume, model)
    turned = volume.to_patient_orientation(PATIENT_AXES)
    hounsfield = _as_hounsfield(turned.array, model)
    k, j, i = (max(1, round(TARGET_SPACING_MM / step)) for step in turned.spacing)
    affine = np.asarray(turned.affine, dtype=np.float64)
    factors = np.array([k, j, i], dtype=np.float64)
    x_of_index = np.empty(4)
    x_of_index[:3] = affine[0, :3] * factors
    x_of_index[3] = affine[0, 3] + affine[0, :3] @ ((factors - 1) / 2)
    spacing = tuple(float(step * factor) for step, factor in zip(turned.spacing, factors, strict=True))
    return WorkingGrid(
        source=volume,
        hounsfield=hounsfield,
        factors=(k, j, i),
        reduced=block_mean(hounsfield, (k, j, i)),
        spacing_mm=(spacing[0], spacing[1], spacing[2]),
        x_of_index=x_of_index,
    )


def block_mean(array: NDArray[np.int16], factors: tuple[int, int, int]) -> NDArray[np.int16]:
    """Means of blocks, rounded down; the last block of an axis is filled up with its last voxel."""
    total: NDArray[np.int32] | NDArray[np.int16] = array
    for axis, factor in enumerate(factors):
        if factor > 1:
            total = _block_sum(total, axis, factor)
    count = int(np.prod(factors))
    return total.astype(np.int16) if count == 1 else np.floor_divide(total, count).astype(np.int16)


def _block_sum(array: NDArray[np.int32] | NDArray[np.int16], axis: int, factor: int) -> NDArray[np.int32]:
    size = array.shape[axis]
    moved = np.moveaxis(array, axis, 0)
    total = np.zeros((-(-size // factor), *moved.shape[1:]), dtype=np.int32)
    for offset in range(factor):
        part = moved[offset::factor]
        total[: len(part)] += part
        if len(part) < len(total):
            total[-1] += moved[-1]
    return np.moveaxis(total, 0, axis)


def _as_hounsfield(array: NDArray[np.generic], model: str) -> NDArray[np.int16]:
    """Contiguous int16 within the range of CT."""
    values: NDArray[np.float32] = np.asarray(array)
    lowest, highest = float(values.min()), float(values.max())
    if not np.isfinite(lowest + highest):
        raise InvalidVolume(model, "the volume holds values that are not finite")
    if lowest > AIR_HU:
        raise InvalidVolume(model, f"lowest value {lowest:g}: there is no air, so that these are no Hounsfield units")
    if values.dtype.kind == "u":
        values = values.astype(np.int32)
    if values.dtype.kind == "f":
        values = np.rint(np.clip(values, LOWEST_HU, HIGHEST_HU))
    if lowest >= LOWEST_HU and highest <= HIGHEST_HU:
        return np.ascontiguousarray(values, dtype=np.int16)
    return np.ascontiguousarray(np.clip(values, LOWEST_HU, HIGHEST_HU), dtype=np.int16)


def _profile(mask: Mask, axis: int) -> NDArray[np.int64]:
    others = tuple(other for other in range(3) if other != axis)
    return np.asarray(np.count_nonzero(mask, axis=others))
