"""Series, and the volume read from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from .geometry import check_stack, grid_of
from .reading.frames import Frame, frames_of, is_multiframe
from .reading.pixels import ImageFile, check_pixel_format, decode_frames, open_image
from .reading.refusal import GeometryRefused, Refusal
from .reading.repair import Repaired, check_repairable, repair_stack
from .reading.rescale import fits_int16, is_integral, rescale_into
from .reading.slices import stack_slices


@dataclass(frozen=True, slots=True)
class Instance:
    """One DICOM file of a series, on this machine's disk."""

    sop_class_uid: str
    sop_instance_uid: str
    sha256: str
    """Of the file's bytes."""
    bytes: int
    path: Path


@dataclass(frozen=True, slots=True)
class Series:
    """A series whose instances lie on this machine's disk.

    Raises its errors when read, not when made: a bad instance is still an instance.
    """

    study_instance_uid: str
    series_instance_uid: str
    modality: str
    instances: tuple[Instance, ...]


@dataclass(frozen=True, slots=True, eq=False)
class SourceImage:
    """A series read: its volume, and the headers its results refer to.

    Attributes
    ----------
    volume : highdicom.Volume
        Array (k, j, i), int16 kept as int16 (rescaled values: HU for CT), affine to LPS mm;
        k ascends along the slice normal, row x column. Pixel padding is rescaled like any other value.
    headers : tuple of pydicom.Dataset
        Single-frame: one data set per slice without pixel data, in the order of k; where a repair
        made gaps even, one per slice read, which is not one per k.
        Enhanced multi-frame: one data set.
    repairs : tuple of str
        What `--repair` changed, one sentence each; empty if nothing.
    frame_numbers : tuple of int
        Frame number, from 1, of each slice read, ascending along the normal; all 1 for single-frame.
    """

    series: Series
    volume: hd.Volume
    headers: tuple[Dataset, ...]
    repairs: tuple[str, ...] = ()
    frame_numbers: tuple[int, ...] = ()


def read_volume(series: Series, *, repair: bool = False) -> SourceImage:
    """The volume of a series whose slices form a regular grid.

    Reads single-frame and enhanced multi-frame CT, MR and PET images in every transfer syntax
    of `DECODING_PLUGINS`, and uncompressed. All rules are checked from the headers before any
    pixel is decoded.

    Parameters
    ----------
    repair : bool
        Straighten tilt, even out gaps, drop equal duplicates, derive an absent Frame of Reference UID
        (which the returned headers then bear), and say so, instead of refusing.

    Returns
    -------
    SourceImage
        Array of int16 if every rescaled value is an integer that int16 holds, else float32.

    Raises
    ------
    GeometryRefused
        With the `Refusal` that applies; the message names the instance and quotes no patient attribute.
    """
    files, frames = _read_headers(series)
    stack = stack_slices([frame.slice for frame in frames])
    if repair:
        check_repairable(stack)
        result = repair_stack(stack, _decode(files, frames, stack.order))
    else:
        check_stack(stack)
        result = Repaired(stack, _decode(files, frames, stack.order), tuple(range(len(frames))), ())
    grid = grid_of(result.stack)
    volume = hd.Volume(
        array=result.array,
        affine=grid.affine,
        coordinate_system=hd.CoordinateSystemNames.PATIENT,
        frame_of_reference_uid=grid.frame_of_reference_uid,
    )
    read = [stack.order[k] for k in result.kept]
    headers = (files[0].header,) if is_multiframe(files[0]) else tuple(files[n].header for n in read)
    for header in headers if result.repairs else ():
        header.FrameOfReferenceUID = grid.frame_of_reference_uid
    frame_numbers = tuple(frames[n].slice.frame_number for n in read)
    return SourceImage(series, volume, headers, result.repairs, frame_numbers)


def _read_headers(series: Series) -> tuple[list[ImageFile], list[Frame]]:
    """The files of a series and all their frames, in the order of the files."""
    if not series.instances:
        raise GeometryRefused(series.series_instance_uid, Refusal.TOO_FEW_SLICES, "no instances")
    uid = series.series_instance_uid
    files = [open_image(one.path, uid, _name(one)) for one in series.instances]
    frames = [frame for file in files for frame in frames_of(file)]
    for file in files:
        check_pixel_format(file)
    if len(files) > 1 and any(is_multiframe(file) for file in files):
        detail = f"{len(files)} instances, of which {files[0].name} or others are multi-frame"
        raise GeometryRefused(uid, Refusal.SEVERAL_MULTIFRAME, detail)
    return files, frames


def _name(instance: Instance) -> str:
    """What messages call an instance; never its file name, which may name a patient."""
    return instance.sop_instance_uid or f"with SHA-256 {instance.sha256[:16]}"


def _decode(files: Sequence[ImageFile], frames: Sequence[Frame], order: Sequence[int]) -> NDArray[Any]:
    """Rescaled values (k, j, i) of all frames, each decoded into its place; `order` names the frame of each k."""
    place = np.argsort(order)
    integral = all(is_integral(frame.slope, frame.intercept) for frame in frames)
    shape = (len(frames), frames[0].slice.rows, frames[0].slice.columns)
    array = np.empty(shape, np.int16 if integral else np.float32)
    stored_values = (stored for file in files for stored in decode_frames(file))
    for frame, k, stored in zip(frames, place, stored_values, strict=True):
        if array.dtype == np.int16 and not fits_int16(stored, frame.slope, frame.intercept):
            array = array.astype(np.float32)
        rescale_into(array[k], stored, frame.slope, frame.intercept)
    return array
