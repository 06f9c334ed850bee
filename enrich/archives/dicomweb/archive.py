"""A DICOMweb origin server (PS3.18) as an archive: QIDO-RS, WADO-RS and STOW-RS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pydicom
import requests
from pydicom import Dataset

from ...digest import dataset_digest, file_sha256
from ...series import Instance, Series
from ..archive import (
    NotThere,
    ReadBackDiffers,
    RefusedObject,
    RetrieveError,
    SeriesEntry,
    StoreConflict,
    StoredObject,
    StoreError,
)
from ..folder.store import checked_uids
from ..http_session import Patience, open_client, open_session, status_of
from ..uids import ObjectUids, is_uid, object_uids
from .errors import NOT_FOUND, check_whole, retrieve_errors, search_errors, store_errors
from .stow import encode, send

PAGE = 1000
"""Series asked for at once."""
READ_BYTES = 1 << 20
"""Taken from the connection at once."""
SEND_BYTES = 1 << 40
"""More than any object: each is sent in one piece."""
AS_STORED: Final = (("application/dicom", "*"),)
"""Any transfer syntax: the archive gives what it holds and decodes nothing."""
_Answer = dict[str, dict[str, Any]]
"""One match of a search in the DICOM JSON model (PS3.18 F)."""
_MODALITY, _STUDY, _SERIES, _INSTANCE, _COUNT = "00080060", "0020000D", "0020000E", "00080018", "00201209"


class DicomwebArchive:
    """An archive spoken to by QIDO-RS, WADO-RS and STOW-RS.

    Parameters
    ----------
    url : str
        Base address, e.g. ``https://host/dicom-web``; without user, password, query or fragment.
    patience : Patience
        Time-outs and retries.
    """

    def __init__(self, url: str, patience: Patience | None = None) -> None:
        self._url = url.rstrip("/")
        self._patience = patience or Patience()
        self._session = open_session(self._url, self._patience)
        self._client = open_client(self._url, self._session, self._patience, READ_BYTES)
        self._sender = open_client(self._url, self._session, self._patience, SEND_BYTES)

    @property
    def uri(self) -> str:
        """``dicomweb+`` and the base address; it never holds credentials."""
        return f"dicomweb+{self._url}"

    def search(self) -> Iterator[SeriesEntry | RefusedObject]:
        """Every series, ordered by UID, then what has no usable UID; the size is not told by DICOMweb.

        Raises
        ------
        SearchError, SearchUnanswered, AccessDenied
            If the archive cannot be listed; `SearchUnanswered` may be tried again.
        """
        with search_errors(self.uri, self._patience):
            found = [self._entry(answer) for answer in self._all_series()]
        yield from sorted((each for each in found if isinstance(each, SeriesEntry)), key=_series_instance_uid)
        yield from (each for each in found if isinstance(each, RefusedObject))

    def probe(self) -> None:
        """Ask for one series; whether storing is allowed, only storing tells.

        Raises
        ------
        SearchError, SearchUnanswered, AccessDenied
            If the archive does not answer, or does not let us in.
        """
        with search_errors(self.uri, self._patience):
            self._client.search_for_series(limit=1)

    def retrieve(self, entry: SeriesEntry, into: Path) -> Series:
        """Copy the series into `into`, as ``INSTANCE.dcm``, each in the transfer syntax that it is stored in.

        Raises
        ------
        NotThere
            If the archive holds no such series.
        RetrieveError, AccessDenied
            If the archive does not answer, the answer is cut, or instances are not as many as it said.
        """
        into.mkdir(parents=True, exist_ok=True)
        instances: dict[str, Instance] = {}
        with retrieve_errors(self.uri, entry.series_instance_uid, self._patience):
            for dataset in self._client.iter_series(
                entry.study_instance_uid, entry.series_instance_uid, media_types=AS_STORED
            ):
                each = self._written(dataset, entry, into)
                instances[each.sop_instance_uid] = each
        if not instances:
            raise NotThere(self.uri, entry.series_instance_uid, "the archive gave no instance of this series")
        if len(instances) != entry.instances:
            reason = f"the archive gave {len(instances)} of {entry.instances} instances"
            raise RetrieveError(self.uri, entry.series_instance_uid, reason)
        ordered = tuple(instances[uid] for uid in sorted(instances))
        return Series(entry.study_instance_uid, entry.series_instance_uid, entry.modality, ordered)

    def store(self, dataset: Dataset) -> StoredObject:
        """Store one object if it is absent, read it back whole, compare.

        An archive may report success for an object that it dropped because another bears its UID
        (Orthanc does); so it is looked for first, and what comes back decides.

        Raises
        ------
        StoreConflict
            If a different object is there under the same UIDs; it is left as it was.
        StoreRefused, NoSpace, ReadBackDiffers, StoreError, AccessDenied
            If the object could not be stored or came back changed.
        """
        uids = checked_uids(dataset, self.uri)
        digest = dataset_digest(dataset)
        encoded = encode(dataset, self.uri, uids)
        size = encoded.getbuffer().nbytes
        with store_errors(self.uri, uids, self._patience):
            held = self._held(uids)
            if held is None:
                send(self._sender, encoded, self.uri, uids)
                self._compare(digest, uids)
            elif held != digest:
                raise StoreConflict(self.uri, uids.sop_instance_uid, "another object is there; it was left as it was")
        place = (
            f"{self.uri}/studies/{uids.study_instance_uid}/series/{uids.series_instance_uid}"
            f"/instances/{uids.sop_instance_uid}"
        )
        return uids.stored(place, digest, size, already_there=held is not None)

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def _all_series(self) -> list[_Answer]:
        """All pages; ends at an empty page, or at one that tells nothing new (an archive without paging)."""
        answers: dict[tuple[str, str], _Answer] = {}
        offset = 0
        while True:
            page = self._client.search_for_series(
                limit=PAGE, offset=offset, fields=[_MODALITY, _STUDY, _SERIES, _COUNT]
            )
            before = len(answers)
            answers.update({(_text(each, _STUDY), _text(each, _SERIES)): each for each in page})
            if len(answers) == before:
                return list(answers.values())
            offset += len(page)

    def _entry(self, answer: _Answer) -> SeriesEntry | RefusedObject:
        study, series = _text(answer, _STUDY), _text(answer, _SERIES)
        if is_uid(study) and is_uid(series):
            return SeriesEntry(study, series, _text(answer, _MODALITY), self._count(answer, study, series))
        code = "INVALID_UID" if study and series else "MISSING_UID"
        reason = f"study {study[:80]!r} and series {series[:80]!r} are not both UIDs (PS3.5 9.1)"
        return RefusedObject(series[:80] or "series without UID", code, reason)

    def _count(self, answer: _Answer, study: str, series: str) -> int:
        """Count by Number of Series Related Instances (0020,1209), or by instances where it is not told."""
        told_count = _text(answer, _COUNT)
        if told_count.isdecimal():
            return int(told_count)
        instances: set[str] = set()
        offset = 0
        while True:
            page = self._client.search_for_instances(study, series, limit=PAGE, offset=offset, fields=[_INSTANCE])
            before = len(instances)
            instances.update(_text(each, _INSTANCE) for each in page)
            if len(instances) == before:
                return len(instances)
            offset += len(page)

    def _written(self, dataset: Dataset, entry: SeriesEntry, into: Path) -> Instance:
        """One received object, checked and written as it came."""
        uids = object_uids(dataset)
        if not isinstance(uids, ObjectUids):
            raise RetrieveError(self.uri, entry.series_instance_uid, f"the archive gave an object whose {uids.reason}")
        if uids.series_instance_uid != entry.series_instance_uid:
            reason = f"the archive gave an object of series {uids.series_instance_uid}"
            raise RetrieveError(self.uri, entry.series_instance_uid, reason)
        check_whole(dataset)
        path = into / f"{uids.sop_instance_uid}.dcm"
        pydicom.dcmwrite(path, dataset)
        size = path.stat().st_size
        return Instance(uids.sop_class_uid, uids.sop_instance_uid, file_sha256(path), size, path)

    def _held(self, uids: ObjectUids) -> str | None:
        """Digest of the object that the archive holds under these UIDs, or None."""
        try:
            dataset = self._client.retrieve_instance(
                uids.study_instance_uid, uids.series_instance_uid, uids.sop_instance_uid, media_types=AS_STORED
            )
        except requests.HTTPError as exc:
            if status_of(exc) in NOT_FOUND:
                return None
            raise
        check_whole(dataset)
        return dataset_digest(dataset)

    def _compare(self, digest: str, uids: ObjectUids) -> None:
        held = self._held(uids)
        if held is None:
            reason = "the archive took the object without complaint and does not hold it"
            raise StoreError(self.uri, uids.sop_instance_uid, reason)
        if held != digest:
            raise ReadBackDiffers(self.uri, uids.sop_instance_uid, "the archive gives another data set back")


def _series_instance_uid(entry: SeriesEntry) -> str:
    return entry.series_instance_uid


def _text(answer: _Answer, tag: str) -> str:
    """First value of an element in DICOM JSON (PS3.18 F.2), empty if absent."""
    values = answer.get(tag, {}).get("Value") or [""]
    return str(values[0])
