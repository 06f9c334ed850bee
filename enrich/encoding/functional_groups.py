"""Per-frame Functional Groups Sequence of a SEG (PS3.3 C.7.6.16), encoded and decoded.

A SEG of 104 segments has some 7,000 frames whose groups differ in four numbers, so each part is
encoded once, for its slice or for its segment, and the parts are put together.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.sr.coding import Code
from pydicom.tag import Tag
from pydicom.valuerep import DSfloat

from .encoded import (
    NotPlain,
    Span,
    code_sequence,
    element,
    elements_of,
    is_plain,
    items_of,
    raw_sequence,
    sequence,
    text,
)
from .segment_frames import SegmentFrame

SEGMENTATION_DERIVATION = Code("113076", "DCM", "Segmentation")
SOURCE_IMAGE = Code("121322", "DCM", "Source image for image processing operation")

SAME_PLANE = 1e-4
"""Direction cosines, and pixel spacings in mm, of two frames that lie alike differ by no more."""
_REFERENCED_SOP_CLASS_UID = 0x00081150
_REFERENCED_SOP_INSTANCE_UID = 0x00081155
_REFERENCED_FRAME_NUMBER = 0x00081160
_SOURCE_IMAGE_SEQUENCE = 0x00082112
_DERIVATION_IMAGE_SEQUENCE = 0x00089124
_DERIVATION_CODE_SEQUENCE = 0x00089215
_IMAGE_POSITION_PATIENT = 0x00200032
_FRAME_CONTENT_SEQUENCE = 0x00209111
_PLANE_POSITION_SEQUENCE = 0x00209113
_DIMENSION_INDEX_VALUES = 0x00209157
_SPATIAL_LOCATIONS_PRESERVED = 0x0028135A
_PURPOSE_OF_REFERENCE_CODE_SEQUENCE = 0x0040A170
_SEGMENT_IDENTIFICATION_SEQUENCE = 0x0062000A
_REFERENCED_SEGMENT_NUMBER = 0x0062000B
_PER_FRAME_FUNCTIONAL_GROUPS = 0x52009230


@dataclass(frozen=True, slots=True)
class SourceFrame:
    """A frame of the source image; `number` counts from 1, None for single-frame instances."""

    sop_class_uid: str
    sop_instance_uid: str
    number: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class FramePlace:
    """Segment (0 in a label map) and first voxel, in LPS mm, of one frame."""

    number: int
    position: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PlaneGroups:
    """Functional groups that the frames of one slice share, each an encoded data element."""

    derivation: bytes
    position: bytes


def plane_groups(source: SourceFrame | None, position_mm: Sequence[float]) -> PlaneGroups:
    """Derivation Image Sequence, without item where no source frame is known, and Plane Position Sequence."""
    decimals = "\\".join(str(DSfloat(float(value), auto_format=True)) for value in position_mm)
    position = sequence(_PLANE_POSITION_SEQUENCE, [text(_IMAGE_POSITION_PATIENT, b"DS", decimals)])
    return PlaneGroups(sequence(_DERIVATION_IMAGE_SEQUENCE, _derivation(source)), position)


def _derivation(source: SourceFrame | None) -> list[bytes]:
    if source is None:
        return []
    reference = text(_REFERENCED_SOP_CLASS_UID, b"UI", source.sop_class_uid)
    reference += text(_REFERENCED_SOP_INSTANCE_UID, b"UI", source.sop_instance_uid)
    if source.number is not None:
        reference += text(_REFERENCED_FRAME_NUMBER, b"IS", str(source.number))
    reference += text(_SPATIAL_LOCATIONS_PRESERVED, b"CS", "YES")
    reference += code_sequence(_PURPOSE_OF_REFERENCE_CODE_SEQUENCE, SOURCE_IMAGE)
    image = sequence(_SOURCE_IMAGE_SEQUENCE, [reference])
    return [image + code_sequence(_DERIVATION_CODE_SEQUENCE, SEGMENTATION_DERIVATION)]


def functional_groups(frames: Sequence[SegmentFrame], planes: dict[int, PlaneGroups]) -> RawDataElement:
    """Per-frame Functional Groups Sequence (5200,9230), encoded; pydicom reads its items when they are asked for.

    Dimension Index Values are the segment's number, if any, and the ordinal of the slice among
    those with a frame.
    """
    ordinals = {k: ordinal for ordinal, k in enumerate(sorted(planes), start=1)}
    items = (_frame_item(frame, ordinals[frame.k], planes[frame.k]) for frame in frames)
    return raw_sequence(_PER_FRAME_FUNCTIONAL_GROUPS, items)


def _frame_item(frame: SegmentFrame, ordinal: int, plane: PlaneGroups) -> bytes:
    """Elements of one item, in order of tag."""
    index = struct.pack("<2I", frame.number, ordinal) if frame.number else struct.pack("<I", ordinal)
    content = sequence(_FRAME_CONTENT_SEQUENCE, [element(_DIMENSION_INDEX_VALUES, b"UL", index)])
    segment = b""
    if frame.number:
        number = element(_REFERENCED_SEGMENT_NUMBER, b"US", struct.pack("<H", frame.number))
        segment = sequence(_SEGMENT_IDENTIFICATION_SEQUENCE, [number])
    return plane.derivation + content + plane.position + segment


def frame_count(dataset: Dataset) -> int:
    """Items of the Per-frame Functional Groups Sequence, counted without reading them where they are still encoded."""
    if _PER_FRAME_FUNCTIONAL_GROUPS not in dataset:
        return 0
    raw = dataset.get_item(Tag(_PER_FRAME_FUNCTIONAL_GROUPS))
    if is_plain(raw):
        try:
            return sum(1 for _ in items_of(raw.value))
        except NotPlain:
            pass
    return len(dataset.PerFrameFunctionalGroupsSequence)


def common_group(dataset: Dataset, macro: str, keyword: str) -> Dataset | None:
    """A functional group macro that all frames share; where each has its own, the first, if they agree in `keyword`."""
    shared = dataset.SharedFunctionalGroupsSequence[0]
    if macro in shared:
        found: Dataset = shared[macro][0]
        return found
    items = [groups[macro][0] for groups in dataset.PerFrameFunctionalGroupsSequence]
    values = np.array([item[keyword].value for item in items], float)
    return items[0] if np.allclose(values, values[0], rtol=0, atol=SAME_PLANE) else None


def frame_places(dataset: Dataset) -> tuple[FramePlace, ...]:
    """Segment and place of each frame of a SEG, in order; encoded groups are read without pydicom."""
    raw = dataset.get_item(Tag(_PER_FRAME_FUNCTIONAL_GROUPS))
    if is_plain(raw):
        try:
            found = tuple(_plain_places(raw.value))
        except NotPlain:
            found = ()
        if found and (found[0].number or not _shares_segment(dataset)):
            return found
    return tuple(_places(dataset))


def _shares_segment(dataset: Dataset) -> bool:
    return "SegmentIdentificationSequence" in dataset.SharedFunctionalGroupsSequence[0]


def _plain_places(value: bytes) -> Iterator[FramePlace]:
    """Places from encoded groups that hold both segment, if any, and position.

    Raises
    ------
    NotPlain
        If a frame has no position of its own, or only some have a segment: then the shared groups tell.
    """
    positions: dict[bytes, NDArray[np.float64]] = {}
    with_segment = set()
    for frame in items_of(value):
        number, decimals = 0, b""
        for group in elements_of(value, frame):
            if group.tag == _SEGMENT_IDENTIFICATION_SEQUENCE:
                found = _value_in(value, group, _REFERENCED_SEGMENT_NUMBER)
                number = int.from_bytes(found, "little")
            elif group.tag == _PLANE_POSITION_SEQUENCE:
                decimals = _value_in(value, group, _IMAGE_POSITION_PATIENT)
        with_segment.add(number > 0)
        if decimals not in positions:
            positions[decimals] = _numbers(decimals)
        yield FramePlace(number, positions[decimals])
    if len(with_segment) > 1:
        raise NotPlain


def _value_in(value: bytes, group: Span, tag: int) -> bytes:
    """Value of one element in the only item of a sequence."""
    for each in items_of(value, group.start, group.end):
        for inner in elements_of(value, each):
            if inner.tag == tag:
                return value[inner.start : inner.end]
    raise NotPlain


def _numbers(decimals: bytes) -> NDArray[np.float64]:
    try:
        numbers = np.array([float(word) for word in decimals.split(b"\\")])
    except ValueError as exc:
        raise NotPlain from exc
    if numbers.shape != (3,):
        raise NotPlain
    return numbers


def _places(dataset: Dataset) -> Iterator[FramePlace]:
    shared = dataset.SharedFunctionalGroupsSequence[0]
    for groups in dataset.PerFrameFunctionalGroupsSequence:
        found = groups if "PlanePositionSequence" in groups else shared
        position = np.array(found.PlanePositionSequence[0].ImagePositionPatient, float)
        found = groups if "SegmentIdentificationSequence" in groups else shared
        identification = found.get("SegmentIdentificationSequence")
        yield FramePlace(int(identification[0].ReferencedSegmentNumber) if identification else 0, position)
