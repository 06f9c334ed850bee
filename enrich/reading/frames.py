"""Frames of an image file: place and rescale of each, from single-frame or enhanced headers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydicom import Dataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    EnhancedPETImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    LegacyConvertedEnhancedPETImageStorage,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
)

from .pixels import PARSING_FAULTS, ImageFile
from .refusal import Refusal
from .slices import Slice, check_image_types

SINGLE_FRAME = frozenset({CTImageStorage, MRImageStorage, PositronEmissionTomographyImageStorage})
"""SOP classes of one slice per instance: those of IDC's volume_geometry_index."""

FRAME_TYPES = {
    EnhancedCTImageStorage: "CTImageFrameTypeSequence",
    LegacyConvertedEnhancedCTImageStorage: "CTImageFrameTypeSequence",
    EnhancedMRImageStorage: "MRImageFrameTypeSequence",
    LegacyConvertedEnhancedMRImageStorage: "MRImageFrameTypeSequence",
    EnhancedPETImageStorage: "PETFrameTypeSequence",
    LegacyConvertedEnhancedPETImageStorage: "PETFrameTypeSequence",
}
"""SOP classes of many slices per instance, and the functional group that holds each one's Frame Type."""

UID_LENGTH = 64
"""Longest UID (PS3.5 9.1)."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: where it lies, and what its stored values mean.

    Attributes
    ----------
    slope, intercept : float
        Of Rescale (PS3.3 C.11.1): value = slope x stored value + intercept; 1 and 0 where absent.
    """

    slice: Slice
    slope: float
    intercept: float


def frames_of(file: ImageFile) -> tuple[Frame, ...]:
    """The frames of an image file, in the order of the file.

    Raises
    ------
    GeometryRefused
        If a UID, the SOP class, the image type or an attribute that places a frame is not usable.
    """
    try:
        return tuple(_frames(file))
    except PARSING_FAULTS as exc:
        raise file.refused(Refusal.UNREADABLE, f"has a header that cannot be parsed ({type(exc).__name__})") from exc


def is_multiframe(file: ImageFile) -> bool:
    """Whether the file is an enhanced multi-frame image."""
    return file.header.SOPClassUID in FRAME_TYPES


def _frames(file: ImageFile) -> Iterator[Frame]:
    header = file.header
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        _check_uid(file, keyword)
    if header.get("FrameOfReferenceUID"):
        _check_uid(file, "FrameOfReferenceUID")
    if header.SOPClassUID in SINGLE_FRAME | FRAME_TYPES.keys() and not file.has_pixels:
        raise file.refused(Refusal.UNREADABLE, "ends before its pixel data")
    if header.SOPClassUID in SINGLE_FRAME:
        yield _frame(file, 1, header.get("ImageType"), (header,))
    elif header.SOPClassUID in FRAME_TYPES:
        yield from _enhanced_frames(file)
    else:
        raise file.refused(
            Refusal.UNSUPPORTED_SOP_CLASS, f"is of SOP class {header.SOPClassUID}, no CT, MR or PET image"
        )


def _check_uid(file: ImageFile, keyword: str) -> None:
    try:
        value = str(file.header.get(keyword) or "")
    except PARSING_FAULTS as exc:
        raise file.refused(Refusal.INVALID_UID, f"has a {keyword} that cannot be read") from exc
    if not value and not file.has_pixels:
        raise file.refused(Refusal.UNREADABLE, f"ends before its {keyword}")
    if not value:
        raise file.refused(Refusal.INVALID_UID, f"has an empty {keyword}")
    # Leading zeros in a component break PS3.5 9.1 too, but archives hold millions of such UIDs unharmed.
    if len(value) > UID_LENGTH or not all(part.isascii() and part.isdigit() for part in value.split(".")):
        raise file.refused(Refusal.INVALID_UID, f"has a {keyword} that is not digits and dots, at most {UID_LENGTH}")


def _enhanced_frames(file: ImageFile) -> Iterator[Frame]:
    """Frames of an enhanced image (PS3.3 C.7.6.16): each one's own groups first, then the shared."""
    header = file.header
    per_frame = header.get("PerFrameFunctionalGroupsSequence") or ()
    shared = header.get("SharedFunctionalGroupsSequence") or ()
    frames = int(header.get("NumberOfFrames", None) or 1)
    if len(per_frame) != frames:
        detail = f"has {len(per_frame)} Per-frame Functional Groups for {frames} frames"
        raise file.refused(Refusal.MISSING_ATTRIBUTE, detail)
    for number, own in enumerate(per_frame, start=1):
        groups = (own, *shared)
        frame_type = _macro(groups, FRAME_TYPES[header.SOPClassUID])
        image_type = frame_type.get("FrameType") if frame_type is not None else header.get("ImageType")
        found = (_macro(groups, name) for name in _GEOMETRY_MACROS)
        yield _frame(file, number, image_type, tuple(item for item in found if item is not None))


_GEOMETRY_MACROS = (
    "PlanePositionSequence",
    "PlaneOrientationSequence",
    "PixelMeasuresSequence",
    "PixelValueTransformationSequence",
)


def _macro(groups: Sequence[Dataset], keyword: str) -> Dataset | None:
    """The one item of a functional group, from the first of `groups` that has it."""
    for group in groups:
        if group.get(keyword):
            item: Dataset = group[keyword].value[0]
            return item
    return None


def _frame(file: ImageFile, number: int, image_type: object, places: tuple[Dataset, ...]) -> Frame:
    """A frame whose plane and rescale stand in `places`: the header, or the functional groups."""
    header = file.header
    words = (image_type,) if isinstance(image_type, str) else tuple(str(v) for v in image_type or ())  # type: ignore[attr-defined]
    check_image_types([(file.series_instance_uid, f"instance {file.name}", words)])
    x, y, z = _numbers(file, places, "ImagePositionPatient", 3)
    o = _numbers(file, places, "ImageOrientationPatient", 6)
    between_rows, between_columns = _numbers(file, places, "PixelSpacing", 2)
    rows, columns = _numbers(file, (header,), "Rows", 1)[0], _numbers(file, (header,), "Columns", 1)[0]
    plane = Slice(
        series_instance_uid=str(header.SeriesInstanceUID),
        sop_class_uid=str(header.SOPClassUID),
        sop_instance_uid=str(header.SOPInstanceUID),
        frame_of_reference_uid=str(header.get("FrameOfReferenceUID") or ""),
        image_type=words,
        rows=int(rows),
        columns=int(columns),
        position_mm=(x, y, z),
        orientation=(o[0], o[1], o[2], o[3], o[4], o[5]),
        pixel_spacing_mm=(between_rows, between_columns),
        frame_number=number,
    )
    slope = _numbers(file, places, "RescaleSlope", 1, default=1.0)[0]
    intercept = _numbers(file, places, "RescaleIntercept", 1, default=0.0)[0]
    if not (math.isfinite(slope) and math.isfinite(intercept)) or slope == 0:
        raise file.refused(Refusal.INVALID_ATTRIBUTE, f"has Rescale Slope {slope:g} and Intercept {intercept:g}")
    return Frame(plane, slope, intercept)


def _numbers(
    file: ImageFile, places: tuple[Dataset, ...], keyword: str, count: int, default: float | None = None
) -> tuple[float, ...]:
    """An attribute's numbers from the first of `places` that has it."""
    try:
        value = next((place.get(keyword) for place in places if keyword in place), None)
        numbers = () if value is None or value == "" else tuple(float(n) for n in (value if count > 1 else (value,)))
    except PARSING_FAULTS as exc:
        raise file.refused(Refusal.INVALID_ATTRIBUTE, f"has a {keyword} that is no number") from exc
    if not numbers and default is not None:
        return (default,)
    if not numbers:
        raise file.refused(Refusal.MISSING_ATTRIBUTE, f"has no {keyword}")
    if len(numbers) != count:
        raise file.refused(Refusal.INVALID_ATTRIBUTE, f"has {len(numbers)} values of {keyword} instead of {count}")
    return numbers
