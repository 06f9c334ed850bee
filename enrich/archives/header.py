"""What a search needs to know of one file, read from its first bytes."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Final

from pydicom import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_dataset, read_partial
from pydicom.tag import BaseTag, Tag
from pydicom.uid import DeflatedExplicitVRLittleEndian, MediaStorageDirectoryStorage

from .uids import ObjectUids, object_uids

DAMAGE = (
    ArithmeticError,
    AttributeError,
    BytesLengthException,
    EOFError,
    InvalidDicomError,
    LookupError,
    NotImplementedError,
    RecursionError,
    struct.error,
    TypeError,
    ValueError,
    zlib.error,
)
"""What pydicom raises for bytes that are no whole DICOM file."""
_PREAMBLE_BYTES = 128
_PREFIX = b"DICM"
_TAGS: list[BaseTag | int] = [
    Tag(keyword) for keyword in ("SOPClassUID", "SOPInstanceUID", "Modality", "StudyInstanceUID", "SeriesInstanceUID")
]
_SERIES_INSTANCE_UID = 0x0020000E
_FILE_META_GROUP = 2
INFLATED_BYTES: Final = 4 << 20
"""Of a deflated object no more than this is inflated to find its UIDs: what follows may be a bomb."""


@dataclass(frozen=True, slots=True)
class Header:
    """One file as a search sees it: filed under its UIDs, or refused.

    Attributes
    ----------
    uids : ObjectUids or None
        None if the file is refused.
    modality : str
        (0008,0060), empty if absent.
    code, reason : str
        Why it is refused; both empty if it is not. ``DICOMDIR`` marks a directory of media,
        which is no object and needs no report.
    """

    uids: ObjectUids | None
    modality: str = ""
    code: str = ""
    reason: str = ""


def read_header(path: Path) -> Header:
    """UIDs and modality of a file; reading ends after Series Instance UID (0020,000E).

    Never raises for what the file holds or for a file that cannot be opened: that is a `Header`
    with a code, ``NOT_DICOM``, ``UNREADABLE``, ``ACCESS_DENIED``, ``MISSING_UID`` or ``INVALID_UID``.
    """
    try:
        with path.open("rb") as file:
            return header_of(file)
    except PermissionError as exc:
        return Header(None, code="ACCESS_DENIED", reason=exc.strerror or "permission denied")
    except OSError as exc:
        return Header(None, code="UNREADABLE", reason=exc.strerror or type(exc).__name__)


def header_of(file: BinaryIO) -> Header:
    """UIDs and modality of a file, or of the first bytes of one, from its beginning.

    Raises
    ------
    OSError
        If it cannot be read; for what it holds, it never raises.
    """
    try:
        if file.read(_PREAMBLE_BYTES + len(_PREFIX))[_PREAMBLE_BYTES:] != _PREFIX:
            return Header(None, code="NOT_DICOM", reason="lacks the prefix DICM after 128 bytes (PS3.10 7.1)")
        file.seek(0)
        return _filed(file)
    except DAMAGE as exc:
        return Header(None, code="UNREADABLE", reason=f"is damaged before its UIDs ({type(exc).__name__})")


def _filed(file: BinaryIO) -> Header:
    passed: list[BaseTag] = []

    def past_series(tag: BaseTag, vr: str | None, length: int) -> bool:
        del vr, length
        if tag > _SERIES_INSTANCE_UID:
            passed.append(tag)
        return bool(passed)

    meta = _file_meta(file)
    if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        inflated = zlib.decompressobj(-zlib.MAX_WBITS).decompress(file.read(INFLATED_BYTES), INFLATED_BYTES)
        dataset: Dataset = read_dataset(BytesIO(inflated), False, True, stop_when=past_series, specific_tags=_TAGS)
    else:
        file.seek(0)
        dataset = read_partial(file, stop_when=past_series, specific_tags=_TAGS)
    if meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
        return Header(None, code="DICOMDIR")
    if not passed:
        return Header(None, code="UNREADABLE", reason="ends before its Series Instance UID is complete")
    found = object_uids(dataset)
    if isinstance(found, ObjectUids):
        return Header(found, modality=str(dataset.get("Modality") or ""))
    return Header(None, code=found.code, reason=found.reason)


def _file_meta(file: BinaryIO) -> Dataset:
    """File Meta Information (PS3.10 7.1); the file is left where its data set begins."""
    file.seek(_PREAMBLE_BYTES + len(_PREFIX))
    return read_dataset(file, False, True, stop_when=lambda tag, _vr, _length: tag.group != _FILE_META_GROUP)
