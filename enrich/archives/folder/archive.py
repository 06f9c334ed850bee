"""A folder of DICOM files, of whatever shape, as an archive."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydicom import Dataset

from ...digest import file_sha256
from ...series import Instance, Series
from ..archive import (
    AccessDenied,
    NotThere,
    RefusedObject,
    RetrieveError,
    SearchError,
    SeriesEntry,
    StoredObject,
    StoreRefused,
)
from ..header import DAMAGE
from ..object_file import object_digest
from ..storing import checked_uids
from .found_series import by_instance, found_series, one_each, uids_of
from .index import FolderIndex, FoundFile
from .scan import refresh, shown
from .store import probe_folder, store_file


class FolderArchive:
    """The DICOM files (PS3.10) under one folder; objects are stored as ``STUDY/SERIES/INSTANCE.dcm``.

    A search walks the tree, follows no link, reads the first bytes of files that the index does not
    know (`folder.index`), and groups them by Series Instance UID. Files with the same object count
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
        yield from found_series(self._index, self._equal, refresh(self._root, self.uri, self._index))

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
        if len(one_each(files)) != entry.instances or not all(self._unchanged(each) for each in files):
            try:
                refresh(self._root, self.uri, self._index)
            except SearchError as exc:
                raise RetrieveError(self.uri, entry.series_instance_uid, exc.args[2]) from exc
            files = self._index.files_of(entry.series_instance_uid)
        for instance, group in by_instance(files):
            if not self._equal(group):
                raise RetrieveError(self.uri, entry.series_instance_uid, f"two files differ and are both {instance}")
        return one_each(files)

    def _unchanged(self, file: FoundFile) -> bool:
        try:
            status = (self._root / file.path).stat()
        except OSError:
            return False
        return (status.st_size, status.st_mtime_ns) == (file.bytes, file.mtime_ns)

    def _instance(self, file: FoundFile) -> Instance:
        uids, path = uids_of(file), self._root / file.path
        try:
            digest = file_sha256(path)
        except PermissionError as exc:
            raise AccessDenied(
                self.uri, uids.sop_instance_uid, f"this user may not read {shown(file.path)}; ask its owner for access"
            ) from exc
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
                len({object_digest(path) for path in paths}) == 1
            )
        except (OSError, *DAMAGE):
            return False
