"""Data elements as bytes in Explicit VR Little Endian (PS3.5 7.1.2), for what an object repeats thousands of times.

pydicom takes some 50 microseconds an element to check, to hold and to write. A SEG of 104
segments has 7,000 frames and its SR 60,000 elements, nearly all of them alike: those are put
together from parts that were encoded once, and pydicom writes and reads them as they are.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

from pydicom import Dataset
from pydicom.charset import convert_encodings, default_encoding
from pydicom.dataelem import RawDataElement
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sr.coding import Code
from pydicom.tag import Tag

from .equipment import code_item

UNDEFINED_LENGTH = 0xFFFFFFFF
ITEM_TAG = 0xFFFEE000
_ITEM = struct.pack("<HH", 0xFFFE, 0xE000)
_LONG = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
"""VRs whose length takes four bytes after two reserved ones (PS3.5 table 7.1-1)."""
_HEADER = 8
"""Bytes of tag, VR and a length of two bytes, or of an item's tag and length."""


class NotPlain(ValueError):
    """Encoded elements with an undefined length, or cut short: for pydicom to read, or to refuse."""


class Span(NamedTuple):
    """Where the value of one encoded element lies: bytes `start` to `end`; an item has no VR."""

    tag: int
    vr: bytes
    start: int
    end: int


def element(tag: int, vr: bytes, value: bytes) -> bytes:
    """One data element; `value` has even length."""
    group, number = tag >> 16, tag & 0xFFFF
    if vr in _LONG:
        return struct.pack("<HH2sHI", group, number, vr, 0, len(value)) + value
    return struct.pack("<HH2sH", group, number, vr, len(value)) + value


def text(tag: int, vr: bytes, words: str) -> bytes:
    """One data element of ASCII characters, padded to even length (PS3.5 6.2)."""
    value = words.encode("ascii")
    if len(value) % 2:
        value += b"\0" if vr == b"UI" else b" "
    return element(tag, vr, value)


def item(content: bytes) -> bytes:
    """One item of a sequence, its elements in `content` in order of tag."""
    return _ITEM + struct.pack("<I", len(content)) + content


def sequence(tag: int, contents: Iterable[bytes]) -> bytes:
    """One data element of VR SQ, each item given by its elements."""
    return element(tag, b"SQ", b"".join(map(item, contents)))


def code_sequence(tag: int, code: Code) -> bytes:
    """Sequence of one code (PS3.3 section 8.8)."""
    # Letter by letter: two codes are equal for pydicom whatever their meanings.
    return _code_sequence(tag, str(code.value), code.scheme_designator, code.meaning, code.scheme_version)


@lru_cache(maxsize=4096)
def _code_sequence(tag: int, value: str, scheme: str, meaning: str, version: str | None) -> bytes:
    return sequence(tag, [encoded(code_item(Code(value, scheme, meaning, version)))])


def raw_sequence(tag: int, contents: Iterable[bytes]) -> RawDataElement:
    """Sequence for a pydicom data set, which reads its items when they are asked for."""
    value = b"".join(map(item, contents))
    return RawDataElement(Tag(tag), "SQ", len(value), value, 0, False, True)


def encoded(dataset: Dataset) -> bytes:
    """All elements of a data set, as pydicom encodes them."""
    buffer = DicomBytesIO()
    buffer.is_little_endian = True
    buffer.is_implicit_VR = False
    write_dataset(buffer, dataset)
    return bytes(buffer.getvalue())


def keep_encoding(dataset: Dataset) -> None:
    """Tell pydicom that encoded sequences are as it would write them; else it reads them all before it writes."""
    charset = dataset.get("SpecificCharacterSet")
    dataset.set_original_encoding(False, True, convert_encodings(charset) if charset else default_encoding)


def is_plain(raw: object) -> bool:
    """Whether an element of a data set is a sequence still encoded in Explicit VR Little Endian."""
    return (
        isinstance(raw, RawDataElement)
        and raw.value is not None
        and raw.is_little_endian
        and not raw.is_implicit_VR
        and raw.length != UNDEFINED_LENGTH
    )


def items_of(value: bytes, start: int = 0, end: int | None = None) -> Iterator[Span]:
    """Items of an encoded sequence.

    Raises
    ------
    NotPlain
        If one has an undefined length, or does not end within the sequence.
    """
    end = len(value) if end is None else end
    while start < end:
        group, number, length = _unpack_item(value, start, end)
        start += _HEADER
        if (group << 16 | number) != ITEM_TAG or length == UNDEFINED_LENGTH or start + length > end:
            raise NotPlain
        yield Span(ITEM_TAG, b"", start, start + length)
        start += length


def elements_of(value: bytes, span: Span) -> Iterator[Span]:
    """Elements of one item.

    Raises
    ------
    NotPlain
        If one has an undefined length, or does not end within the item.
    """
    start = span.start
    while start < span.end:
        if start + _HEADER > span.end:
            raise NotPlain
        group, number, vr, length = struct.unpack_from("<HH2sH", value, start)
        start += _HEADER
        if vr in _LONG:
            if start + 4 > span.end:
                raise NotPlain
            (length,) = struct.unpack_from("<I", value, start)
            start += 4
        if length == UNDEFINED_LENGTH or start + length > span.end:
            raise NotPlain
        yield Span(group << 16 | number, vr, start, start + length)
        start += length


def _unpack_item(value: bytes, start: int, end: int) -> tuple[int, int, int]:
    if start + _HEADER > end:
        raise NotPlain
    group, number, length = struct.unpack_from("<HHI", value, start)
    return group, number, length
