"""The instances of one series, fetched from a bucket to the local disk."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from ...digest import file_sha256
from ...series import Instance, Series
from ..archive import NotThere, RetrieveError, SeriesEntry
from ..header import read_header
from .objects import Bucket, BucketObject

READERS: Final = 8
"""Objects fetched at once."""


def fetch_series(bucket: Bucket, uri: str, entry: SeriesEntry, objects: list[BucketObject], into: Path) -> Series:
    """The series with its objects copied into `into`, byte for byte, several at once.

    Each file is named ``INSTANCE.dcm`` by what it holds.

    Raises
    ------
    NotThere
        If there are no objects.
    RetrieveError
        If they are not as many as the search said, or one is no instance of the series.
    ObjectChanged, obstore.exceptions.BaseError, OSError
        For `retrieve_errors` to translate.
    """
    uid = entry.series_instance_uid
    if not objects:
        raise NotThere(uri, uid, "the bucket holds no object of this series")
    if len(objects) != entry.instances:
        reason = f"the bucket holds {len(objects)} instances and not {entry.instances} as the search said"
        raise RetrieveError(uri, uid, reason)
    into.mkdir(parents=True, exist_ok=True)

    def fetch(number: int) -> Instance:
        found, path = objects[number], into / f"{number:06}.dcm"
        bucket.fetch(found, path)
        return _instance(uri, uid, found, path)

    with ThreadPoolExecutor(READERS) as readers:
        fetched = list(readers.map(fetch, range(len(objects))))
    instances = tuple(sorted(fetched, key=lambda each: each.sop_instance_uid))
    if len({each.sop_instance_uid for each in instances}) != len(instances):
        raise RetrieveError(uri, uid, "two objects are the same instance")
    return Series(entry.study_instance_uid, uid, entry.modality, instances)


def _instance(uri: str, series_instance_uid: str, found: BucketObject, path: Path) -> Instance:
    """One object on the local disk, checked, under the name of its instance."""
    header = read_header(path)
    if header.uids is None:
        raise RetrieveError(uri, series_instance_uid, f"{found.key} {header.reason}")
    if header.uids.series_instance_uid != series_instance_uid:
        raise RetrieveError(uri, series_instance_uid, f"{found.key} is of series {header.uids.series_instance_uid}")
    instance = header.uids.sop_instance_uid
    named = path.rename(path.with_name(f"{instance}.dcm"))
    return Instance(header.uids.sop_class_uid, instance, file_sha256(named), found.bytes, named)
