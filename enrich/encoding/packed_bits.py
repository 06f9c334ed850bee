"""Frames of single bits added to a label map; only rows that hold a bit are unpacked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .functional_groups import FramePlace


def add_packed_frames(
    pixel_data: bytes, places: Sequence[FramePlace], slices: Sequence[int], array: NDArray[np.unsignedinteger]
) -> bool:
    """Whether all frames share no voxel; if so, each voxel of `array` is the number of its segment.

    A frame of a SEG is empty but for a few rows, so those are looked for in the packed bytes.

    Parameters
    ----------
    pixel_data : bytes
        1-bit frames, lowest bit first (PS3.5 8.1.1).
    places : sequence of FramePlace
        Gives each frame's segment.
    slices : sequence of int
        Slice k of each frame.
    array : ndarray
        Label map (k, j, i) of zeros, i a multiple of 8. Holds no meaning where the answer is false.
    """
    _, rows, columns = array.shape
    row_bytes = columns // 8
    word = next(
        kind for kind in (np.uint64, np.uint32, np.uint16, np.uint8) if row_bytes % np.dtype(kind).itemsize == 0
    )
    packed = np.frombuffer(pixel_data, np.uint8)
    voxels = 0
    for index, (place, k) in enumerate(zip(places, slices, strict=True)):
        frame = packed[index * rows * row_bytes : (index + 1) * rows * row_bytes].reshape(rows, row_bytes)
        words = frame.view(word)
        filled = np.flatnonzero(words.any(axis=1))
        if not len(filled):
            continue
        part = slice(int(filled[0]), int(filled[-1]) + 1)
        voxels += int(np.bitwise_count(words[part]).sum(dtype=np.int64))
        bits = np.unpackbits(frame[part], axis=1, bitorder="little")
        np.bitwise_or(array[k, part], np.multiply(bits, place.number, dtype=array.dtype), out=array[k, part])
    return voxels == np.count_nonzero(array)
