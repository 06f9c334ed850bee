"""An object in a file: checked to be whole, and read without its pixels being taken into memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import SEEK_CUR, SEEK_END, SEEK_SET, BufferedReader, RawIOBase
from pathlib import Path
from struct import Struct
from typing import BinaryIO, Final, cast

import pydicom
from pydicom import Dataset
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.tag import BaseTag, Tag
from pydicom.uid import DeflatedExplicitVRLittleEndian

from ..digest import dataset_digest
from .header import DAMAGE

LARGE_BYTES: Final = 1 << 20
"""Pixel data from this size on stay in their file."""
PIXEL_DATA: Final = Tag("PixelData")
_READ_BYTES = 1 << 18
_UNDEFINED_LENGTH = 0xFFFFFFFF
_ITEM_HEADER = Struct("<HHL")
_ITEM, _SEQUENCE_END = (0xFFFE, 0xE000), (0xFFFE, 0xE0DD)


class CutObject(ValueError):
    """An object that ends before the length that one of its elements names."""


@contextmanager
def opened(path: Path) -> Iterator[Dataset]:
    """The object in a file; large pixel data stay there, and each use reads them anew, piece by piece.

    The data set can be digested, encoded and stored as any other. Its Pixel Data, where they are larger
    than `LARGE_BYTES`, are a buffer (pydicom's buffered values), which ends with the context. A deflated
    object has to be inflated, and is in memory as a whole.

    Raises
    ------
    CutObject
        If an element is shorter than it says: the object was cut on its way.
    OSError, or one of `header.DAMAGE`
        If the file cannot be read or is no whole DICOM file.
    """
    with path.open("rb") as file:
        dataset = _read(file, LARGE_BYTES)
        raws = {tag: _raw(dataset, tag) for tag in dataset.keys()}  # noqa: SIM118 - items would decode each element
        deferred = [each for each in raws.values() if each is not None and each.value is None and each.length]
        ends = {each.tag: _end(each, file) for each in deferred}
        deflated = dataset.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian
        if deferred and (deflated or None in ends.values()):
            file.seek(0)
            dataset = _read(file, None)
            deferred = []
        for each in deferred:
            dataset[each.tag] = _filled(each, cast(int, ends[each.tag]), file)
        _check_whole(dataset)
        yield dataset


def object_digest(path: Path) -> str:
    """`dataset_digest` of the object in a file; memory does not grow with its pixels.

    Raises
    ------
    CutObject, OSError, or one of `header.DAMAGE`
        As `opened` does.
    """
    with opened(path) as dataset:
        return dataset_digest(dataset)


def digest_if_whole(path: Path) -> str:
    """`object_digest` of a file; empty if it holds no whole DICOM object. Raises OSError."""
    try:
        return object_digest(path)
    except DAMAGE:
        return ""


def _read(file: BinaryIO, defer_bytes: int | None) -> Dataset:
    """The object, without the values of elements larger than `defer_bytes`.

    pydicom says nothing of compressed pixel data without an end, and leaves them out: it has not read to the end then.
    """
    dataset = pydicom.dcmread(file, defer_size=defer_bytes)
    if file.tell() < os.fstat(file.fileno()).st_size:
        raise CutObject(f"the object cannot be read after byte {file.tell()}: it is cut or damaged there")
    return dataset


def _raw(dataset: Dataset, tag: BaseTag) -> RawDataElement | None:
    """An element as it was read; None if pydicom has decoded it."""
    element = dataset.get_item(tag, keep_deferred=True)
    return cast(RawDataElement, element) if element.is_raw else None


def _check_whole(dataset: Dataset) -> None:
    for tag in dataset.keys():  # noqa: SIM118 - items would decode each element
        raw = _raw(dataset, tag)
        if raw is not None and raw.length != _UNDEFINED_LENGTH and len(raw.value or b"") != raw.length:
            raise CutObject(f"the object is cut within {raw.tag}")


def _end(raw: RawDataElement, file: BinaryIO) -> int | None:
    """Where the value of a deferred element ends; None if it is not made of items as PS3.5 A.4 has it."""
    size = os.fstat(file.fileno()).st_size
    position = raw.value_tell
    if raw.length != _UNDEFINED_LENGTH:
        return position + raw.length
    while position + _ITEM_HEADER.size <= size:
        file.seek(position)
        group, number, length = _ITEM_HEADER.unpack(file.read(_ITEM_HEADER.size))
        if (group, number) == _SEQUENCE_END:
            return position
        if (group, number) != _ITEM or length == _UNDEFINED_LENGTH:
            return None
        position += _ITEM_HEADER.size + length
    raise CutObject(f"the object is cut within {raw.tag}")


def _filled(raw: RawDataElement, end: int, file: BinaryIO) -> DataElement | RawDataElement:
    """A deferred element with its value: a buffer if it is pixel data that pydicom can write from one."""
    if end > os.fstat(file.fileno()).st_size:
        raise CutObject(f"the object is cut within {raw.tag}")
    length = end - raw.value_tell
    if raw.tag == PIXEL_DATA and raw.VR in ("OB", "OW", None) and length % 2 == 0:
        window = BufferedReader(_Window(file, raw.value_tell, end), _READ_BYTES)
        element = DataElement(raw.tag, raw.VR or "OW", window)
        element.is_undefined_length = raw.length == _UNDEFINED_LENGTH
        return element
    file.seek(raw.value_tell)
    return raw._replace(value=file.read(length))


class _Window(RawIOBase):
    """Bytes `start` to `end` of a file, as a file of their own."""

    def __init__(self, file: BinaryIO, start: int, end: int) -> None:
        self._file, self._start, self._length = file, start, end - start
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = SEEK_SET) -> int:
        self._position = max(0, offset + {SEEK_SET: 0, SEEK_CUR: self._position, SEEK_END: self._length}[whence])
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Read on from where we are; the file's own position is not used."""
        left = max(0, self._length - self._position)
        read = os.preadv(self._file.fileno(), [memoryview(buffer)[:left]], self._start + self._position)
        self._position += read
        return read
