"""A DICOMweb origin server (PS3.18) as an archive: QIDO-RS, WADO-RS and STOW-RS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import requests
from pydicom import Dataset

from ...series import Instance, Series
from ..archive import (
    NotThere,
    RefusedObject,
    RetrieveError,
    SeriesEntry,
    SourceNotThere,
    StoredObject,
    StoreRefused,
)
from ..http_answers import CONFLICT, NOT_FOUND, status_of
from ..http_session import Patience, open_client, open_session
from ..object_file import object_digest
from ..received import filed
from ..storing import Outgoing, prepared, store_if_absent
from ..together import given_back, side_by_side
from ..uids import ObjectUids, is_uid
from ..whole import whole_or_nothing
from .credentials import credentials_for
from .errors import retrieve_errors, search_errors, store_errors
from .multipart import parts_of
from .stow import send

PAGE = 1000
"""Series asked for at once."""
AS_STORED: Final = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
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
        self._session = open_session(self._patience, credentials_for(self._url, self._patience))
        self._client = open_client(self._url, self._session, self._patience)

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

    @whole_or_nothing
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
            for part in self._parts(f"/studies/{entry.study_instance_uid}/series/{entry.series_instance_uid}", into):
                each = filed(part, into, self.uri, entry.series_instance_uid)
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

        Raises
        ------
        StoreConflict
            If a different object is there under the same UIDs; it is left as it was.
        StoreRefused, NoSpace, ReadBackDiffers, StoreError, AccessDenied
            If the object could not be stored or came back changed.
        """
        with prepared(dataset, self.uri) as outgoing:
            uids, path = outgoing.uids, _path(outgoing.uids)
            with store_errors(self.uri, uids, self._patience):
                already_there = store_if_absent(
                    self.uri, uids, outgoing.digest, lambda: self._held(path), lambda: self._send(outgoing)
                )
            return uids.stored(f"{self.uri}{path}", outgoing.digest, outgoing.bytes, already_there=already_there)

    def store_together(self, series: Series) -> list[StoredObject]:
        """Store a series with one search before, several connections, and one retrieve after; see `StoresTogether`.

        Raises
        ------
        SearchError, RetrieveError, NoSpace, AccessDenied
            If the archive does not answer, lets nobody in or is full.
        """
        study, uid = series.study_instance_uid, series.series_instance_uid
        try:
            with search_errors(self.uri, self._patience):
                held = self._instances(study, uid)
        except SourceNotThere:  # some answer 404 for a series that they do not hold
            held = set()

        def sent(outgoing: Outgoing) -> None:
            if outgoing.uids.sop_instance_uid not in held:
                with store_errors(self.uri, outgoing.uids, self._patience):
                    self._send(outgoing)

        outgoing = side_by_side(series, self.uri, sent)
        with TemporaryDirectory(prefix="voxfleet-") as folder, retrieve_errors(self.uri, uid, self._patience):
            parts = self._parts(f"/studies/{study}/series/{uid}", Path(folder))
            return [
                each.uids.stored(
                    f"{self.uri}{_path(each.uids)}",
                    each.digest,
                    each.bytes,
                    already_there=each.uids.sop_instance_uid in held,
                )
                for each in given_back(series, outgoing, parts)
            ]

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
        return int(told_count) if told_count.isdecimal() else len(self._instances(study, series))

    def _instances(self, study: str, series: str) -> set[str]:
        """SOP Instance UIDs of a series; pages as `_all_series` has them."""
        instances: set[str] = set()
        offset = 0
        while True:
            page = self._client.search_for_instances(study, series, limit=PAGE, offset=offset, fields=[_INSTANCE])
            before = len(instances)
            instances.update(_text(each, _INSTANCE) for each in page)
            if len(instances) == before:
                return instances
            offset += len(page)

    def _send(self, outgoing: Outgoing) -> bool:
        """Send an object; False if it is refused because one is there, as after an answer that was lost."""
        try:
            send(self._session, f"{self._url}/studies", outgoing, self.uri, self._patience)
        except (requests.HTTPError, StoreRefused) as exc:
            conflict = isinstance(exc, StoreRefused) or status_of(exc) == CONFLICT
            if not conflict or self._held(_path(outgoing.uids)) is None:
                raise
            return False
        return True

    def _parts(self, path: str, into: Path) -> Iterator[Path]:
        """Objects that the archive gives for a path, each as a file in `into`."""
        timeout = (self._patience.connect_s, self._patience.read_s)
        with self._session.get(f"{self._url}{path}", headers=AS_STORED, stream=True, timeout=timeout) as response:
            response.raise_for_status()
            yield from parts_of(response, into)

    def _held(self, path: str) -> str | None:
        """Digest of the object that the archive holds at a path, or None."""
        with TemporaryDirectory(prefix="voxfleet-") as folder:
            try:
                digests = [object_digest(each) for each in self._parts(path, Path(folder))]
            except requests.HTTPError as exc:
                if status_of(exc) in NOT_FOUND:
                    return None
                raise
        if len(digests) != 1:
            raise ValueError(f"{len(digests)} objects for one")
        return digests[0]


def _path(uids: ObjectUids) -> str:
    """Of an instance, below the base address."""
    return f"/studies/{uids.study_instance_uid}/series/{uids.series_instance_uid}/instances/{uids.sop_instance_uid}"


def _series_instance_uid(entry: SeriesEntry) -> str:
    return entry.series_instance_uid


def _text(answer: _Answer, tag: str) -> str:
    """First value of an element in DICOM JSON (PS3.18 F.2), empty if absent."""
    values = answer.get(tag, {}).get("Value") or [""]
    return str(values[0])
