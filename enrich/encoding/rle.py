"""RLE Lossless of label maps (PS3.5 annex G), a whole frame in a few array operations."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

LONGEST_RUN = 128
"""Bytes that one packet of two bytes can stand for (PS3.5 G.3.1)."""
_HEADER = struct.Struct("<16I")
"""Number of segments, then the offset of each (PS3.5 G.5)."""


def encode_rle(plane: NDArray[np.unsignedinteger]) -> bytes:
    """One frame compressed, every run of equal bytes as one packet of two bytes.

    A byte that differs from both its neighbours takes two bytes instead of little more than
    one, which costs noisy images dearly, but label maps next to nothing.

    Parameters
    ----------
    plane : ndarray
        uint8 or uint16, (j, i).
    """
    size = plane.dtype.itemsize
    high_first = np.ascontiguousarray(plane, plane.dtype.newbyteorder(">")).view(np.uint8)
    planes = high_first.reshape(*plane.shape, size)
    segments = [_runs(np.ascontiguousarray(planes[:, :, number])) for number in range(size)]
    ends = np.cumsum([_HEADER.size] + [len(each) for each in segments])
    offsets = [*ends[:-1].tolist(), *[0] * (15 - size)]
    return _HEADER.pack(size, *offsets) + b"".join(segments)


def _runs(plane: NDArray[np.uint8]) -> bytes:
    """Packets of one plane of bytes; no run goes on in the next row (PS3.5 G.3.1)."""
    flat = plane.reshape(-1)
    starts_here = np.empty(plane.shape, np.bool_)
    np.not_equal(flat[1:], flat[:-1], out=starts_here.reshape(-1)[1:])
    starts_here[:, ::LONGEST_RUN] = True
    starts = np.flatnonzero(starts_here)
    lengths = np.diff(starts, append=flat.size)
    packets = np.empty((len(starts), 2), np.uint8)
    # 257 - n repeats the next byte n times; for n = 1 it is 0: one literal byte follows.
    packets[:, 0] = 257 - lengths
    packets[:, 1] = flat[starts]
    return packets.tobytes()
