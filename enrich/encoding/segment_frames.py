"""Frames of a SEG: which segment lies on which slice, and their pixels packed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.encaps import encapsulate

from ...models.segmentation import Segmentation
from .rle import encode_rle

FRAMES_AT_ONCE = 8
"""Frames packed together: eight of any size end on a byte, which a lone 1-bit frame need not (PS3.5 8.1.1)."""


@dataclass(frozen=True, slots=True)
class SegmentFrame:
    """One frame: a segment's number (0 for all segments of a label map) on slice k."""

    number: int
    k: int


def voxel_counts(segmentation: Segmentation) -> NDArray[np.int64]:
    """Voxels of each number on each slice, (k, number) with 0 for the background."""
    numbers = len(segmentation.segments) + 1
    planes = segmentation.labelmap.array
    counts = np.empty((planes.shape[0], numbers), np.int64)
    # Two bytes at a time are twice as fast to count.
    pairs = planes.dtype == np.uint8 and planes[0].size % 2 == 0
    for k, plane in enumerate(planes):
        flat = np.ascontiguousarray(plane).reshape(-1)
        if pairs:
            both = np.bincount(flat.view(np.uint16), minlength=1 << 16).reshape(256, 256)
            counts[k] = (both.sum(axis=0) + both.sum(axis=1))[:numbers]
        else:
            counts[k] = np.bincount(flat, minlength=numbers)
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


def labelmap_frames(segmentation: Segmentation) -> tuple[SegmentFrame, ...]:
    """Frames of a LABELMAP SEG: the slices with any segment; the first, of zeros, where nothing was found."""
    frames = tuple(SegmentFrame(0, k) for k, plane in enumerate(segmentation.labelmap.array) if plane.any())
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
    planes = segmentation.labelmap.array
    return encapsulate([encode_rle(planes[frame.k].astype(f"u{bits // 8}", copy=False)) for frame in frames])
