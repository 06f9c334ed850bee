"""Frames of a SEG: which segment lies on which slice, their pixels packed, their functional groups.

A SEG of 104 segments has some 7,000 frames whose functional groups differ in four numbers, so
each part is encoded once, for its slice or for its segment, and the parts are put together.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.pixels.encoders.base import RLELosslessEncoder
from pydicom.tag import Tag

from ..models.segmentation import Segmentation

FRAMES_AT_ONCE = 8
"""Frames packed together: eight of any size end on a byte, which a lone 1-bit frame need not (PS3.5 8.1.1)."""
PER_FRAME_FUNCTIONAL_GROUPS = Tag(0x5200, 0x9230)
ITEM = b"\xfe\xff\x00\xe0"
UNDEFINED_LENGTH = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class SegmentFrame:
    """One frame: a segment's number (0 for all segments of a label map) on slice k."""

    number: int
    k: int


@dataclass(frozen=True, slots=True, eq=False)
class PlaneGroups:
    """Functional groups that the frames of one slice share, encoded in Explicit VR Little Endian.

    Attributes
    ----------
    derivation, position : bytes
        Derivation Image Sequence and Plane Position Sequence, each a whole data element.
    """

    derivation: bytes
    position: bytes


def voxel_counts(segmentation: Segmentation) -> NDArray[np.int64]:
    """Voxels of each number on each slice, (k, number) with 0 for the background."""
    numbers = len(segmentation.segments) + 1
    planes = segmentation.labelmap.array
    counts = np.empty((planes.shape[0], numbers), np.int64)
    for k, plane in enumerate(planes):
        counts[k] = np.bincount(plane.ravel(), minlength=numbers)
    return counts


def segment_counts(segmentation: Segmentation) -> NDArray[np.int64]:
    """Voxels of each segment on each slice, (k, number), those of the segments it contains included; column 0 is 0."""
    counts = voxel_counts(segmentation)
    segments = np.zeros_like(counts)
    for segment in segmentation.segments:
        segments[:, segment.number] = counts[:, [segment.number, *segment.contains]].sum(axis=1)
    return segments


def binary_frames(counts: NDArray[np.int64]) -> tuple[SegmentFrame, ...]:
    """Frames of a BINARY SEG, by segment and slice, where the segment has voxels.

    A SEG without any frame is not DICOM (Number of Frames is 1 or more): where nothing was
    found, one frame of zeros says so.
    """
    frames = tuple(
        SegmentFrame(number, int(k)) for number in range(1, counts.shape[1]) for k in np.flatnonzero(counts[:, number])
    )
    return frames or (SegmentFrame(1, 0),)


def labelmap_frames(counts: NDArray[np.int64]) -> tuple[SegmentFrame, ...]:
    """Frames of a LABELMAP SEG: the slices with any segment; the first, of zeros, where nothing was found."""
    frames = tuple(SegmentFrame(0, int(k)) for k in np.flatnonzero(counts.any(axis=1)))
    return frames or (SegmentFrame(0, 0),)


def pack_binary(segmentation: Segmentation, frames: Sequence[SegmentFrame]) -> bytes:
    """Pixel Data of 1-bit frames, the lowest bit first (PS3.5 8.1.1), an even number of bytes."""
    planes = segmentation.labelmap.array
    size = planes[0].size
    packed = np.zeros(-(-len(frames) * size // 16) * 2, np.uint8)
    stack = np.empty((FRAMES_AT_ONCE, *planes.shape[1:]), np.bool_)
    for start in range(0, len(frames), FRAMES_AT_ONCE):
        group = frames[start : start + FRAMES_AT_ONCE]
        for mask, frame in zip(stack, group, strict=False):
            np.equal(planes[frame.k], frame.number, out=mask)
            for inner in segmentation.segments[frame.number - 1].contains:
                np.logical_or(mask, planes[frame.k] == inner, out=mask)
        bits = np.packbits(stack[: len(group)].reshape(-1), bitorder="little")
        first = start * size // 8
        packed[first : first + len(bits)] = bits
    return packed.tobytes()


def encode_labelmap(segmentation: Segmentation, frames: Sequence[SegmentFrame], bits: int) -> bytes:
    """Pixel Data of a label map, each frame compressed by RLE Lossless (PS3.5 annex G)."""
    dtype = np.dtype(f"<u{bits // 8}")
    rows, columns = segmentation.labelmap.array.shape[1:]
    # Named, because pydicom prefers GDCM, which aborts the process on frames of odd size.
    plugin = "pylibjpeg"
    encoded = [
        RLELosslessEncoder.encode(
            np.ascontiguousarray(segmentation.labelmap.array[frame.k], dtype=dtype),
            encoding_plugin=plugin,
            rows=rows,
            columns=columns,
            samples_per_pixel=1,
            number_of_frames=1,
            bits_allocated=bits,
            bits_stored=bits,
            pixel_representation=0,
            photometric_interpretation="MONOCHROME2",
        )
        for frame in frames
    ]
    return encapsulate(encoded)


def functional_groups(frames: Sequence[SegmentFrame], planes: dict[int, PlaneGroups]) -> RawDataElement:
    """Per-frame Functional Groups Sequence (5200,9230), encoded; pydicom reads its items when they are asked for.

    Dimension Index Values are the segment's number, if any, and the ordinal of the slice among
    those with a frame.
    """
    ordinals = {k: ordinal for ordinal, k in enumerate(sorted(planes), start=1)}
    value = b"".join(_frame_item(frame, ordinals[frame.k], planes[frame.k]) for frame in frames)
    return RawDataElement(PER_FRAME_FUNCTIONAL_GROUPS, "SQ", len(value), value, 0, False, True)


def frame_count(dataset: Dataset) -> int:
    """Items of the Per-frame Functional Groups Sequence, counted without reading them where they are still encoded."""
    if PER_FRAME_FUNCTIONAL_GROUPS not in dataset:
        return 0
    element: object = dataset.get_item(PER_FRAME_FUNCTIONAL_GROUPS)
    if not isinstance(element, RawDataElement) or element.value is None:
        return len(dataset.PerFrameFunctionalGroupsSequence)
    value, count, offset = element.value, 0, 0
    while offset < len(value):
        length = struct.unpack_from("<I", value, offset + 4)[0]
        if length == UNDEFINED_LENGTH:
            return len(dataset.PerFrameFunctionalGroupsSequence)
        offset += 8 + length
        count += 1
    return count


def element_bytes(keyword: str, value: object) -> bytes:
    """One data element in Explicit VR Little Endian."""
    dataset = Dataset()
    setattr(dataset, keyword, value)
    buffer = DicomBytesIO()
    buffer.is_little_endian = True
    buffer.is_implicit_VR = False
    write_dataset(buffer, dataset)
    return buffer.getvalue()


def _frame_item(frame: SegmentFrame, ordinal: int, plane: PlaneGroups) -> bytes:
    """Item of the Per-frame Functional Groups Sequence, its elements in order of tag."""
    if frame.number:
        index = struct.pack("<HH2sH2I", 0x0020, 0x9157, b"UL", 8, frame.number, ordinal)
        number = struct.pack("<HH2sHH", 0x0062, 0x000B, b"US", 2, frame.number)
        segment = _sequence(0x0062, 0x000A, number)
    else:
        index = struct.pack("<HH2sHI", 0x0020, 0x9157, b"UL", 4, ordinal)
        segment = b""
    content = plane.derivation + _sequence(0x0020, 0x9111, index) + plane.position + segment
    return ITEM + struct.pack("<I", len(content)) + content


def _sequence(group: int, element: int, content: bytes) -> bytes:
    """Data element of VR SQ with one item."""
    return struct.pack("<HH2sHI4sI", group, element, b"SQ", 0, len(content) + 8, ITEM, len(content)) + content
