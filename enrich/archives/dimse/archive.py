"""A DICOM node (PACS) as an archive: C-ECHO, C-FIND, C-GET or C-MOVE, C-STORE, storage commitment."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pydicom import Dataset
from pynetdicom import build_context
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from ...series import Series
from ..archive import NotThere, RefusedObject, RetrieveError, SeriesEntry, StoredObject, StoreError
from ..http_session import Patience
from ..object_file import object_digest
from ..received import filed
from ..storing import prepared, store_if_absent
from ..together import given_back, outgoing_of
from ..uids import ObjectUids, is_uid
from ..whole import whole_or_nothing
from .address import parse_address
from .association import associate, silence
from .errors import RETRIEVE, SEARCH, STORE, check_status, errors_as
from .query import Query, Received, querying
from .send import commit, send, send_all

AGAIN_S: Final = 0.5
"""Before a study is asked for its series a second time."""


class DimseArchive:
    """An archive spoken to by DIMSE (PS3.7), each step on an association of its own.

    Parameters
    ----------
    uri : str
        ``dimse://AET@HOST:PORT``; see `dimse.address.parse_address`.
    patience : Patience
        Time-outs and retries.
    """

    def __init__(self, uri: str, patience: Patience | None = None) -> None:
        self._address = parse_address(uri)
        self._patience = patience or Patience()

    @property
    def uri(self) -> str:
        """As it was opened; it never holds credentials."""
        return self._address.uri

    def search(self) -> Iterator[SeriesEntry | RefusedObject]:
        """Every series, ordered by UID, then what has no usable UID; the size is not told by C-FIND.

        Series are asked for study by study, as PS3.4 C.4.1.3.1 has it.

        Raises
        ------
        SearchError, SearchUnanswered, AccessDenied
            If the node cannot be searched; `SearchUnanswered` may be tried again.
        """
        with errors_as(SEARCH, self.uri, ""), querying(self._address, self._patience) as query:
            found = [_entry(query, study, match) for study, match in _all_series(query)]
        entries = {each.series_instance_uid: each for each in found if isinstance(each, SeriesEntry)}
        yield from (entries[uid] for uid in sorted(entries))
        yield from (each for each in found if isinstance(each, RefusedObject))

    def probe(self) -> None:
        """C-ECHO; whether storing is allowed, only storing tells.

        Raises
        ------
        SearchError, SearchUnanswered, AccessDenied
            If the node does not answer, or does not let us in.
        """
        with (
            errors_as(SEARCH, self.uri, ""),
            associate(self._address, self._patience, [build_context(Verification)]) as association,
        ):
            check_status(association.send_c_echo(), "C-ECHO", silence(self._patience))

    @whole_or_nothing
    def retrieve(self, entry: SeriesEntry, into: Path) -> Series:
        """Copy the series into `into`, as ``INSTANCE.dcm``, each in the transfer syntax that the node gives.

        Raises
        ------
        NotThere
            If the node holds no such series.
        RetrieveError, AccessDenied
            If it does not answer, or gives fewer or other objects than it said.
        """
        study, series = entry.study_instance_uid, entry.series_instance_uid
        with errors_as(RETRIEVE, self.uri, series):
            into.mkdir(parents=True, exist_ok=True)
            with querying(self._address, self._patience) as query:
                held = _instances(query, study, series)
            if not held:
                raise NotThere(self.uri, series, "the node holds no instance of this series")
            if len(held) != entry.instances:
                reason = f"the node holds {len(held)} of {entry.instances} instances"
                raise RetrieveError(self.uri, series, reason)
            received = Received(into)
            with querying(self._address, self._patience, sorted(set(held.values())), received) as query:
                query.fetch(received, "SERIES", StudyInstanceUID=study, SeriesInstanceUID=series)
            instances = tuple(filed(received.paths[uid], into, self.uri, series) for uid in sorted(received.paths))
        if [each.sop_instance_uid for each in instances] != sorted(received.paths):
            raise RetrieveError(self.uri, series, "the node gave objects under UIDs that are not theirs")
        if len(instances) != entry.instances:
            reason = f"the node gave {len(instances)} of {entry.instances} instances"
            raise RetrieveError(self.uri, series, reason)
        return Series(study, series, entry.modality, instances)

    def store(self, dataset: Dataset) -> StoredObject:
        """Store one object if it is absent, read it back whole, compare; then have it committed if asked to.

        Raises
        ------
        StoreConflict
            If a different object is there under the same UIDs; it is left as it was.
        StoreRefused, NoSpace, ReadBackDiffers, StoreError, AccessDenied
            If the object could not be stored or came back changed.
        """
        with prepared(dataset, self.uri) as outgoing:
            uids = outgoing.uids

            def sent() -> bool:
                send(self._address, self._patience, outgoing)
                return True

            with errors_as(STORE, self.uri, uids.sop_instance_uid):
                already_there = store_if_absent(self.uri, uids, outgoing.digest, lambda: self._held(uids), sent)
                if self._address.commit_to is not None:
                    commit(self._address, self._patience, uids)
            return uids.stored(self._place(uids), outgoing.digest, outgoing.bytes, already_there=already_there)

    def store_together(self, series: Series) -> list[StoredObject]:
        """Store a series over one association, and have it given back over another; see `StoresTogether`.

        Where storage commitment is wanted nothing is done: `store` asks for it object by object.

        Raises
        ------
        SearchError, RetrieveError, StoreError, AccessDenied
            If the node does not answer, lets nobody in, does not take the objects or would not give them back.
        """
        if self._address.commit_to is not None:
            return []
        study, uid = series.study_instance_uid, series.series_instance_uid
        classes = sorted({each.sop_class_uid for each in series.instances})
        read = [outgoing_of(each, self.uri) for each in series.instances]
        with tempfile.TemporaryDirectory(prefix="voxfleet-") as folder, errors_as(STORE, self.uri, uid):
            received = Received(Path(folder))
            with querying(self._address, self._patience, classes, received) as query:
                for each in classes:
                    query.check_gives(each)
                held = _instances(query, study, uid)
            outgoing = [each for each in read if each is not None]
            send_all(
                self._address, self._patience, [each for each in outgoing if each.uids.sop_instance_uid not in held]
            )
            with querying(self._address, self._patience, classes, received) as query:
                query.fetch(received, "SERIES", StudyInstanceUID=study, SeriesInstanceUID=uid)
            return [
                each.uids.stored(
                    self._place(each.uids), each.digest, each.bytes, already_there=each.uids.sop_instance_uid in held
                )
                for each in given_back(series, outgoing, received.paths.values())
            ]

    def close(self) -> None:
        """Nothing to let go of: an association ends with the step that it was made for."""

    def _place(self, uids: ObjectUids) -> str:
        """Address of an object."""
        study, series = uids.study_instance_uid, uids.series_instance_uid
        return f"{self.uri.partition('?')[0]}/{study}/{series}/{uids.sop_instance_uid}"

    def _held(self, uids: ObjectUids) -> str | None:
        """Digest of the object that the node holds under these UIDs, or None."""
        with tempfile.TemporaryDirectory(prefix="voxfleet-") as folder:
            received = Received(Path(folder))
            with querying(self._address, self._patience, [uids.sop_class_uid], received) as query:
                query.check_gives(uids.sop_class_uid)
                keys = {
                    "StudyInstanceUID": uids.study_instance_uid,
                    "SeriesInstanceUID": uids.series_instance_uid,
                    "SOPInstanceUID": uids.sop_instance_uid,
                }
                if not query.find("IMAGE", **keys):
                    return None
                query.fetch(received, "IMAGE", **keys)
            path = received.paths.get(uids.sop_instance_uid)
            if path is None:
                raise StoreError(self.uri, uids.sop_instance_uid, "the node finds the object and does not give it")
            return object_digest(path)


def _all_series(query: Query) -> Iterator[tuple[str, Dataset]]:
    """Study Instance UID and match of every series."""
    for study in query.find("STUDY", StudyInstanceUID=""):
        uid = str(study.get("StudyInstanceUID") or "")
        for match in _series_of(query, uid):
            yield uid, match


def _series_of(query: Query, study: str) -> list[Dataset]:
    """Series of a study; where none is told they are asked for once more, since no study is without."""
    keys = {"SeriesInstanceUID": "", "Modality": "", "NumberOfSeriesRelatedInstances": ""}
    matches = query.find("SERIES", StudyInstanceUID=study, **keys)
    if not matches:
        # Orthanc 1.10.1 tells none for a moment after it has stored the first, once in some 250 times.
        time.sleep(AGAIN_S)
        matches = query.find("SERIES", StudyInstanceUID=study, **keys)
    return matches


def _entry(query: Query, study: str, match: Dataset) -> SeriesEntry | RefusedObject:
    series = str(match.get("SeriesInstanceUID") or "")
    if is_uid(study) and is_uid(series):
        told = str(match.get("NumberOfSeriesRelatedInstances") or "")
        count = int(told) if told.isdecimal() else len(_instances(query, study, series))
        return SeriesEntry(study, series, str(match.get("Modality") or ""), count)
    code = "INVALID_UID" if study and series else "MISSING_UID"
    reason = f"study {study[:80]!r} and series {series[:80]!r} are not both UIDs (PS3.5 9.1)"
    return RefusedObject(series[:80] or "series without UID", code, reason)


def _instances(query: Query, study: str, series: str) -> dict[str, str]:
    """SOP Instance UID -> SOP Class UID of a series."""
    keys = {"SOPInstanceUID": "", "SOPClassUID": ""}
    matches = query.find("IMAGE", StudyInstanceUID=study, SeriesInstanceUID=series, **keys)
    return {str(each.get("SOPInstanceUID") or ""): str(each.get("SOPClassUID") or "") for each in matches}
