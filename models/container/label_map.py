"""Volumes and label maps as NIfTI files: how an image that knows no DICOM takes and gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import highdicom as hd
import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from numpy.typing import NDArray

from ..model import ModelError
from ..segmentation import Segment, Segmentation
from .card import Image

SAME_PLACE = 0.05
"""Corners of two grids that are one lie no farther apart than this part of a voxel."""
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


class InvalidResult(ModelError):
    """What an image wrote, and that is no segmentation of the series it was given."""

    code = "INVALID_RESULT"


def write_volume(volume: hd.Volume, path: Path) -> None:
    """Write a volume as NIfTI: axes (i, j, k), RAS mm; no voxel is resampled."""
    nib.save(nib.Nifti1Image(np.asarray(volume.array).transpose(2, 1, 0), _ras(volume.affine)), path)


def read_label_map(model: str, path: Path, volume: hd.Volume) -> NDArray[np.int64]:
    """Values (k, j, i) of a label map on the grid of `volume`.

    Its axes may be turned or swapped, as tools do that store every image in one orientation: it is turned back.

    Raises
    ------
    InvalidResult
        If it is no NIfTI file, has another grid, or holds values that are no labels.
    """
    try:
        image = nib.load(path)
    except (ImageFileError, OSError, ValueError) as exc:
        raise InvalidResult(model, f"the image wrote a file that is no NIfTI: {type(exc).__name__}") from exc
    if not isinstance(image, nib.Nifti1Image):
        raise InvalidResult(model, f"the image wrote a {type(image).__name__}, and no NIfTI")
    if len(image.shape) != volume.array.ndim:
        raise InvalidResult(model, f"the image wrote an array of shape {image.shape}: a label map has three axes")
    affine = LPS_TO_RAS @ image.affine
    affine[:, :3] = affine[:, 2::-1]
    grid = hd.VolumeGeometry(affine, image.shape[::-1], "PATIENT")
    turned = grid.to_patient_orientation(volume.get_closest_patient_orientation())
    _check_grid(model, turned, volume)
    try:
        values = np.asanyarray(image.dataobj)
    except (OSError, ValueError, EOFError) as exc:
        raise InvalidResult(model, f"the image wrote a NIfTI file that is damaged: {type(exc).__name__}") from exc
    if not np.array_equal(values, np.rint(values)) or values.min() < 0:
        raise InvalidResult(model, "the image wrote values that are no labels: whole numbers from 0 on are needed")
    written = hd.Volume(values.transpose(2, 1, 0).astype(np.int64), affine, "PATIENT")
    return np.ascontiguousarray(written.to_patient_orientation(volume.get_closest_patient_orientation()).array)


def from_label_map(
    model: str, image: Image, values: NDArray[np.int64], like: hd.Volume, segments: tuple[Segment, ...]
) -> Segmentation:
    """The card's segments, from the values of an image's label map.

    Raises
    ------
    InvalidResult
        If a value is neither on the card nor ignored by it.
    """
    found = np.unique(values)
    unknown = [int(value) for value in found if value != 0 and value not in image.numbers]
    if unknown:
        raise InvalidResult(model, f"the image wrote the label {unknown[0]}, which its card does not know")
    numbers = np.zeros(int(found[-1]) + 1, _smallest(segments))
    for value in found[found > 0]:
        numbers[value] = image.numbers[int(value)]
    return Segmentation(like.with_array(numbers[values]), segments)


def from_segments(
    model: str, image: Image, found: Segmentation, like: hd.Volume, segments: tuple[Segment, ...]
) -> Segmentation:
    """The card's segments, from those of an image's own segmentation, known by their labels.

    Raises
    ------
    InvalidResult
        If a label is neither on the card nor ignored by it; if segments share voxels, and those of the card do not.
    """
    numbers = np.zeros(len(found.segments) + 1, _smallest(segments))
    for segment in found.segments:
        if segment.label not in image.numbers:
            raise InvalidResult(model, f"the image wrote the segment {segment.label!r}, which its card does not know")
        numbers[segment.number] = image.numbers[segment.label]
    for outer in found.segments:
        number = int(numbers[outer.number])
        if number and not all(numbers[each] for each in outer.contains):
            name = segments[number - 1].name
            raise InvalidResult(model, f"{name} shares voxels with a segment that its card ignores")
        inner = {int(numbers[each]) for each in outer.contains} - {number}
        if number and not inner <= set(segments[number - 1].contains):
            other = segments[min(inner - set(segments[number - 1].contains)) - 1].name
            reason = f"{segments[number - 1].name} and {other} share voxels, but on its card it does not contain that"
            raise InvalidResult(model, reason)
    return Segmentation(like.with_array(numbers[found.labelmap.array]), segments)


def _smallest(segments: tuple[Segment, ...]) -> type[np.uint8] | type[np.uint16]:
    return np.uint8 if len(segments) <= np.iinfo(np.uint8).max else np.uint16


def _ras(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """From (i, j, k) to RAS mm, for an affine from (k, j, i) to LPS mm."""
    return LPS_TO_RAS @ affine[:, [2, 1, 0, 3]]


def _check_grid(model: str, grid: hd.VolumeGeometry, volume: hd.Volume) -> None:
    """Refuse a grid whose corners do not lie where those of the volume do."""
    if grid.spatial_shape != volume.spatial_shape:
        shapes = (" x ".join(map(str, shape)) for shape in (grid.spatial_shape, volume.spatial_shape))
        raise InvalidResult(model, "the image wrote another grid: {} voxels, the series has {}".format(*shapes))
    corners = np.array(np.meshgrid(*([0, size - 1] for size in volume.spatial_shape))).reshape(3, -1).T
    apart: Any = grid.map_indices_to_reference(corners) - volume.map_indices_to_reference(corners)
    farthest_mm = float(np.linalg.norm(apart, axis=1).max())
    if farthest_mm > SAME_PLACE * min(volume.spacing):
        raise InvalidResult(model, f"the image wrote another grid: it lies up to {farthest_mm:.3g} mm off the series'")
