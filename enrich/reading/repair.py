"""Repair of stacks that are not regular: equal duplicates dropped, tilt straightened, gaps made even."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..geometry import DUPLICATE_DISTANCE_MM, check_instances, tilt_degrees, uneven
from ..identity import derived_uid
from .refusal import GeometryRefused, Refusal
from .slices import MINIMUM_SLICES, SliceStack

MAXIMUM_TILT_DEGREES = 45.0
"""More is no gantry tilt (CT gantries reach 30 degrees) but a fault of the headers."""

MAXIMUM_GAP = 3.5
"""A gap of more than this many usual gaps is not filled: what lies between was not imaged."""


@dataclass(frozen=True, slots=True, eq=False)
class Repaired:
    """A stack and its voxels after repair.

    Attributes
    ----------
    array : array (k, j, i)
        On the stack's slices; after gaps were evened out, on more or fewer planes than slices were read.
    kept : tuple of int
        Indices of the slices read that were not dropped as duplicates.
    repairs : tuple of str
        What was changed, one sentence each.
    """

    stack: SliceStack
    array: NDArray[Any]
    kept: tuple[int, ...]
    repairs: tuple[str, ...]


def check_repairable(stack: SliceStack) -> None:
    """Refuse, before any pixel is decoded, a stack that resampling cannot make regular.

    Raises
    ------
    GeometryRefused
        SCATTERED_POSITIONS; GANTRY_TILT beyond `MAXIMUM_TILT_DEGREES`; MISSING_SLICE beyond `MAXIMUM_GAP`.
    """
    series = stack.slices[0].series_instance_uid
    tilt = tilt_degrees(stack)
    if tilt > MAXIMUM_TILT_DEGREES:
        detail = f"slices are stacked at {tilt:.2f} degrees to their normal, repaired up to {MAXIMUM_TILT_DEGREES:g}"
        raise GeometryRefused(series, Refusal.GANTRY_TILT, detail)
    gaps = stack.gaps_mm[stack.gaps_mm >= DUPLICATE_DISTANCE_MM]
    if not gaps.size:
        raise GeometryRefused(series, Refusal.DUPLICATE_POSITION, "all slices lie at one position")
    usual = float(np.median(gaps))
    if gaps.max() > MAXIMUM_GAP * usual:
        detail = f"a gap of {gaps.max():.3f} mm, usually {usual:.3f}, is filled only up to {MAXIMUM_GAP:g} usual gaps"
        raise GeometryRefused(series, Refusal.MISSING_SLICE, detail)


def repair_stack(stack: SliceStack, array: NDArray[Any]) -> Repaired:
    """The stack made regular; unchanged and without repairs if it was.

    Parameters
    ----------
    stack : SliceStack
        Passed by `check_repairable`.
    array : array (k, j, i)
        Rescaled values, in the order of the stack.

    Raises
    ------
    GeometryRefused
        DUPLICATE_POSITION, if slices at one position differ in their pixels;
        TOO_FEW_SLICES, if too few differ; DUPLICATE_INSTANCE, if two different slices bear one UID.
    """
    repairs: list[str] = []
    kept = tuple(range(len(stack.slices)))
    if (stack.gaps_mm < DUPLICATE_DISTANCE_MM).any():
        kept = _unique(stack, array)
        repairs.append(f"{len(stack.slices) - len(kept)} slices dropped: equal in position and pixels to others.")
        stack, array = _select(stack, kept), array[list(kept)]
    check_instances(stack)
    if tilt := tilt_degrees(stack):
        stack, array, sentence = _straighten(stack, array, tilt)
        repairs.append(sentence)
    if uneven(stack.gaps_mm):
        stack, array, sentence = _even_out(stack, array)
        repairs.append(sentence)
    if not stack.slices[0].frame_of_reference_uid:
        stack, sentence = _place(stack)
        repairs.append(sentence)
    return Repaired(stack, array, kept, tuple(repairs))


def _unique(stack: SliceStack, array: NDArray[Any]) -> tuple[int, ...]:
    """Indices of slices without those whose predecessor has the same position and pixels."""
    kept = [0]
    for k in range(1, len(stack.slices)):
        if stack.along_mm[k] - stack.along_mm[kept[-1]] >= DUPLICATE_DISTANCE_MM:
            kept.append(k)
        elif not np.array_equal(array[k], array[kept[-1]]):
            one, other = stack.slices[kept[-1]], stack.slices[k]
            detail = f"{one.name} and {other.name} lie at one position and differ in their pixels"
            raise GeometryRefused(one.series_instance_uid, Refusal.DUPLICATE_POSITION, detail)
    if len(kept) < MINIMUM_SLICES:
        detail = f"{len(kept)} slices without duplicates, a volume needs at least {MINIMUM_SLICES}"
        raise GeometryRefused(stack.slices[0].series_instance_uid, Refusal.TOO_FEW_SLICES, detail)
    return tuple(kept)


def _select(stack: SliceStack, kept: tuple[int, ...]) -> SliceStack:
    index = list(kept)
    return replace(
        stack,
        slices=tuple(stack.slices[k] for k in kept),
        order=tuple(stack.order[k] for k in kept),
        along_mm=stack.along_mm[index],
        across_mm=stack.across_mm[index],
    )


def _straighten(stack: SliceStack, array: NDArray[Any], tilt: float) -> tuple[SliceStack, NDArray[Any], str]:
    """Each slice shifted within its plane, by linear interpolation, so that the stack rises along its normal.

    The planes stay where they are: slice k of the result lies in the plane of slice k read. The
    matrix grows to hold every shifted slice; new voxels take the least value of the volume.
    """
    first = stack.slices[0]
    # A tenth of a second to import, and few series need it.
    from scipy import ndimage

    spacing = np.array([first.pixel_spacing_mm[1], first.pixel_spacing_mm[0]])
    corner = stack.across_mm.min(axis=0)
    shifts = (stack.across_mm - corner) / spacing
    grown = np.ceil(shifts.max(axis=0) - 1e-6).astype(int)
    rows, columns = first.rows + int(grown[1]), first.columns + int(grown[0])
    fill = array.min()
    straight = np.empty((len(array), rows, columns), array.dtype)
    for k, plane in enumerate(array):
        canvas = np.full((rows, columns), fill, np.float32)
        canvas[: first.rows, : first.columns] = plane
        moved = ndimage.shift(canvas, shifts[k, ::-1], order=1, mode="constant", cval=float(fill))
        straight[k] = _as_type(moved, array.dtype)
    along = np.outer(stack.along_mm, stack.normal)
    positions = along + corner @ np.stack([stack.row, stack.column])
    slices = tuple(
        replace(s, rows=rows, columns=columns, position_mm=(float(p[0]), float(p[1]), float(p[2])))
        for s, p in zip(stack.slices, positions, strict=True)
    )
    sentence = (
        f"Gantry tilt of {tilt:.2f} degrees straightened: slices shifted in their planes by up to "
        f"{np.hypot(*np.ptp(stack.across_mm, axis=0)):.2f} mm with linear interpolation, "
        f"matrix {first.rows}x{first.columns} made {rows}x{columns}."
    )
    return replace(stack, slices=slices, across_mm=np.broadcast_to(corner, stack.across_mm.shape)), straight, sentence


def _even_out(stack: SliceStack, array: NDArray[Any]) -> tuple[SliceStack, NDArray[Any], str]:
    """Planes at even gaps near the usual one, between the first and last slice, by linear interpolation."""
    gaps = stack.gaps_mm
    span = float(stack.along_mm[-1] - stack.along_mm[0])
    count = max(round(span / float(np.median(gaps))), 1) + 1
    planes = np.linspace(stack.along_mm[0], stack.along_mm[-1], count)
    below = np.clip(np.searchsorted(stack.along_mm, planes, side="right") - 1, 0, len(gaps) - 1)
    weights = (planes - stack.along_mm[below]) / gaps[below]
    even = np.empty((count, *array.shape[1:]), array.dtype)
    for k, (lower, weight) in enumerate(zip(below, weights, strict=True)):
        mixed = array[lower] * np.float32(1 - weight) + array[lower + 1] * np.float32(weight)
        even[k] = _as_type(mixed, array.dtype)
    sentence = (
        f"Gaps of {gaps.min():.3f} to {gaps.max():.3f} mm made even at {span / (count - 1):.3f} mm "
        f"by linear interpolation: {len(array)} slices read, {count} in the volume."
    )
    nearest = [int(n) for n in np.where(weights < 0.5, below, below + 1)]  # noqa: PLR2004
    moved = np.outer(planes - stack.along_mm[nearest], stack.normal) + [stack.slices[n].position_mm for n in nearest]
    slices = tuple(
        replace(stack.slices[n], position_mm=(float(p[0]), float(p[1]), float(p[2])))
        for n, p in zip(nearest, moved, strict=True)
    )
    order = tuple(stack.order[n] for n in nearest)
    return (
        replace(stack, slices=slices, order=order, along_mm=planes, across_mm=stack.across_mm[nearest]),
        even,
        sentence,
    )


def _place(stack: SliceStack) -> tuple[SliceStack, str]:
    """A frame of reference of the series' own, where its headers name none."""
    uid = derived_uid(stack.slices[0].series_instance_uid, "frame_of_reference")
    slices = tuple(replace(one, frame_of_reference_uid=uid) for one in stack.slices)
    return replace(
        stack, slices=slices
    ), f"No Frame of Reference UID was given: {uid}, derived from the series, stands for it."


def _as_type(values: NDArray[np.floating], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Interpolated values in the array's type: rounded where it holds integers."""
    return np.rint(values).astype(dtype) if np.issubdtype(dtype, np.integer) else values.astype(dtype)
