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


def decode_rle(frame: bytes, shape: tuple[int, int], bits: int) -> NDArray[np.unsignedinteger] | None:
    """A frame of nothing but packets of two bytes, as `encode_rle` writes it; None of any other, also of a damaged one.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns.
    bits : int
        Bits Allocated, 8 or 16.
    """
    size = bits // 8
    if len(frame) < _HEADER.size or size not in (1, 2):
        return None
    count, *offsets = _HEADER.unpack_from(frame)
    if count != size:
        return None
    planes = [_from_runs(frame[a:b], shape) for a, b in zip(offsets, [*offsets[1:size], len(frame)], strict=False)]
    high, low = planes[0], planes[-1]
    if high is None or low is None:
        return None
    if size == 1:
        return low
    wide: NDArray[np.uint16] = high * np.uint16(256) + low
    return wide


def _from_runs(segment: bytes, shape: tuple[int, int]) -> NDArray[np.uint8] | None:
    """One plane of bytes, if all packets are runs, or literals of one byte."""
    if len(segment) % 2:
        return None
    packets = np.frombuffer(segment, np.uint8).reshape(-1, 2)
    heads = packets[:, 0].astype(np.intp)
    lengths = np.where(heads, 257 - heads, 1)
    if ((heads > 0) & (heads <= LONGEST_RUN)).any() or lengths.sum() != shape[0] * shape[1]:
        return None
    return np.repeat(packets[:, 1], lengths).reshape(shape)


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
