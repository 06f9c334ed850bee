"""A listing of a bucket that brings the index of this machine up to date."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import Final

from ..archive import RefusedObject
from ..folder.index import FolderIndex, FoundFile
from ..folder.scan import refusal
from ..header import Header
from .errors import STORE_FAULTS, answer_of
from .objects import Bucket, BucketObject
from .store import BucketAddress

READERS: Final = 16
"""Headers read at once: the wait is for the network."""
_BATCH: Final = 1000
"""Headers after which the index is written, so that a search that is stopped goes on there."""
_DENIED: Final = (401, 403)
_GONE: Final = (404, 410)


def index_of(address: BucketAddress) -> FolderIndex:
    """Index of this machine for what lies under an address."""
    service = address.service.partition("://")[2].strip("/").replace("/", "_")
    return FolderIndex(Path(f"/{address.scheme}:{service}") / address.bucket / address.prefix)


def refresh(bucket: Bucket, index: FolderIndex) -> list[RefusedObject]:
    """Bring the index up to date with the bucket; give what the index cannot remember.

    Raises
    ------
    obstore.exceptions.BaseError
        If the bucket cannot be listed, or does not answer.
    """
    folders: dict[str, list[BucketObject]] = {}
    for each in bucket.list():
        folders.setdefault(each.key.rpartition("/")[0], []).append(each)
    new: list[BucketObject] = []
    for folder, objects in folders.items():
        known = {name: (file.bytes, file.mtime_ns) for name, file in index.known(folder).items()}
        present = {_name(each): (each.bytes, each.version) for each in objects}
        if gone := [name for name in known if name not in present]:
            index.replace(folder, gone, [])
        # Programs mark a folder by an empty object of its name.
        new.extend(
            each
            for each in objects
            if known.get(_name(each)) != (each.bytes, each.version) and (each.bytes or each.key not in folders)
        )
    index.keep_folders(set(folders))
    return _read(bucket, index, new)


def _read(bucket: Bucket, index: FolderIndex, new: list[BucketObject]) -> list[RefusedObject]:
    """Read the headers of new and changed objects, and remember them."""
    passing = []
    with warnings.catch_warnings(), ThreadPoolExecutor(READERS) as readers:
        warnings.simplefilter("ignore")  # pydicom warns of each invalid value; the header's code says it once
        for start in range(0, len(new), _BATCH):
            batch = new[start : start + _BATCH]
            headers = readers.map(lambda each: _header(bucket, each), batch)
            found = [
                FoundFile(each.key, each.bytes, each.version, header)
                for each, header in zip(batch, headers, strict=True)
                if header
            ]
            passing += [refusal(each) for each in found if each.header.code == "ACCESS_DENIED"]
            _remember(index, [each for each in found if each.header.code != "ACCESS_DENIED"])
    return passing


def _header(bucket: Bucket, found: BucketObject) -> Header | None:
    """Header of an object; None if it is gone meanwhile."""
    try:
        return bucket.header(found)
    except STORE_FAULTS as exc:
        status = answer_of(exc).status
        if status in _DENIED:
            return Header(None, code="ACCESS_DENIED", reason="the service does not let us read this object")
        if status in _GONE:
            return None
        raise


def _remember(index: FolderIndex, found: Iterable[FoundFile]) -> None:
    by_folder = sorted(found, key=_folder)
    for folder, files in groupby(by_folder, key=_folder):
        index.replace(folder, [], list(files))


def _folder(file: FoundFile) -> str:
    return file.path.rpartition("/")[0]


def _name(found: BucketObject) -> str:
    return found.key.rpartition("/")[2]
