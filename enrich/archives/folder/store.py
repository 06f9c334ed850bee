"""Objects written into a folder: whole or not at all, and never over another."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pydicom import Dataset

from ...digest import dataset_digest
from ..archive import AccessDenied, NoSpace, StoredObject, StoreError, StoreRefused
from ..header import DAMAGE
from ..object_file import digest_if_whole
from ..storing import checked_uids, encode, store_if_absent, unencodable
from .scan import PART_SUFFIX

STALE_PART_S = 3600.0
"""A half-written file this old belongs to a writer that was killed."""
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_DENIED: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_NO_LINKS: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS})


def store_file(dataset: Dataset, path: Path) -> StoredObject:
    """Write one object to a file that is whole or absent at any moment, read it back, compare.

    Written under a temporary name in the same folder, synced to the disk, and linked to its name
    only if nothing has that name. What is there already is compared and never touched.

    Raises
    ------
    StoreConflict
        If the file is there and holds another data set.
    StoreRefused, NoSpace, ReadBackDiffers, StoreError, AccessDenied
        If the object could not be written, or is not the same when read back.
    """
    uri = f"dir:{path.parent}"
    uids = checked_uids(dataset, uri)
    digest = dataset_digest(dataset)
    with _errors(uri, uids.sop_instance_uid):
        already_there = store_if_absent(
            uri,
            uids,
            digest,
            held=lambda: digest_if_whole(path) if path.exists() else None,
            send=lambda: _write(dataset, path),
        )
        size = path.stat().st_size
    return uids.stored(f"dir:{path}", digest, size, already_there=already_there)


def probe_folder(folder: Path) -> None:
    """Make a folder if it is absent, and an empty file in it, which is removed again.

    Raises
    ------
    NoSpace, StoreError, AccessDenied
        If that cannot be done.
    """
    with _errors(f"dir:{folder}", ""):
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f".{secrets.token_hex(8)}{PART_SUFFIX}"
        part.touch()
        part.unlink()


@contextlib.contextmanager
def _errors(uri: str, identifier: str) -> Iterator[None]:
    """Translate what the file system and pydicom's writer raise."""
    try:
        yield
    except OSError as exc:
        error = _original(exc)
        reason = error.strerror or type(error).__name__
        if error.errno in _FULL:
            raise NoSpace(uri, identifier, f"not stored: {reason}") from exc
        if error.errno in _DENIED:
            raise AccessDenied(uri, identifier, f"not stored: {reason}; ask its owner for access") from exc
        raise StoreError(uri, identifier, f"not stored: {reason}") from exc
    except DAMAGE as exc:
        raise StoreRefused(uri, identifier, unencodable(exc)) from exc


def _original(error: OSError) -> OSError:
    """Give the error with its number: pydicom's writer raises another of the same type, without it."""
    while error.errno is None and isinstance(error.__cause__, OSError):
        error = error.__cause__
    return error


def _write(dataset: Dataset, path: Path) -> bool:
    """Write the object under its name, synced; False if another writer was first."""
    _make_folder(path.parent)
    _remove_stale_parts(path.parent)
    part = path.parent / f".{path.name}.{secrets.token_hex(8)}{PART_SUFFIX}"
    try:
        with part.open("xb") as file:
            encode(dataset, file)
            file.flush()
            os.fsync(file.fileno())
        first = _name(part, path)
    finally:
        part.unlink(missing_ok=True)
    _sync_folder(path.parent)
    return first


def _name(part: Path, path: Path) -> bool:
    """Give the written file its name unless the name is taken."""
    try:
        path.hardlink_to(part)
    except FileExistsError:
        return False
    except OSError as exc:
        if exc.errno not in _NO_LINKS:
            raise
        # FAT, some SMB and bucket mounts know no links; one writer per workitem makes the check enough.
        if path.exists():
            return False
        part.rename(path)
    return True


def _make_folder(folder: Path) -> None:
    """Make the folder, and sync each parent in which a name is new."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for each in missing:
        _sync_folder(each.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_stale_parts(folder: Path) -> None:
    limit = time.time() - STALE_PART_S
    for part in folder.glob(f".*{PART_SUFFIX}"):
        with contextlib.suppress(FileNotFoundError):
            if part.stat().st_mtime < limit:
                part.unlink()
