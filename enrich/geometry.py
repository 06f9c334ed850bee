"""The gate: whether slices form one regular volume, decided from their headers alone.

The rule is that of IDC's `volume_geometry_index` (ImagingDataCommons/idc-index-data,
``scripts/sql/volume_geometry_index.sql`` at 506c9d8): one orientation, one pixel spacing, one
matrix, orthogonal direction cosines, unique positions along the normal, position within the
plane constant to 0.1 mm, each gap near the span divided by the number of gaps, no image with
LOCALIZER or MIP in its Image Type. IDC allows gaps to differ by 0.2 mm; here it is 1 % of the
spacing, as in highdicom's reader, with a floor for positions written with two decimals.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .reading.refusal import GeometryRefused, Refusal
from .reading.slices import Slice, SliceStack, stack_slices

__all__ = [
    "GeometryRefused",
    "Refusal",
    "Slice",
    "SliceGeometry",
    "SliceStack",
    "check_geometry",
    "check_instances",
    "check_stack",
    "grid_of",
    "stack_slices",
    "tilt_degrees",
    "uneven",
]

SLICE_GAP_TOLERANCE = 0.01
"""Gaps may differ from the mean gap by this part of it."""

SLICE_GAP_TOLERANCE_MM = 0.01
"""Gaps that differ by no more than this, in mm, are even whatever their size: positions are often rounded so."""

DUPLICATE_DISTANCE_MM = 0.001
"""Slices closer than this, in mm along the normal, are at one position."""

_ROUNDING = 1e-6
"""Relative room for the rounding of binary fractions: 0.31 - 0.30 exceeds 0.01."""

IN_PLANE_TOLERANCE_MM = 0.1
"""A slice may be shifted in its plane by less than this, in mm, against any other (IDC: inPlaneTolerance)."""


@dataclass(frozen=True, slots=True, eq=False)
class SliceGeometry:
    """A regular grid of voxels.

    Attributes
    ----------
    order : tuple of int
        For each k the index of its slice in the checked sequence.
    affine : array (4, 4)
        From (k, j, i, 1) to LPS mm.
    shape : tuple of int
        (k, j, i).
    """

    order: tuple[int, ...]
    affine: NDArray[np.float64]
    shape: tuple[int, int, int]
    frame_of_reference_uid: str


def check_geometry(slices: Sequence[Slice]) -> SliceGeometry:
    """The regular grid that the slices form.

    Raises
    ------
    GeometryRefused
        With the code of the first rule that they break.
    """
    stack = stack_slices(slices)
    check_stack(stack)
    return grid_of(stack)


def check_stack(stack: SliceStack) -> None:
    """Refuse a stack that is not even: duplicates, tilt, missing slices, uneven gaps; or that lies nowhere."""
    check_instances(stack)
    _check_duplicates(stack)
    _check_straight(stack)
    _check_gaps(stack)
    first = stack.slices[0]
    if not first.frame_of_reference_uid:
        raise GeometryRefused(
            first.series_instance_uid,
            Refusal.MISSING_ATTRIBUTE,
            f"instance {first.sop_instance_uid} has no FrameOfReferenceUID",
        )


def check_instances(stack: SliceStack) -> None:
    """Refuse a SOP Instance UID that stands in two instances."""
    counts = Counter((s.sop_instance_uid, s.frame_number) for s in stack.slices)
    (uid, _), number = counts.most_common(1)[0]
    if number > 1:
        detail = f"SOP Instance UID {uid} stands in {number} instances"
        raise GeometryRefused(stack.slices[0].series_instance_uid, Refusal.DUPLICATE_INSTANCE, detail)


def grid_of(stack: SliceStack) -> SliceGeometry:
    """The grid of an even stack; its spacing is the span divided by the number of gaps."""
    first, count = stack.slices[0], len(stack.slices)
    spacing = (stack.along_mm[-1] - stack.along_mm[0]) / (count - 1)
    affine = np.eye(4)
    affine[:3, 0] = stack.normal * spacing
    affine[:3, 1] = stack.column * first.pixel_spacing_mm[0]
    affine[:3, 2] = stack.row * first.pixel_spacing_mm[1]
    affine[:3, 3] = first.position_mm
    return SliceGeometry(stack.order, affine, (count, first.rows, first.columns), first.frame_of_reference_uid)


def tilt_degrees(stack: SliceStack) -> float:
    """Angle between the direction of stacking and the normal; 0 for a straight stack.

    Raises
    ------
    GeometryRefused
        If the slices are shifted in their planes, but not along one straight line.
    """
    spread = np.ptp(stack.across_mm, axis=0)
    if (spread < IN_PLANE_TOLERANCE_MM).all():
        return 0.0
    design = np.stack([stack.along_mm - stack.along_mm.mean(), np.ones(len(stack.slices))], axis=1)
    fit = np.linalg.lstsq(design, stack.across_mm, rcond=None)[0]
    off_line = np.abs(stack.across_mm - design @ fit).max(axis=1)
    if off_line.max() >= IN_PLANE_TOLERANCE_MM:
        worst = stack.slices[int(off_line.argmax())]
        detail = f"{worst.name} lies {off_line.max():.2f} mm off the line through the other slices"
        raise GeometryRefused(worst.series_instance_uid, Refusal.SCATTERED_POSITIONS, detail)
    return math.degrees(math.atan(float(np.hypot(*fit[0]))))


def uneven(gaps_mm: NDArray[np.float64]) -> bool:
    """Whether gaps differ from their mean by more than the tolerance."""
    mean = float(gaps_mm.mean())
    tolerance = max(SLICE_GAP_TOLERANCE * mean, SLICE_GAP_TOLERANCE_MM)
    return bool(np.abs(gaps_mm - mean).max() > tolerance * (1 + _ROUNDING))


def _check_duplicates(stack: SliceStack) -> None:
    close = np.flatnonzero(stack.gaps_mm < DUPLICATE_DISTANCE_MM)
    if close.size:
        one, other = stack.slices[int(close[0])], stack.slices[int(close[0]) + 1]
        detail = f"{close.size} slices lie where another does, first {one.name} and {other.name}"
        raise GeometryRefused(one.series_instance_uid, Refusal.DUPLICATE_POSITION, detail)


def _check_straight(stack: SliceStack) -> None:
    tilt = tilt_degrees(stack)
    if tilt:
        detail = f"slices are stacked at {tilt:.2f} degrees to their normal, from {stack.slices[0].name} on"
        raise GeometryRefused(stack.slices[0].series_instance_uid, Refusal.GANTRY_TILT, detail)


def _check_gaps(stack: SliceStack) -> None:
    gaps = stack.gaps_mm
    if not uneven(gaps):
        return
    usual = float(np.median(gaps))
    multiple = np.rint(gaps / usual)
    tolerance = np.maximum(SLICE_GAP_TOLERANCE * usual * np.maximum(multiple, 1), 2 * SLICE_GAP_TOLERANCE_MM)
    fits = (np.abs(gaps - multiple * usual) <= tolerance).all() and (multiple >= 1).all()
    worst = int(np.abs(gaps - usual).argmax())
    after = stack.slices[worst]
    if fits and (multiple > 1).any():
        missing = int((multiple - 1).sum())
        detail = f"{missing} slices are missing: a gap of {gaps[worst]:.3f} mm, usually {usual:.3f}, after {after.name}"
        raise GeometryRefused(after.series_instance_uid, Refusal.MISSING_SLICE, detail)
    detail = (
        f"gaps are {gaps.min():.3f} to {gaps.max():.3f} mm, usually {usual:.3f}; {gaps[worst]:.3f} after {after.name}"
    )
    raise GeometryRefused(after.series_instance_uid, Refusal.UNEVEN_SPACING, detail)
