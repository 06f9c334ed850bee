"""Objects through a pipe between a stage's process and the one that started it: a length, then a pickle."""

from __future__ import annotations

import os
import pickle
import struct
from typing import IO

_HEADER = struct.Struct("<Q")
_PART = 2**20


def is_whole(message: bytearray) -> bool:
    """Whether all of a message was received."""
    return len(message) >= _HEADER.size and len(message) >= _HEADER.size + _HEADER.unpack_from(message)[0]


def some_of(stream: IO[bytes]) -> bytes:
    """What can be read now, past the stream's own buffer; raises EOFError at the end."""
    part = os.read(stream.fileno(), _PART)
    if not part:
        raise EOFError("in the midst of an answer, or before it")
    return part


def write_message(stream: IO[bytes], message: object) -> None:
    """Send one object: eight bytes of length, little endian, then its pickle."""
    body = pickle.dumps(message)
    stream.write(_HEADER.pack(len(body)))
    stream.write(body)
    stream.flush()


def read_message(stream: IO[bytes]) -> object:
    """Receive one object from a process of our own.

    Raises
    ------
    EOFError
        If the other side closed the pipe, in the middle of a message or before.
    """
    (length,) = _HEADER.unpack(_read_exactly(stream, _HEADER.size))
    return pickle.loads(_read_exactly(stream, length))  # noqa: S301 - the pipe of our own child


def _read_exactly(stream: IO[bytes], count: int) -> bytes:
    body = stream.read(count)
    if len(body) != count:
        raise EOFError(f"{len(body)} of {count} bytes")
    return body
