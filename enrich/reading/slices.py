"""Slices of a series, told to be parallel and on one raster, and sorted along their normal."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .refusal import GeometryRefused, Refusal

MINIMUM_SLICES = 4
"""Fewer slices are no volume; the same minimum as dicom2nifti's."""

ORTHOGONALITY_TOLERANCE = 0.01
"""|row x column| may differ from 1 by this (IDC: orientationTolerance)."""

ORIENTATION_TOLERANCE = 1e-4
"""Direction cosines that differ by less are equal: 0.05 mm at the edge of a 500 mm field of view."""

PIXEL_SPACING_TOLERANCE = 1e-4
"""Pixel spacings whose relative difference is less are equal: the same 0.05 mm over 500 mm."""

NOT_SLICES = {"LOCALIZER": Refusal.LOCALIZER, "MIP": Refusal.PROJECTION}
"""What an Image Type value (0008,0008) may not contain, and the refusal for it."""


@dataclass(frozen=True, slots=True)
class Slice:
    """What the header says about the place of one frame (PS3.3 C.7.6.2, C.7.6.16.2).

    Attributes
    ----------
    frame_of_reference_uid : str
        Empty where the header has none.
    frame_number : int
        From 1; 1 for a single-frame instance.
    position_mm : tuple of float
        Image Position (Patient): centre of the first voxel, LPS.
    orientation : tuple of float
        Image Orientation (Patient): six cosines, of the row and of the column.
    pixel_spacing_mm : tuple of float
        Between rows, between columns.
    """

    series_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    frame_of_reference_uid: str
    image_type: tuple[str, ...]
    rows: int
    columns: int
    position_mm: tuple[float, float, float]
    orientation: tuple[float, float, float, float, float, float]
    pixel_spacing_mm: tuple[float, float]
    frame_number: int = 1

    @property
    def name(self) -> str:
        """How messages name it."""
        return f"instance {self.sop_instance_uid}" + (f" frame {self.frame_number}" if self.frame_number > 1 else "")


@dataclass(frozen=True, slots=True, eq=False)
class SliceStack:
    """Parallel slices on one raster, sorted along their normal; not yet known to be evenly stacked.

    Attributes
    ----------
    slices : tuple of Slice
        In ascending order along the normal.
    order : tuple of int
        Index of each in the sequence it was made from.
    row, column, normal : array (3,)
        Unit vectors in LPS: of ascending column index i, row index j and slice index k.
    along_mm : array (n,)
        Position of each slice along the normal.
    across_mm : array (n, 2)
        Position of each slice's first voxel within its plane: along the row, along the column.
    """

    slices: tuple[Slice, ...]
    order: tuple[int, ...]
    row: NDArray[np.float64]
    column: NDArray[np.float64]
    normal: NDArray[np.float64]
    along_mm: NDArray[np.float64]
    across_mm: NDArray[np.float64]

    @property
    def gaps_mm(self) -> NDArray[np.float64]:
        """Distances between neighbours along the normal, (n - 1,)."""
        return np.diff(self.along_mm)


def stack_slices(slices: Sequence[Slice]) -> SliceStack:
    """The slices sorted along their common normal.

    Raises
    ------
    GeometryRefused
        If a slice is none, or they do not share raster, orientation and frame of reference:
        all that no resampling along the stack can mend.
    """
    if not slices:
        raise GeometryRefused("", Refusal.TOO_FEW_SLICES, "no slices")
    check_image_types((s.series_instance_uid, s.name, s.image_type) for s in slices)
    for one in slices:
        _check_plane(one)
    _check_common(slices)
    if len(slices) < MINIMUM_SLICES:
        detail = f"{len(slices)} slices, a volume needs at least {MINIMUM_SLICES}"
        raise GeometryRefused(slices[0].series_instance_uid, Refusal.TOO_FEW_SLICES, detail)
    row, column, normal = _axes(slices[0])
    positions = np.array([s.position_mm for s in slices])
    order = np.argsort(positions @ normal, kind="stable")
    positions = positions[order]
    return SliceStack(
        slices=tuple(slices[n] for n in order),
        order=tuple(int(n) for n in order),
        row=row,
        column=column,
        normal=normal,
        along_mm=positions @ normal,
        across_mm=positions @ np.stack([row, column], axis=1),
    )


def check_image_types(images: Iterable[tuple[str, str, tuple[str, ...]]]) -> None:
    """Refuse localizers and projections among (Series Instance UID, name, Image Type) of images."""
    for series_instance_uid, name, image_type in images:
        for word, refusal in NOT_SLICES.items():
            if any(word in value for value in image_type):
                detail = f"{name} has Image Type {'/'.join(image_type)}"
                raise GeometryRefused(series_instance_uid, refusal, detail)


def _check_plane(one: Slice) -> None:
    values = (*one.position_mm, *one.orientation, *one.pixel_spacing_mm)
    fault = None
    if not all(math.isfinite(value) for value in values):
        fault = "a position, orientation or spacing that is no number"
    elif min(one.pixel_spacing_mm) <= 0:
        fault = f"Pixel Spacing {one.pixel_spacing_mm[0]:g}/{one.pixel_spacing_mm[1]:g}, which must be positive"
    elif one.rows < 1 or one.columns < 1:
        fault = f"a matrix of {one.rows}x{one.columns}"
    else:
        area = float(np.linalg.norm(np.cross(one.orientation[:3], one.orientation[3:])))
        if abs(area - 1) > ORTHOGONALITY_TOLERANCE:
            fault = f"an Image Orientation whose row and column span {area:.3f} instead of 1"
    if fault:
        raise GeometryRefused(one.series_instance_uid, Refusal.INVALID_ATTRIBUTE, f"{one.name} has {fault}")


def _check_common(slices: Sequence[Slice]) -> None:
    _same(slices, Refusal.MIXED_SERIES, "Series Instance UID", lambda s: s.series_instance_uid)
    _same(slices, Refusal.MIXED_SOP_CLASS, "SOP Class UID", lambda s: s.sop_class_uid)
    _same(slices, Refusal.MIXED_FRAME_OF_REFERENCE, "Frame of Reference UID", lambda s: s.frame_of_reference_uid)
    _same(slices, Refusal.MIXED_MATRIX, "matrix", lambda s: (s.rows, s.columns))
    orientation = np.array([s.orientation for s in slices])
    _near(slices, Refusal.MIXED_ORIENTATION, "Image Orientation", orientation, ORIENTATION_TOLERANCE)
    spacing = np.array([s.pixel_spacing_mm for s in slices])
    _near(slices, Refusal.MIXED_SPACING, "Pixel Spacing", spacing, PIXEL_SPACING_TOLERANCE * float(spacing.min()))


def _same(slices: Sequence[Slice], refusal: Refusal, what: str, key: Callable[[Slice], Hashable]) -> None:
    counts = Counter(key(s) for s in slices)
    if len(counts) == 1:
        return
    usual = counts.most_common(1)[0]
    other = next(s for s in slices if key(s) != usual[0])
    detail = f"{len(slices) - usual[1]} of {len(slices)} slices have another {what}, first {other.name}"
    raise GeometryRefused(slices[0].series_instance_uid, refusal, detail)


def _near(slices: Sequence[Slice], refusal: Refusal, what: str, values: NDArray[np.float64], tolerance: float) -> None:
    cells = [tuple(row) for row in np.rint(values / tolerance).tolist()]
    usual = values[cells.index(Counter(cells).most_common(1)[0][0])]
    differs = (np.abs(values - usual) > tolerance).any(axis=1)
    if not differs.any():
        return
    other = slices[int(differs.argmax())]
    detail = f"{int(differs.sum())} of {len(slices)} slices have another {what}, first {other.name}"
    raise GeometryRefused(slices[0].series_instance_uid, refusal, detail)


def _axes(one: Slice) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Row, column and normal as orthonormal vectors: written cosines are rounded."""
    row = np.array(one.orientation[:3]) / np.linalg.norm(one.orientation[:3])
    column = np.array(one.orientation[3:])
    column = column - (column @ row) * row
    column /= np.linalg.norm(column)
    return row, column, np.cross(row, column)
