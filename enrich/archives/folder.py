"""A folder of DICOM files, of whatever shape, as an archive."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pydicom
from pydicom import Dataset

from ..digest import dataset_digest, file_sha256
from ..series import Instance, Series
from .archive import (
    AccessDenied,
    NotThere,
    RefusedObject,
    RetrieveError,
    SearchError,
    SeriesEntry,
    StoredObject,
    StoreRefused,
)
from .folder_index import FolderIndex, FoundFile
from .folder_scan import refresh, refusal, shown
from .folder_store import checked_uids, probe_folder, store_file
from .header import DAMAGE
from .uids import ObjectUids


class FolderArchive:
    """The DICOM files (PS3.10) under one folder; objects are stored as ``STUDY/SERIES/INSTANCE.dcm``.

    A search walks the tree, follows no link, reads the first bytes of files that the index does not
    know (`folder_index`), and groups them by Series Instance UID. Files with the same object count
    once. Where files bear one SOP Instance UID and differ, none can be told to be the right one: each
    is refused as ``DUPLICATE_UID`` and the series that they stand in are left out whole.

    Parameters
    ----------
    root : Path
        Need not exist before the first `store`; a search of an absent folder is an error.
    """

    def __init__(self, root: Path) -> None:
        # One folder has one name, from wherever it is named: a run resumes by it.
        self._root = root.resolve() if ".." in root.parts else root.absolute()
        self._index = FolderIndex(self._root)

    @property
    def uri(self) -> str:
        """``dir:`` and the absolute path."""
        return f"dir:{self._root}"

    def search(self) -> Iterator[SeriesEntry | RefusedObject]:
        """Every series of the tree, ordered by UID, then what cannot be used, by path.

        Raises
        ------
        SourceNotThere, AccessDenied, SearchError
            If the folder is not there or cannot be listed.
        """
        passing = refresh(self._root, self.uri, self._index)
        conflicts = [group for group in self._index.doubled() if not self._equal(group)]
        left_out = {_uids(each).series_instance_uid for group in conflicts for each in group}
        mixed = []
        for series_instance_uid in self._index.series():
            if series_instance_uid in left_out:
                continue
            entry = _entry(series_instance_uid, self._index.files_of(series_instance_uid))
            if isinstance(entry, SeriesEntry):
                yield entry
            else:
                mixed.append(entry)
        yield from mixed
        yield from (each for group in conflicts for each in _duplicates(group))
        yield from (refusal(each) for each in self._index.refused() if each.header.code != "DICOMDIR")
        yield from passing

    def retrieve(self, entry: SeriesEntry, into: Path) -> Series:
        """Give the series where it lies; nothing is copied and `into` is not used.

        Raises
        ------
        NotThere
            If the folder holds no file of the series.
        RetrieveError, AccessDenied
            If a file is gone, unreadable, or instances are not as many as the search said.
        """
        del into
        files = self._files(entry)
        if not files:
            raise NotThere(self.uri, entry.series_instance_uid, "the folder holds no file of this series")
        if len(files) != entry.instances:
            reason = f"the folder holds {len(files)} instances and not {entry.instances} as the search said"
            raise RetrieveError(self.uri, entry.series_instance_uid, reason)
        instances = tuple(self._instance(each) for each in files)
        return Series(entry.study_instance_uid, entry.series_instance_uid, entry.modality, instances)

    def store(self, dataset: Dataset) -> StoredObject:
        """Write one object to ``STUDY/SERIES/INSTANCE.dcm`` if it is absent, read it back, compare.

        Raises
        ------
        StoreConflict
            If that file holds another object.
        StoreRefused, NoSpace, ReadBackDiffers, StoreError, AccessDenied
            If the object could not be stored or came back changed.
        """
        uids = checked_uids(dataset, self.uri)
        folder = self._root / uids.study_instance_uid / uids.series_instance_uid
        if not folder.resolve().is_relative_to(self._root.resolve()):
            raise StoreRefused(self.uri, uids.sop_instance_uid, "its folder is a link that leads out of the archive")
        return store_file(dataset, folder / f"{uids.sop_instance_uid}.dcm")

    def probe(self) -> None:
        """Make the folder and write an empty file into it, which is removed again.

        Raises
        ------
        NoSpace, StoreError, AccessDenied
            If that cannot be done.
        """
        probe_folder(self._root)

    def close(self) -> None:
        """Close the index."""
        self._index.close()

    def _files(self, entry: SeriesEntry) -> list[FoundFile]:
        """Files of the series, one for each instance; the tree is walked only if the index is behind."""
        files = self._index.files_of(entry.series_instance_uid)
        if len(_one_each(files)) != entry.instances or not all(self._unchanged(each) for each in files):
            try:
                refresh(self._root, self.uri, self._index)
            except SearchError as exc:
                raise RetrieveError(self.uri, entry.series_instance_uid, exc.args[2]) from exc
            files = self._index.files_of(entry.series_instance_uid)
        for instance, group in _by_instance(files):
            if not self._equal(group):
                raise RetrieveError(self.uri, entry.series_instance_uid, f"two files differ and are both {instance}")
        return _one_each(files)

    def _unchanged(self, file: FoundFile) -> bool:
        try:
            status = (self._root / file.path).stat()
        except OSError:
            return False
        return (status.st_size, status.st_mtime_ns) == (file.bytes, file.mtime_ns)

    def _instance(self, file: FoundFile) -> Instance:
        uids, path = _uids(file), self._root / file.path
        try:
            digest = file_sha256(path)
        except PermissionError as exc:
            raise AccessDenied(self.uri, uids.sop_instance_uid, f"{shown(file.path)} may not be read") from exc
        except OSError as exc:
            reason = f"{shown(file.path)} cannot be read: {exc.strerror}"
            raise RetrieveError(self.uri, uids.sop_instance_uid, reason) from exc
        return Instance(uids.sop_class_uid, uids.sop_instance_uid, digest, file.bytes, path)

    def _equal(self, group: list[FoundFile]) -> bool:
        """Whether all files of a group hold one data set; a file that cannot be read equals none."""
        if len(group) == 1:
            return True
        paths = [self._root / each.path for each in group]
        try:
            return len({file_sha256(path) for path in paths}) == 1 or (
                len({dataset_digest(pydicom.dcmread(path)) for path in paths}) == 1
            )
        except (OSError, *DAMAGE):
            return False


def _entry(series_instance_uid: str, files: list[FoundFile]) -> SeriesEntry | RefusedObject:
    """Series that files make; refused if they do not agree on its study and modality."""
    files = _one_each(files)
    studies = sorted({_uids(each).study_instance_uid for each in files})
    modalities = sorted({each.header.modality for each in files})
    if len(studies) > 1 or len(modalities) > 1:
        told = f"studies {', '.join(studies)}" if len(studies) > 1 else f"modalities {', '.join(modalities)}"
        reason = f"its files name several {told} (one each by PS3.3 A.1.2)"
        return RefusedObject(series_instance_uid, "MIXED_SERIES", reason)
    size = sum(each.bytes for each in files)
    return SeriesEntry(studies[0], series_instance_uid, modalities[0], len(files), size)


def _duplicates(group: list[FoundFile]) -> Iterator[RefusedObject]:
    for file in group:
        other = next(each for each in group if each is not file)
        uids = _uids(file)
        reason = (
            f"differs from {shown(other.path)} and both are {uids.sop_instance_uid}; "
            f"series {uids.series_instance_uid} is left out (PS3.5 9: a UID names one object)"
        )
        yield RefusedObject(shown(file.path), "DUPLICATE_UID", reason)


def _by_instance(files: list[FoundFile]) -> Iterator[tuple[str, list[FoundFile]]]:
    for instance, group in groupby(files, key=lambda each: _uids(each).sop_instance_uid):
        yield instance, list(group)


def _one_each(files: list[FoundFile]) -> list[FoundFile]:
    """First file of each instance."""
    return [group[0] for _, group in _by_instance(files)]


def _uids(file: FoundFile) -> ObjectUids:
    """UIDs of a file that is not refused: the index gives no others here."""
    if file.header.uids is None:
        raise ValueError(file.path)
    return file.header.uids
