"""Messages of several parts (RFC 2046 5.1, RFC 2387), from and to files: no part is ever in memory as a whole.

dicomweb-client 0.61 holds each part in memory several times over, and takes what came of a cut answer as its
last object; Orthanc sends a series without Content-Length or chunks, so that HTTP itself cannot tell.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from email.message import Message
from io import SEEK_CUR, SEEK_END, SEEK_SET, RawIOBase
from pathlib import Path
from typing import BinaryIO, Final

import requests

READ_BYTES: Final = 1 << 20
"""Taken from the connection at once."""
_HEADER_BYTES = 1 << 16
"""More than the fields before any part."""


def parts_of(response: requests.Response, into: Path) -> Iterator[Path]:
    """Parts of an answer, one by one as a file in `into`; the caller moves it, or it is removed before the next.

    Raises
    ------
    ValueError
        If the answer has no parts at all, or fields before a part that do not end.
    requests.RequestException
        If it is cut: the connection breaks, or ends before the closing boundary.
    OSError
        If a file cannot be written.
    """
    fields = Message()
    fields["Content-Type"] = response.headers.get("Content-Type", "")
    boundary = fields.get_boundary()
    if fields.get_content_maintype() != "multipart" or not boundary:
        raise ValueError("the answer is not multipart")
    delimiter = f"\r\n--{boundary}".encode()
    stream = _Stream(response.iter_content(READ_BYTES))
    stream.pass_to(delimiter, lambda _: None)
    number = 0
    while stream.ahead(2) != b"--":
        stream.pass_to(b"\r\n\r\n", _limited())
        path = into / f".{number}.part"
        try:
            with path.open("wb") as file:
                stream.pass_to(delimiter, file.write)
            yield path
        finally:
            path.unlink(missing_ok=True)
        number += 1


def _limited() -> Callable[[bytes], None]:
    """Takes the fields before a part; raises if they are longer than any."""
    left = _HEADER_BYTES

    def take(data: bytes) -> None:
        nonlocal left
        left -= len(data)
        if left < 0:
            raise ValueError("the fields before a part do not end")

    return take


class _Stream:
    """What comes from a connection, read on from mark to mark."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._buffer = bytearray(b"\r\n")  # so that the first boundary looks like all others

    def ahead(self, count: int) -> bytes:
        """The next bytes, which stay where they are."""
        while len(self._buffer) < count:
            self._fill()
        return bytes(self._buffer[:count])

    def pass_to(self, mark: bytes, take: Callable[[bytes], object]) -> None:
        """Give all up to the next mark to `take`, and go on behind it."""
        while (found := self._buffer.find(mark)) < 0:
            sure = len(self._buffer) - len(mark) + 1
            if sure > 0:
                take(bytes(self._buffer[:sure]))
                del self._buffer[:sure]
            self._fill()
        take(bytes(self._buffer[:found]))
        del self._buffer[: found + len(mark)]

    def _fill(self) -> None:
        try:
            self._buffer += next(self._chunks)
        except StopIteration:
            raise requests.exceptions.ChunkedEncodingError("no closing boundary") from None


class StowBody(RawIOBase):
    """Body of a store of one object (PS3.18 10.5.1), read from its file as it is sent; may be rewound and sent again.

    Parameters
    ----------
    file : file
        The encoded object, open for as long as the body is used.
    """

    def __init__(self, file: BinaryIO) -> None:
        boundary = secrets.token_hex(16)
        self.content_type = f'multipart/related; type="application/dicom"; boundary="{boundary}"'
        self._head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        self._tail = f"\r\n--{boundary}--\r\n".encode()
        self._file = file
        self._end_of_file = len(self._head) + os.fstat(file.fileno()).st_size
        self._position = 0

    def __len__(self) -> int:
        return self._end_of_file + len(self._tail)

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Bytes from the beginning of the body."""
        return self._position

    def seek(self, offset: int, whence: int = SEEK_SET) -> int:
        """Go to a byte of the body."""
        self._position = offset + {SEEK_SET: 0, SEEK_CUR: self._position, SEEK_END: len(self)}[whence]
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Read on: head, file or tail, whichever comes next."""
        view, at = memoryview(buffer), self._position
        if at < len(self._head):
            data = self._head[at:][: len(view)]
        elif at < self._end_of_file:
            self._file.seek(at - len(self._head))
            data = self._file.read(min(len(view), self._end_of_file - at))
        else:
            data = self._tail[at - self._end_of_file :][: len(view)]
        view[: len(data)] = data
        self._position += len(data)
        return len(data)
