"""Where an expert's voxels, points and slices lie on the image's grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom import Dataset
from scipy import ndimage

from ...enrich.series import SourceImage
from .errors import OtherFrameOfReference, OtherPatient, OtherSeries, OutsideImage
from .packed_mask import NOWHERE, Box, PackedMask, box_of, nothing, pack
from .reference import Subject

GRID_TOLERANCE = 0.01
"""Voxels that lie this close to the image's, in parts of a voxel over the whole grid, are the image's."""
OFF_SLICE_MM = 0.1
"""A slice named by its instance may lie this far, in mm, from the slice of the grid (IDC: inPlaneTolerance)."""


def check_subject(source: str, subject: Subject, image: SourceImage) -> None:
    """Refuse a reference of another patient, series or frame of reference.

    Raises
    ------
    OtherPatient, OtherSeries, OtherFrameOfReference
        The message names no patient.
    """
    header = image.headers[0]
    patient = str(header.get("PatientID") or "")
    if subject.patient_id and patient and subject.patient_id != patient:
        raise OtherPatient(source, "its Patient ID (0010,0020) is not that of the image")
    series = image.series.series_instance_uid
    if subject.series_instance_uids and series not in subject.series_instance_uids:
        raise OtherSeries(source, f"it refers to {_some(subject.series_instance_uids)} and not to series {series}")
    frame = image.volume.frame_of_reference_uid or ""
    if subject.frame_of_reference_uid and subject.frame_of_reference_uid != frame:
        told = f"its frame of reference is {subject.frame_of_reference_uid} and that of the image {frame or 'none'}"
        raise OtherFrameOfReference(source, f"{told}; register one to the other first")


def _some(uids: frozenset[str]) -> str:
    first, *rest = sorted(uids)
    return f"series {first} and {len(rest)} more" if rest else f"series {first}"


@dataclass(frozen=True, eq=False)
class InstancePlaces:
    """Slices of an image by SOP Instance UID, for what was drawn on single instances.

    Attributes
    ----------
    source : str
        The reference, named by errors.
    """

    source: str
    image: SourceImage

    @property
    def geometry(self) -> hd.VolumeGeometry:
        """Grid of the image."""
        return self.image.volume.get_geometry()

    @cached_property
    def _instances(self) -> dict[str, Path]:
        return {each.sop_instance_uid: each.path for each in self.image.series.instances}

    @cached_property
    def _slices(self) -> dict[str, int]:
        """Slice of each single-frame instance that the volume was read from."""
        if len(self.image.headers) != len(self.image.frame_numbers):
            return {}
        placed = ((str(h.SOPInstanceUID), self._slice_at(h)) for h in self.image.headers)
        return {uid: k for uid, k in placed if k is not None}

    def holds(self, sop_instance_uid: str, series_instance_uid: str = "") -> bool:
        """Whether an instance is one of the image's, or is said to be of its series."""
        return sop_instance_uid in self._instances or series_instance_uid == self.image.series.series_instance_uid

    def slice_of(self, sop_instance_uid: str) -> int:
        """Slice k of an instance; of one that is there twice and was passed over, that of its twin.

        Raises
        ------
        OutsideImage
            If the series has no such instance, or it lies on no slice of the volume.
        """
        if sop_instance_uid in self._slices:
            return self._slices[sop_instance_uid]
        if sop_instance_uid not in self._instances:
            raise OutsideImage(self.source, f"it names instance {sop_instance_uid}, which the series does not have")
        header = pydicom.dcmread(self._instances[sop_instance_uid], stop_before_pixels=True)
        k = self._slice_at(header) if "ImagePositionPatient" in header else None
        if k is None:
            raise OutsideImage(self.source, f"instance {sop_instance_uid} lies on no slice of the volume")
        return k

    def positions(self, k: int, points: NDArray[np.float64]) -> list[tuple[float, float, float]]:
        """Places, LPS mm, of points (n, 2) (row, column) of a slice.

        Raises
        ------
        OutsideImage
            If one lies beyond the slice.
        """
        indices = np.column_stack((np.full(len(points), float(k)), points))
        self.check_inside([(float(a), float(b), float(c)) for a, b, c in indices])
        return [(float(x), float(y), float(z)) for x, y, z in self.geometry.map_indices_to_reference(indices)]

    def check_inside(self, indices: Sequence[tuple[float, float, float]]) -> None:
        """Refuse continuous indices (k, j, i) beyond the image's outer faces.

        Raises
        ------
        OutsideImage
            If there is one.
        """
        limit = np.array(self.image.volume.spatial_shape) - 0.5 + GRID_TOLERANCE
        for index in np.array(indices):
            if (index < -0.5 - GRID_TOLERANCE).any() or (index > limit).any():
                k, j, i = (round(float(at), 1) for at in index)
                raise OutsideImage(self.source, f"a mark at slice {k}, row {j}, column {i} lies outside the image")

    def _slice_at(self, header: Dataset) -> int | None:
        index = self.image.volume.map_reference_to_indices(np.array([header.ImagePositionPatient], float))[0]
        k = int(np.rint(index[0]))
        off_mm = np.abs(index - [k, 0, 0]) * self.image.volume.spacing
        return k if off_mm.max() <= OFF_SLICE_MM and 0 <= k < self.image.volume.spatial_shape[0] else None


def place_labels(
    source: str,
    names: Mapping[int, str],
    labels: NDArray[np.integer],
    affine: NDArray[np.float64],
    geometry: hd.VolumeGeometry,
) -> dict[int, PackedMask]:
    """Masks of a label map on the image's grid, those of numbers that it does not hold included.

    Each voxel of the image has the value of the label map's voxel that holds its centre. Where the
    voxels are the same (up to a shift by whole voxels, turned or mirrored axes) that is an exact copy.

    Parameters
    ----------
    names : mapping of int to str
        Number and name of each structure.
    labels : ndarray of integers, three axes
        In any order of axes.
    affine : ndarray (4, 4)
        From the label map's indices to LPS mm.
    geometry : VolumeGeometry
        Of the image.

    Raises
    ------
    OutsideImage
        If voxels of a structure lie, with their centres, where the image has none.
    """
    boxes = ndimage.find_objects(labels, max(names, default=0))
    masks = {}
    for number, name in names.items():
        box = boxes[number - 1]
        if box is None:
            masks[number] = nothing(geometry.spatial_shape)
        else:
            k, j, i = box
            masks[number] = _cut_placed(source, name, labels[box] == number, (k, j, i), affine, geometry)
    return masks


def place_mask(
    source: str, name: str, mask: NDArray[np.bool_], affine: NDArray[np.float64], geometry: hd.VolumeGeometry
) -> PackedMask:
    """One mask (three axes, in any order) on the image's grid, as `place_labels` does it."""
    box = box_of(mask)
    if box == NOWHERE:
        return nothing(geometry.spatial_shape)
    return _cut_placed(source, name, mask[box], box, affine, geometry)


def on_voxels(affine: NDArray[np.float64], shape: tuple[int, int, int], geometry: hd.VolumeGeometry) -> bool:
    """Whether an array of this shape, by its affine to LPS mm, has its voxels where the image has its own."""
    return _is_turned(_snapped(np.linalg.inv(geometry.affine) @ affine, shape))


def _is_turned(to_image: NDArray[np.float64]) -> bool:
    """Whether a matrix of indices to those of the image swaps, mirrors and shifts axes by whole voxels, no more."""
    turn = np.abs(to_image[:3, :3])
    ones = ((turn == 0) | (turn == 1)).all() and (turn.sum(axis=0) == 1).all()
    return bool(ones and (to_image == np.rint(to_image)).all())


def _cut_placed(
    source: str, name: str, cut: NDArray[np.bool_], box: Box, affine: NDArray[np.float64], geometry: hd.VolumeGeometry
) -> PackedMask:
    """A mask cut to its box, by the affine of the whole array to LPS mm."""
    to_image = np.linalg.inv(geometry.affine) @ affine
    to_image[:3, 3] += to_image[:3, :3] @ [part.start for part in box]
    return _placed(source, name, cut, to_image, geometry.spatial_shape)


def _placed(
    source: str, name: str, cut: NDArray[np.bool_], to_image: NDArray[np.float64], shape: tuple[int, int, int]
) -> PackedMask:
    """A mask cut to its box, by its matrix of indices to those of the image."""
    to_image = _snapped(to_image, cut.shape)
    _check_inside(source, name, cut, to_image, shape)
    low, high = _reach(to_image, cut.shape)
    if _is_turned(to_image):
        axes = np.abs(to_image[:3, :3]).argmax(axis=1)
        turned = cut.transpose(axes)
        mirrored = tuple(n for n in range(3) if to_image[n, axes[n]] < 0)
        k, j, i = (int(at) for at in np.rint(low + 0.5))
        return pack(np.ascontiguousarray(np.flip(turned, mirrored)), shape, (k, j, i))
    first = np.maximum(np.ceil(low - GRID_TOLERANCE), 0).astype(int)
    last = np.minimum(np.floor(high + GRID_TOLERANCE), np.array(shape) - 1).astype(int)
    if (last < first).any():
        return nothing(shape)
    to_mask = np.linalg.inv(to_image)
    part = ndimage.affine_transform(
        cut.view(np.uint8),
        to_mask[:3, :3],
        to_mask[:3, 3] + to_mask[:3, :3] @ first,
        output_shape=tuple(last - first + 1),
        order=0,
        mode="grid-constant",
    )
    k, j, i = (int(at) for at in first)
    return pack(part.astype(np.bool_), shape, (k, j, i))


def _snapped(matrix: NDArray[np.float64], shape: Sequence[int]) -> NDArray[np.float64]:
    """The matrix in whole numbers where that moves no voxel by more than the tolerance."""
    whole = np.rint(matrix)
    extent = np.append(np.array(shape, float), 1.0)
    return whole if (np.abs(matrix - whole)[:3] * extent).max() <= GRID_TOLERANCE else matrix


def _reach(matrix: NDArray[np.float64], shape: Sequence[int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lowest and highest index that the outer faces of a box of voxels reach."""
    corners = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in shape], indexing="ij")).reshape(3, -1)
    reached = matrix[:3, :3] @ corners + matrix[:3, 3:]
    return reached.min(axis=1), reached.max(axis=1)


def _check_inside(
    source: str, name: str, cut: NDArray[np.bool_], to_image: NDArray[np.float64], shape: tuple[int, int, int]
) -> None:
    """Refuse voxels whose centres lie beyond the image's outer faces."""
    low, high = _reach(to_image, cut.shape)
    if (low >= -0.5 - GRID_TOLERANCE).all() and (high <= np.array(shape) - 0.5 + GRID_TOLERANCE).all():
        return
    centres = to_image[:3, :3] @ np.array(np.nonzero(cut), float) + to_image[:3, 3:]
    limit = np.array(shape)[:, None] - 0.5 + GRID_TOLERANCE
    outside = int(((centres < -0.5 - GRID_TOLERANCE) | (centres > limit)).any(axis=0).sum())
    if outside:
        raise OutsideImage(source, f"{outside} of {centres.shape[1]} voxels of {name} lie outside the image")


def check_points_inside(source: str, name: str, points_mm: NDArray[np.float64], geometry: hd.VolumeGeometry) -> None:
    """Refuse points (n, 3), LPS mm, beyond the image's outer faces.

    Raises
    ------
    OutsideImage
        It names the structure.
    """
    indices = geometry.map_reference_to_indices(points_mm)
    limit = np.array(geometry.spatial_shape) - 0.5 + GRID_TOLERANCE
    outside = int(((indices < -0.5 - GRID_TOLERANCE) | (indices > limit)).any(axis=1).sum())
    if outside:
        raise OutsideImage(source, f"{outside} of {len(points_mm)} points of {name} lie outside the image")
