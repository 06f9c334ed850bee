"""How every archive stores an object: checked, encoded once, sent if absent, read back, compared."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import pydicom
from pydicom import Dataset
from pydicom.dataelem import DataElement

from ..digest import dataset_digest
from .archive import ReadBackDiffers, StoreConflict, StoreError, StoreRefused
from .header import DAMAGE
from .object_file import LARGE_BYTES, PIXEL_DATA
from .uids import ObjectUids, UidFault, object_uids

_ELEMENT = re.compile(r"\((?!0002)[0-9A-Fa-f]{4}, ?[0-9A-Fa-f]{4}\)")
"""Tag of an element of the data set, which pydicom's messages name before they quote its value."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """An object that is to be stored, encoded as a DICOM file (PS3.10)."""

    uids: ObjectUids
    digest: str
    """Of its data set (`enrich.digest.dataset_digest`)."""
    path: Path
    bytes: int


def checked_uids(dataset: Dataset, uri: str) -> ObjectUids:
    """UIDs under which an object is to be stored.

    Raises
    ------
    StoreRefused
        If one is absent or breaks the rule of PS3.5 9.1, or the transfer syntax is not known.
    """
    uids = object_uids(dataset)
    if isinstance(uids, UidFault):
        raise StoreRefused(uri, str(dataset.get("SOPInstanceUID") or "object without UID"), uids.reason)
    if not getattr(getattr(dataset, "file_meta", None), "TransferSyntaxUID", ""):
        raise StoreRefused(uri, uids.sop_instance_uid, "Transfer Syntax UID (0002,0010) is absent: cannot be encoded")
    return uids


def unencodable(error: Exception) -> str:
    """Why pydicom could not encode a data set: where a value is at fault its element, never the value."""
    said = " ".join(str(error).split())
    element = _ELEMENT.search(said)
    return f"cannot be encoded: {said[:200] if element is None else f'{type(error).__name__} at {element[0]}'}"


@contextmanager
def prepared(dataset: Dataset, uri: str) -> Iterator[Outgoing]:
    """The object, checked and encoded into a file of the local disk, which ends with the context.

    Raises
    ------
    StoreRefused
        If its UIDs break a rule, or it cannot be encoded.
    StoreError
        If it cannot be written to the local disk.
    """
    uids = checked_uids(dataset, uri)
    digest = dataset_digest(dataset)
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="voxfleet-"))
            path = Path(folder) / "object.dcm"
            with path.open("xb") as file:
                encode(dataset, file)
        except OSError as exc:
            reason = f"cannot be written here: {exc.strerror or type(exc).__name__}"
            raise StoreError(uri, uids.sop_instance_uid, reason) from exc
        except DAMAGE as exc:
            reason = unencodable(exc)
            raise StoreRefused(uri, uids.sop_instance_uid, reason) from exc
        yield Outgoing(uids, digest, path, path.stat().st_size)


def store_if_absent(
    uri: str, uids: ObjectUids, digest: str, held: Callable[[], str | None], send: Callable[[], bool]
) -> bool:
    """Look what the archive holds, send if that is nothing, read back, compare; whether it was there already.

    What an archive says about a store is not believed: it may report success for an object that it dropped
    because another bears its UID (Orthanc does). So it is looked for first, and what comes back decides.

    Parameters
    ----------
    held : callable
        Digest of the object that the archive holds under these UIDs, read whole; None if it holds none.
    send : callable
        Sends the object; False if the archive says that another writer was first.

    Raises
    ------
    StoreConflict
        If a different object is there; it is left as it was.
    ReadBackDiffers
        If the archive gives back another data set than it was sent.
    StoreError
        If it took the object and does not hold it.
    """
    found = held()
    already_there = found is not None
    if found is None:
        already_there = not send()
        found = held()
    if found is None:
        reason = "the archive took the object without complaint and does not hold it"
        raise StoreError(uri, uids.sop_instance_uid, reason)
    if found != digest and already_there:
        raise StoreConflict(uri, uids.sop_instance_uid, "another object is there; it was left as it was")
    if found != digest:
        raise ReadBackDiffers(uri, uids.sop_instance_uid, "the archive gives another data set back")
    return already_there


def encode(dataset: Dataset, file: BinaryIO) -> None:
    """Write an object as a DICOM file (PS3.10); large pixel data are written piece by piece, without a copy of them.

    Raises
    ------
    OSError, or one of `header.DAMAGE`
        If it cannot be written or encoded.
    """
    pydicom.dcmwrite(file, _by_pieces(dataset), enforce_file_format=True)


def _by_pieces(dataset: Dataset) -> Dataset:
    """The data set, its large pixel data as a buffer over the same bytes: pydicom copies all others to write them."""
    element = dataset.get(PIXEL_DATA)
    if element is None or not isinstance(element.value, bytes) or len(element.value) < LARGE_BYTES:
        return dataset
    if element.VR not in ("OB", "OW") or len(element.value) % 2:
        return dataset
    twin = Dataset({tag: dataset.get_item(tag) for tag in dataset.keys()})  # noqa: SIM118 - items would decode each
    twin.file_meta = dataset.file_meta
    twin.preamble = getattr(dataset, "preamble", None)
    implicit, little_endian = dataset.original_encoding
    twin.set_original_encoding(implicit, little_endian, dataset.original_character_set)
    twin[PIXEL_DATA] = DataElement(PIXEL_DATA, element.VR, BytesIO(element.value))
    twin[PIXEL_DATA].is_undefined_length = element.is_undefined_length
    return twin
