"""Digests of data sets and of files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from io import SEEK_END, BufferedIOBase
from pathlib import Path
from struct import Struct
from typing import Final, Protocol, cast

from pydicom import Dataset
from pydicom.charset import default_encoding
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element
from pydicom.uid import ExplicitVRLittleEndian

from .encoding.encoded import NotPlain, Span, elements_of, is_plain, items_of

_CHUNK_BYTES = 1 << 20
_PIXEL_DATA = 0x7FE00010
_TRAILING_PADDING = 0xFFFCFFFC
_UNDEFINED = 0xFFFFFFFF
_HEADER = Struct("<HHL")
_ITEM = _HEADER.pack(0xFFFE, 0xE000, _UNDEFINED)
_ITEM_END = _HEADER.pack(0xFFFE, 0xE00D, 0)
_SEQUENCE_END = _HEADER.pack(0xFFFE, 0xE0DD, 0)
_LAST_META_GROUP = 0x0006
_META_LENGTH = Struct("<HH2sHL")
_META_START = 144
"""Of the File Meta Information behind its own length (0002,0000)."""
_TRANSFER_SYNTAX_UID = 0x00020010
_EXPLICIT = ExplicitVRLittleEndian.encode()
_TEXT: Final = frozenset(
    ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT")
)
"""VRs whose trailing spaces or NULs only fill up to even length (PS3.5 6.2)."""


class _Hash(Protocol):
    def update(self, data: bytes | memoryview, /) -> None: ...


def dataset_digest(dataset: Dataset) -> str:
    """SHA-256, in hex, of a data set in one canonical encoding.

    The canonical encoding is Implicit VR Little Endian (PS3.5 A.1) with every sequence and item of
    undefined length. Left out are file meta information (group 0002), group lengths (gggg,0000) and
    Data Set Trailing Padding (FFFC,FFFC). Compressed pixel data stand as an undefined length, their
    items (the offset table included) and the delimiter. Text is padded to even length and no further,
    with a space, UIDs with NUL (PS3.5 6.2). It is what dcmtk writes with ``dcmconv --write-dataset
    --write-xfer-implicit --group-length-remove --length-undefined --padding-off`` for an object that is
    not compressed and whose text was padded so.

    Explicit and implicit VR, deflate, defined and undefined lengths make no difference; any changed
    value does. Pixel data are never decoded: another compression, another fragmentation or another
    offset table is another data set. Private elements whose VR got lost (UN) count byte by byte.

    Parameters
    ----------
    dataset : pydicom.Dataset
        Read from bytes or made in memory. An element that was decoded or set counts with the bytes
        with which pydicom would write it.

    Returns
    -------
    str
        64 characters.
    """
    digest = hashlib.sha256()
    _add_dataset(digest, dataset, default_encoding)
    return digest.hexdigest()


def plain_file_digest(data: bytes, tags: Sequence[int]) -> tuple[str, dict[int, str]]:
    """`dataset_digest` of an encoded file, and the text of some of its elements, without a data set being made.

    Parameters
    ----------
    data : bytes
        A whole file (PS3.10).
    tags : sequence of int
        Elements wanted; their text is stripped of padding, and one that is absent is left out.

    Raises
    ------
    NotPlain
        If it takes more than copying: another transfer syntax than Explicit VR Little Endian, an undefined
        length, a VR of UN, elements out of order, or a cut file. `dataset_digest` copes with those that are DICOM.
    """
    digest, found, last = hashlib.sha256(), dict[int, str](), 0
    for each in elements_of(data, _dataset_span(data)):
        if each.tag <= last or each.tag >> 16 <= _LAST_META_GROUP or each.vr == b"UN":
            raise NotPlain
        last = each.tag
        if each.tag & 0xFFFF == 0 or each.tag == _TRAILING_PADDING:
            continue
        if each.tag in tags:
            found[each.tag] = data[each.start : each.end].rstrip(b"\0 ").decode("ascii", "replace")
        if each.vr == b"SQ":
            digest.update(
                b"".join(_plain_sequence(data[each.start : each.end], Span(each.tag, b"SQ", 0, each.end - each.start)))
            )
        elif each.tag == _PIXEL_DATA:
            length = each.end - each.start
            digest.update(_HEADER.pack(each.tag >> 16, each.tag & 0xFFFF, length + length % 2))
            digest.update(memoryview(data)[each.start : each.end])
            digest.update(b"\0" * (length % 2))
        else:
            padded = _repadded(data[each.start : each.end], each.vr.decode("ascii", "replace"))
            digest.update(_HEADER.pack(each.tag >> 16, each.tag & 0xFFFF, len(padded)) + padded)
    return digest.hexdigest(), found


def _dataset_span(data: bytes) -> Span:
    """Where the data set of a file lies, behind its File Meta Information (PS3.10 7.1)."""
    if data[128:132] != b"DICM" or len(data) < _META_START:
        raise NotPlain
    group, number, vr, size, length = _META_LENGTH.unpack_from(data, 132)
    end = _META_START + length
    if (group, number, vr, size) != (2, 0, b"UL", 4) or end > len(data):
        raise NotPlain
    for each in elements_of(data, Span(0, b"", _META_START, end)):
        if each.tag == _TRANSFER_SYNTAX_UID and data[each.start : each.end].rstrip(b"\0") == _EXPLICIT:
            return Span(0, b"", end, len(data))
    raise NotPlain


def file_sha256(path: Path) -> str:
    """SHA-256, in hex, of a file's bytes.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _add_dataset(digest: _Hash, dataset: Dataset, parent_encoding: str | list[str]) -> None:
    encoding: str | list[str] = dataset.get("SpecificCharacterSet", parent_encoding) or parent_encoding
    for tag in sorted(dataset.keys()):
        if tag.group <= _LAST_META_GROUP or tag.element == 0 or tag == _TRAILING_PADDING:
            continue
        element = dataset.get_item(tag)
        if is_plain(element) and element.VR == "SQ":
            try:
                parts = tuple(_plain_sequence(element.value, Span(tag, b"SQ", 0, len(element.value))))
            except NotPlain:
                pass
            else:
                digest.update(b"".join(parts))
                continue
        if _must_be_decoded(element):
            element = dataset[tag]
        if element.VR == "SQ":
            _add_sequence(digest, element, encoding)
        elif _is_encapsulated(element, dataset):
            digest.update(_HEADER.pack(tag.group, tag.element, _UNDEFINED))
            _add_value(digest, element)
            digest.update(_SEQUENCE_END)
        else:
            _add_defined(digest, element, encoding)


def _plain_sequence(value: bytes, sequence: Span) -> Iterator[bytes]:
    """Canonical encoding of a sequence that nobody has read yet, without making data sets of its items.

    Raises
    ------
    NotPlain
        If something in it takes more than copying.
    """
    yield _HEADER.pack(sequence.tag >> 16, sequence.tag & 0xFFFF, _UNDEFINED)
    for item in items_of(value, sequence.start, sequence.end):
        yield _ITEM
        last = 0
        for element in elements_of(value, item):
            group, number = element.tag >> 16, element.tag & 0xFFFF
            odd = element.vr == b"UN" or element.tag in (_PIXEL_DATA, _TRAILING_PADDING)
            if odd or element.tag <= last or group <= _LAST_META_GROUP or number == 0:
                raise NotPlain
            last = element.tag
            if element.vr == b"SQ":
                yield from _plain_sequence(value, element)
                continue
            padded = _repadded(value[element.start : element.end], element.vr.decode("ascii", "replace"))
            yield _HEADER.pack(group, number, len(padded)) + padded
        yield _ITEM_END
    yield _SEQUENCE_END


def _must_be_decoded(element: DataElement | RawDataElement) -> bool:
    """Whether the bytes as read are not those of the canonical encoding."""
    if not element.is_raw:
        return False
    raw = cast(RawDataElement, element)
    if not raw.is_little_endian or raw.VR == "SQ":
        return True
    return _vr(raw) == "SQ"


def _is_encapsulated(element: DataElement | RawDataElement, dataset: Dataset) -> bool:
    if element.is_raw:
        return cast(RawDataElement, element).length == _UNDEFINED
    if element.tag != _PIXEL_DATA:
        return False
    transfer_syntax = getattr(getattr(dataset, "file_meta", None), "TransferSyntaxUID", None)
    if transfer_syntax is None or transfer_syntax.is_private:
        return cast(DataElement, element).is_undefined_length
    return bool(transfer_syntax.is_encapsulated)


def _add_sequence(digest: _Hash, element: DataElement | RawDataElement, encoding: str | list[str]) -> None:
    digest.update(_HEADER.pack(element.tag.group, element.tag.element, _UNDEFINED))
    for item in cast(Sequence[Dataset], element.value or ()):
        digest.update(_ITEM)
        _add_dataset(digest, item, encoding)
        digest.update(_ITEM_END)
    digest.update(_SEQUENCE_END)


def _add_defined(digest: _Hash, element: DataElement | RawDataElement, encoding: str | list[str]) -> None:
    """Tag, length and value of an element that is no sequence."""
    if element.tag == _PIXEL_DATA:
        length = _length(element)
        digest.update(_HEADER.pack(element.tag.group, element.tag.element, length + length % 2))
        _add_value(digest, element)
        return
    value = _repadded(_encoded(element, encoding), _vr(element))
    digest.update(_HEADER.pack(element.tag.group, element.tag.element, len(value)))
    digest.update(value)


def _encoded(element: DataElement | RawDataElement, encoding: str | list[str]) -> bytes:
    """Value in little endian: as read, or as pydicom writes it."""
    if element.is_raw:
        return cast(bytes, element.value) or b""
    buffer = DicomBytesIO()
    buffer.is_little_endian = True
    buffer.is_implicit_VR = True
    write_data_element(buffer, element, encoding)
    return bytes(buffer.getvalue()[_HEADER.size :])


def _vr(element: DataElement | RawDataElement) -> str | None:
    if element.VR in (None, "UN"):
        with suppress(KeyError):
            return dictionary_VR(element.tag)
    return element.VR


def _repadded(value: bytes, vr: str | None) -> bytes:
    if vr in _TEXT:
        value = value.rstrip(b"\0 ")
        return value + (b"\0" if vr == "UI" else b" ") if len(value) % 2 else value
    return value + b"\0" if len(value) % 2 else value


def _length(element: DataElement | RawDataElement) -> int:
    value = element.value
    if isinstance(value, BufferedIOBase):
        start = value.tell()
        end = value.seek(0, SEEK_END)
        value.seek(start)
        return end - start
    return len(value or b"")


def _add_value(digest: _Hash, element: DataElement | RawDataElement) -> None:
    """Pixel data in memory or in an open file, padded to even length."""
    value = element.value
    if isinstance(value, BufferedIOBase):
        start = value.tell()
        while chunk := value.read(_CHUNK_BYTES):
            digest.update(chunk)
        value.seek(start)
    elif value:
        digest.update(value)
    if _length(element) % 2:
        digest.update(b"\0")
