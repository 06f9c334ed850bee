"""A project of an XNAT as an archive, by its REST interface through xnatpy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile

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
    StoreRefused,
)
from ..attaching import Attachment
from ..http_session import Patience
from ..object_file import opened
from ..received import filed
from ..storing import prepared, store_if_absent
from ..uids import ObjectUids, is_uid
from ..whole import whole_or_nothing
from .address import XnatAddress
from .errors import retrieve_errors, search_errors, store_errors
from .resource import files_of, make_resource, send_new, unpack
from .session import XnatSession
from .tree import DICOM, XnatScan, label, scan_type, scans_of, session_type, subject_label

_SESSION_UID = "xnat:imageSessionData/UID"


class XnatArchive:
    """One project: a study is a session (experiment), a series a scan, its instances the files of ``DICOM``.

    A SEG or SR becomes a scan of its own in its study's session, as XNAT files one that it receives by
    DICOM: its search then finds it by its UIDs as any series. An assessor would need a type that only a
    plug-in brings (``icr:roiCollectionData``), and would hide the object from that search.
    """

    def __init__(self, address: XnatAddress, patience: Patience | None = None) -> None:
        self._address = address
        self._patience = patience or Patience()
        self._session = XnatSession(address.server, self._patience)

    @property
    def uri(self) -> str:
        """``xnat+``, the server and the project; it never holds credentials."""
        return self._address.uri

    def search(self) -> Iterator[SeriesEntry | RefusedObject]:
        """Every scan with a resource ``DICOM``, ordered by Series Instance UID, then what is no series.

        Raises
        ------
        SearchError, SearchUnanswered, AccessDenied
            If the project cannot be listed; `SearchUnanswered` may be tried again.
        """
        with search_errors(self.uri, self._patience):
            rows = self._session.results(*self._experiments, xsiType="xnat:imageSessionData", columns="ID")
            scans = [each for row in rows for each in self._scans(row.get("ID", ""))]
            refused = [each for each in (scan.refusal for scan in scans) if each is not None]
            usable = [each for each in scans if each.refusal is None]
            counts = Counter(each.series_instance_uid for each in usable)
            single = [each for each in usable if counts[each.series_instance_uid] == 1]
            entries = [each.entry(self._count(each)) for each in single]
        yield from sorted(entries, key=lambda each: each.series_instance_uid)
        yield from refused
        for scan in usable:
            if counts[scan.series_instance_uid] > 1:
                reason = (
                    f"{counts[scan.series_instance_uid]} scans of the project are series {scan.series_instance_uid}"
                )
                yield RefusedObject("/".join(scan.path), "DUPLICATE_UID", reason)

    def probe(self) -> None:
        """Ask for the project; whether storing is allowed, only storing tells.

        Raises
        ------
        SearchError, SearchUnanswered, AccessDenied
            If the server does not answer, does not let us in, or has no such project.
        """
        with search_errors(self.uri, self._patience):
            self._session.item("projects", self._address.project)

    @whole_or_nothing
    def retrieve(self, entry: SeriesEntry, into: Path) -> Series:
        """Copy the series into `into`, as ``INSTANCE.dcm``: one zip, held against the listing of its files.

        Raises
        ------
        NotThere
            If the project holds no such series.
        UnsafeAnswer
            If the zip holds paths that lead out of it, or more than the listing tells.
        RetrieveError, AccessDenied
            If the server does not answer, the zip is cut, or instances are not as many as it said.
        """
        into.mkdir(parents=True, exist_ok=True)
        uid = entry.series_instance_uid
        with retrieve_errors(self.uri, uid, self._patience):
            scan = self._find(entry.study_instance_uid, uid)
            if scan is None:
                raise NotThere(self.uri, uid, "the project holds no such series")
            instances = {each.sop_instance_uid: each for each in self._fetched(scan, into)}
        if len(instances) != entry.instances:
            raise RetrieveError(self.uri, uid, f"the archive gave {len(instances)} of {entry.instances} instances")
        ordered = tuple(instances[each] for each in sorted(instances))
        return Series(entry.study_instance_uid, uid, entry.modality, ordered)

    def store(self, dataset: Dataset) -> StoredObject:
        """Store one object if it is absent, as a file of its series' scan; read it back whole, compare.

        Subject, session and scan are made where they are not there.

        Raises
        ------
        StoreConflict
            If a different object is there under the same UIDs; it is left as it was.
        StoreRefused, NoSpace, ReadBackDiffers, StoreError, AccessDenied
            If the object could not be stored or came back changed.
        """
        with (
            prepared(dataset, self.uri) as outgoing,
            store_errors(self.uri, outgoing.uids.sop_instance_uid, self._patience),
        ):
            uids = outgoing.uids
            scan = self._find(uids.study_instance_uid, uids.series_instance_uid) or self._make_scan(dataset, uids)
            resource, name = (*scan.path, "resources", DICOM), f"{uids.sop_instance_uid}.dcm"
            already_there = store_if_absent(
                self.uri,
                uids,
                outgoing.digest,
                held=lambda: self._held(scan, uids),
                send=lambda: send_new(self._session, resource, name, outgoing.path),
            )
            place = f"{self.uri}/{'/'.join(resource)}/files/{name}"
            return uids.stored(place, outgoing.digest, outgoing.bytes, already_there=already_there)

    def attach(self, attachment: Attachment) -> str:
        """Store one file as a resource of the study's session if it is absent, read it back, compare.

        Raises
        ------
        StoreConflict
            If another file is there under that name; it is left as it was.
        StoreRefused, NoSpace, ReadBackDiffers, StoreError, AccessDenied
            If it could not be stored, the session is not there, or it came back changed.
        """
        name = f"{attachment.folder}/{attachment.name}"
        with store_errors(self.uri, name, self._patience):
            experiments = self._experiments_of(attachment.study_instance_uid)
            if not experiments:
                reason = f"the project holds no session of study {attachment.study_instance_uid}"
                raise StoreRefused(self.uri, name, reason)
            path = ("experiments", experiments[0], "resources", attachment.folder)
            already_there = any(each.name == attachment.name for each in files_of(self._session, path))
            if not already_there:
                make_resource(self._session, path)
                already_there = not send_new(self._session, path, attachment.name, attachment.path)
            with TemporaryDirectory() as folder:
                back = Path(folder) / "back"
                with back.open("wb") as file:
                    self._session.download(file, *path, "files", attachment.name)
                same = file_sha256(back) == file_sha256(attachment.path)
        if not same and already_there:
            raise StoreConflict(self.uri, name, "another file is there; it was left as it was")
        if not same:
            raise ReadBackDiffers(self.uri, name, "the archive gives another file back")
        return f"{self.uri}/{'/'.join(path)}/files/{attachment.name}"

    def close(self) -> None:
        """Log out and close the connections."""
        self._session.close()

    @property
    def _experiments(self) -> tuple[str, ...]:
        return ("projects", self._address.project, "experiments")

    def _experiments_of(self, study_instance_uid: str) -> list[str]:
        """IDs of the sessions that are a study; XNAT's answer is checked, for a version may ignore the condition."""
        query = {_SESSION_UID: study_instance_uid, "columns": f"ID,{_SESSION_UID}"}
        rows = self._session.results(*self._experiments, xsiType="xnat:imageSessionData", **query)
        return [row["ID"] for row in rows if row.get("ID") and study_instance_uid in row.values()]

    def _scans(self, experiment: str) -> list[XnatScan]:
        return scans_of(experiment, self._session.item("experiments", experiment))

    def _find(self, study_instance_uid: str, series_instance_uid: str) -> XnatScan | None:
        scans = (scan for each in self._experiments_of(study_instance_uid) for scan in self._scans(each))
        return next((each for each in scans if each.series_instance_uid == series_instance_uid), None)

    def _count(self, scan: XnatScan) -> int:
        """Files that XNAT has counted, or that it lists where it has not counted."""
        return len(files_of(self._session, (*scan.path, "resources", DICOM))) if scan.files is None else scan.files

    def _fetched(self, scan: XnatScan, into: Path) -> Iterator[Instance]:
        resource = (*scan.path, "resources", DICOM, "files")
        listed = files_of(self._session, resource[:-1])
        with TemporaryFile(dir=into) as file:
            self._session.download(file, *resource, format="zip")
            for part in unpack(file, listed, into, (self.uri, scan.series_instance_uid)):
                yield filed(part, into, self.uri, scan.series_instance_uid)

    def _held(self, scan: XnatScan, uids: ObjectUids) -> str | None:
        """Digest of the object that the scan holds under this UID, whatever its file is called, or None."""
        resource = (*scan.path, "resources", DICOM)
        own = f"{uids.sop_instance_uid}.dcm"
        # XNAT names files that it receives by DICOM after other attributes: only their content tells.
        names = [each.name for each in files_of(self._session, resource)]
        foreign = [each for each in names if not is_uid(each.removesuffix(".dcm"))]
        for name in [own] if own in names else foreign:
            with TemporaryDirectory(prefix="voxfleet-") as folder:
                path = Path(folder) / "object.dcm"
                with path.open("wb") as file:
                    self._session.download(file, *resource, "files", name)
                with opened(path) as held:
                    if str(held.get("SOPInstanceUID", "")) == uids.sop_instance_uid or name == own:
                        return dataset_digest(held)
        return None

    def _make_scan(self, dataset: Dataset, uids: ObjectUids) -> XnatScan:
        """Make the scan of a series, and subject and session where they are not there.

        Their names follow from the object, so that two writers make the same ones.
        """
        modality = str(dataset.get("Modality") or "")
        experiments = self._experiments_of(uids.study_instance_uid)
        if not experiments:
            subject = ("projects", self._address.project, "subjects", subject_label(dataset))
            self._session.put(*subject)
            kind = session_type(modality)
            session = (*subject, "experiments", label(uids.study_instance_uid))
            self._session.put(*session, xsiType=kind, **{f"{kind}/UID": uids.study_instance_uid})
            experiments = self._experiments_of(uids.study_instance_uid)
        if not experiments:
            raise StoreError(self.uri, uids.sop_instance_uid, "the session that was made for its study is not there")
        scan = label(uids.series_instance_uid)
        kind = scan_type(modality)
        told = {"UID": uids.series_instance_uid, "type": modality or "unknown", "modality": modality}
        path = ("experiments", experiments[0], "scans", scan)
        self._session.put(*path, xsiType=kind, **{f"{kind}/{key}": value for key, value in told.items() if value})
        make_resource(self._session, (*path, "resources", DICOM))
        study, series = uids.study_instance_uid, uids.series_instance_uid
        return XnatScan(experiments[0], scan, study, series, modality, 0, 0, has_dicom=True)
