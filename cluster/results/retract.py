"""What a run stored, taken back by its ledger: deleted from a folder or bucket, or rejected by a note in DICOMweb."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pydicom
from pydicom import Dataset

from ... import Error
from ...enrich.archives.archive import Archive, NotThere, SeriesEntry
from ...enrich.archives.folder.archive import FolderArchive
from ...enrich.archives.object_file import digest_if_whole
from ...enrich.rejection_note import rejection_note
from ..ledger import Ledger, Stored
from .retracted import retracted

if TYPE_CHECKING:
    from ...enrich.archives.bucket.archive import S3Archive

DELETED = "deleted"
WHY = "Retracted by those who made it"
_STUDY = re.compile(r"/studies/([0-9.]+)/series/")


class CannotRetract(Error):
    """Nothing can be taken back from this archive, or of this series."""

    code = "CANNOT_RETRACT"

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(where, reason)

    def __str__(self) -> str:
        return f"{self.args[0]}: {self.args[1]}"


@dataclass(frozen=True, slots=True)
class Left:
    """An object that stays, and why."""

    sop_instance_uid: str
    reason: str


@dataclass(frozen=True, slots=True)
class Retraction:
    """What would go, or went, and what stays."""

    going: tuple[Stored, ...]
    left: tuple[Left, ...]


class Way(Protocol):
    """How an archive lets objects go."""

    def fault(self, stored: Stored) -> str:
        """Why an object must stay, in words; empty if it can go. Nothing is changed."""
        ...

    def take_back(self, going: Iterable[Stored], done: Callable[[Stored, str], None]) -> None:
        """Take objects back; `done` is told each, and how, as soon as it is gone."""
        ...


@dataclass(frozen=True, slots=True)
class Deletion:
    """From a folder: the file that the ledger names, if it is still the object that was stored."""

    root: Path

    def fault(self, stored: Stored) -> str:
        """See Way."""
        path = self._path(stored)
        if not path.resolve().is_relative_to(self.root.resolve()):
            return "lies outside the run's target"
        return _fault(path, stored)

    def take_back(self, going: Iterable[Stored], done: Callable[[Stored, str], None]) -> None:
        """See Way; folders that are empty then go too."""
        for each in going:
            path = self._path(each)
            _check_unchanged(self, each)
            try:
                path.unlink()
            except OSError as exc:
                raise CannotRetract(str(path), f"not deleted: {exc.strerror or type(exc).__name__}") from exc
            done(each, DELETED)
            for folder in (path.parent, path.parent.parent):
                if folder != self.root and folder.is_relative_to(self.root):
                    with suppress(OSError):  # it is not empty
                        folder.rmdir()

    def _path(self, stored: Stored) -> Path:
        return Path(stored.object.uri.partition(":")[2])


@dataclass(frozen=True, slots=True)
class Removal:
    """From a bucket: the key that the ledger names, if it still holds the object that was stored."""

    archive: S3Archive

    def fault(self, stored: Stored) -> str:
        """See Way."""
        if not stored.object.uri.startswith(f"{self.archive.uri}/"):
            return "lies outside the run's target"
        digest = self.archive.digest_at(stored.object.uri)
        if digest is None:
            return "is not there any more"
        return "" if digest == stored.object.sha256 else "was changed since"

    def take_back(self, going: Iterable[Stored], done: Callable[[Stored, str], None]) -> None:
        """See Way."""
        for each in going:
            _check_unchanged(self, each)
            self.archive.remove(each.object.uri)
            done(each, DELETED)


@dataclass(frozen=True, slots=True)
class Rejection:
    """In a DICOMweb archive: a rejection note for each study, after IHE's Imaging Object Change Management."""

    archive: Archive

    def fault(self, stored: Stored) -> str:
        """See Way."""
        try:
            return "" if self._read(stored) else "was changed since"
        except NotThere:
            return "is not there any more"

    def take_back(self, going: Iterable[Stored], done: Callable[[Stored, str], None]) -> None:
        """See Way; the archive decides what becomes of what a note names."""
        of_study: dict[str, list[Stored]] = {}
        for each in going:
            of_study.setdefault(self._study(each), []).append(each)
        for objects in of_study.values():
            headers = [header for each in objects if (header := self._read(each))]
            if len(headers) != len(objects):
                raise CannotRetract(self.archive.uri, "an object was changed meanwhile; ask again")
            note = self.archive.store(rejection_note(headers, WHY))
            for each in objects:
                done(each, f"rejected by {note.sop_instance_uid}")

    def _read(self, stored: Stored) -> Dataset | None:
        """The object without its pixels; None if it is not what the ledger says. Raises NotThere."""
        entry = SeriesEntry(self._study(stored), stored.object.series_instance_uid, "", 1)
        with tempfile.TemporaryDirectory() as folder:
            for instance in self.archive.retrieve(entry, Path(folder)).instances:
                if instance.sop_instance_uid == stored.object.sop_instance_uid:
                    if digest_if_whole(instance.path) != stored.object.sha256:
                        return None
                    return pydicom.dcmread(instance.path, stop_before_pixels=True)
        raise NotThere(self.archive.uri, stored.object.sop_instance_uid, "the series holds other instances")

    def _study(self, stored: Stored) -> str:
        found = _STUDY.search(stored.object.uri)
        if found is None:
            raise CannotRetract(stored.object.uri, "the ledger's address of the object names no study")
        return found[1]


def way_of(archive: Archive) -> Way:
    """How objects are taken back from an archive; raises CannotRetract where they cannot be."""
    if isinstance(archive, FolderArchive):
        return Deletion(Path(archive.uri.partition(":")[2]))
    if archive.uri.startswith(("s3:", "gs:")):
        from ...enrich.archives.bucket.archive import S3Archive

        if isinstance(archive, S3Archive):
            return Removal(archive)
    if archive.uri.startswith(("http://", "https://", "dicomweb+")):
        return Rejection(archive)
    raise CannotRetract(
        archive.uri, "only folders, buckets and DICOMweb archives; take the objects back by the archive's own means"
    )


def plan(ledger: Ledger, way: Way, series_instance_uid: str = "") -> Retraction:
    """What of a run's objects would go; nothing is changed.

    Parameters
    ----------
    series_instance_uid : str
        Of a source series or of a result's; empty: all.

    Raises
    ------
    CannotRetract
        If the ledger holds no object of that series, or all were taken back before.
    """
    source_of = {item.workitem.key: item.workitem.series_instance_uid for item in ledger.items()}
    gone = retracted(ledger)
    chosen = [
        each
        for each in ledger.stored()
        if each.object.sop_instance_uid not in gone
        and series_instance_uid in {"", each.object.series_instance_uid, source_of.get(each.key)}
    ]
    if not chosen:
        raise CannotRetract(
            series_instance_uid or ledger.run().name, "the ledger holds no object of it that was not retracted before"
        )
    faults = [(each, _why_stays(way, each)) for each in chosen]
    left = tuple(Left(each.object.sop_instance_uid, fault) for each, fault in faults if fault)
    return Retraction(tuple(each for each, fault in faults if not fault), left)


def _why_stays(way: Way, stored: Stored) -> str:
    if stored.object.already_there:
        return "was there before this run came to it, and may be another run's"
    return way.fault(stored)


def _check_unchanged(way: Way, stored: Stored) -> None:
    """Look once more just before an object goes: hours may lie between the plan of a large run and its end."""
    if fault := way.fault(stored):
        raise CannotRetract(stored.object.uri, f"{fault} (meanwhile); ask again")


def _fault(path: Path, stored: Stored) -> str:
    if not path.is_file():
        return "is not there any more"
    try:
        return "" if digest_if_whole(path) == stored.object.sha256 else "was changed since"
    except OSError as exc:
        return f"cannot be read: {exc.strerror or type(exc).__name__}"
