"""A collection of an NBIA, such as The Cancer Imaging Archive, as an archive that is only read."""

from __future__ import annotations

import csv
import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from ...digest import file_sha256
from ...series import Instance, Series
from ..archive import NotThere, RefusedObject, RetrieveError, SeriesEntry, SourceNotThere
from ..header import read_header
from ..http_session import Patience
from ..packed.pack import DAMAGED, UnsafePack, copy_members, open_pack
from ..read_only import ReadOnly
from ..uids import is_uid
from ..whole import whole_or_nothing
from .session import NbiaAddress, NbiaSession, nbia_errors

CHECKSUMS: Final = "md5hashes.csv"
"""Member of a series' zip with the columns Filename and MD5Hash."""
_READ_BYTES: Final = 1 << 20
_COLLECTIONS_SHOWN = 8


class NbiaArchive(ReadOnly):
    """One collection, spoken to by NBIA's REST interface; a series comes as one zip with an MD5 of each file.

    Parameters
    ----------
    address : NbiaAddress
        From `nbia_session.parse_address`.
    patience : Patience
        Time-outs and retries.
    """

    def __init__(self, address: NbiaAddress, patience: Patience | None = None) -> None:
        self._address = address
        self._patience = patience or Patience()
        self._session = NbiaSession(address, self._patience)

    @property
    def uri(self) -> str:
        """As it was opened; it never holds credentials."""
        return self._address.uri

    def search(self) -> Iterator[SeriesEntry | RefusedObject]:
        """Every series of the collection, ordered by UID, then what has no usable UID.

        Raises
        ------
        SourceNotThere
            If the server has no such collection, or shows us none of it.
        SearchError, SearchUnanswered, AccessDenied
            If it cannot be listed; `SearchUnanswered` may be tried again.
        """
        with nbia_errors(self.uri, "", self._patience):
            rows = self._session.rows("getSeries", Collection=self._address.collection)
            if not rows:
                names = sorted(str(each.get("Collection")) for each in self._session.rows("getCollectionValues"))
                told = ", ".join(names[:_COLLECTIONS_SHOWN]) + (" ..." if len(names) > _COLLECTIONS_SHOWN else "")
                reason = f"no series in the collection {self._address.collection!r}; we are shown {told or 'none'}"
                raise SourceNotThere(self.uri, "", reason)
        found = {str(each.get("SeriesInstanceUID")): _entry(each) for each in rows}
        yield from (each for _, each in sorted(found.items()) if isinstance(each, SeriesEntry))
        yield from (each for _, each in sorted(found.items()) if isinstance(each, RefusedObject))

    @whole_or_nothing
    def retrieve(self, entry: SeriesEntry, into: Path) -> Series:
        """Copy the series into `into`, as ``INSTANCE.dcm``; every file has the MD5 that the server names.

        Raises
        ------
        NotThere
            If the server gives no file of the series.
        RetrieveError, AccessDenied
            If it does not answer, the zip is cut or damaged, or files are not those that it said.
        """
        uid = entry.series_instance_uid
        try:
            into.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".nbia-", dir=into) as folder:
                zip_file = Path(folder) / "series.zip"
                with nbia_errors(self.uri, uid, self._patience):
                    self._download(uid, zip_file)
                instances = tuple(self._unpacked(entry, zip_file, into))
        except (OSError, UnsafePack, csv.Error, *DAMAGED) as exc:
            raise RetrieveError(self.uri, uid, f"cannot be unpacked: {exc}") from exc
        if not instances:
            raise NotThere(self.uri, uid, "the server gave no file of this series")
        count = len({each.sop_instance_uid for each in instances})
        if not count == len(instances) == entry.instances:
            reason = f"the server gave {count} of {entry.instances} instances, in {len(instances)} files"
            raise RetrieveError(self.uri, uid, reason)
        ordered = tuple(sorted(instances, key=lambda each: each.sop_instance_uid))
        return Series(entry.study_instance_uid, uid, entry.modality, ordered)

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def _download(self, series_instance_uid: str, path: Path) -> None:
        with (
            self._session.answer("getImageWithMD5Hash", SeriesInstanceUID=series_instance_uid) as response,
            path.open("wb") as file,
        ):
            for chunk in response.iter_content(_READ_BYTES):
                file.write(chunk)

    def _unpacked(self, entry: SeriesEntry, zip_file: Path, into: Path) -> Iterator[Instance]:
        """Instances of the zip, each checked before it gets its name."""
        folder = zip_file.parent
        with open_pack(zip_file) as pack:
            members = [member for member, _ in pack.members()]
            if wrong := [each for each in members if each.code]:
                raise UnsafePack(f"a member of the zip {wrong[0].reason}")
            parts = {each.name: folder / str(number) for number, each in enumerate(members)}
            copy_members(pack, parts)
        checksums = _checksums(parts.pop(CHECKSUMS, None))
        if absent := sorted(set(checksums) - set(parts)):
            raise RetrieveError(self.uri, entry.series_instance_uid, f"{len(absent)} files of its list are absent")
        for name, part in parts.items():
            header = read_header(part)
            if header.code == "NOT_DICOM" and name not in checksums:
                continue  # a licence lies beside the images
            if checksums and _md5(part) != checksums.get(name):
                raise RetrieveError(self.uri, entry.series_instance_uid, "a file has not the MD5 of the server's list")
            if header.uids is None or header.uids.series_instance_uid != entry.series_instance_uid:
                reason = f"the server gave an object that is none of this series: {header.reason or 'another series'}"
                raise RetrieveError(self.uri, entry.series_instance_uid, reason)
            path = part.replace(into / f"{header.uids.sop_instance_uid}.dcm")
            uids = header.uids
            yield Instance(uids.sop_class_uid, uids.sop_instance_uid, file_sha256(path), path.stat().st_size, path)


def _entry(row: Mapping[str, Any]) -> SeriesEntry | RefusedObject:
    study, series = str(row.get("StudyInstanceUID") or ""), str(row.get("SeriesInstanceUID") or "")
    count, size = str(row.get("ImageCount") or ""), str(row.get("FileSize") or "")
    if not (is_uid(study) and is_uid(series)):
        reason = f"study {study[:80]!r} and series {series[:80]!r} are not both UIDs (PS3.5 9.1)"
        return RefusedObject(
            series[:80] or "series without UID", "INVALID_UID" if study and series else "MISSING_UID", reason
        )
    if not count.isdecimal():
        return RefusedObject(series, "UNREADABLE", "the server does not say of how many images it is")
    modality = str(row.get("Modality") or "")
    return SeriesEntry(study, series, modality, int(count), int(size) if size.isdecimal() else None)


def _checksums(path: Path | None) -> dict[str, str]:
    """File name -> MD5 in hex, of the server's list; empty where it gave none."""
    if path is None:
        return {}
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = [each for each in csv.DictReader(file) if each.get("Filename") and each.get("MD5Hash")]
    return {each["Filename"]: each["MD5Hash"].strip().lower() for each in rows}


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
