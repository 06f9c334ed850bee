"""Series that the files of an index make, for archives that are trees of files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby

from ..archive import RefusedObject, SeriesEntry
from ..uids import ObjectUids
from .index import FolderIndex, FoundFile
from .scan import refusal, shown


def found_series(
    index: FolderIndex, equal: Callable[[list[FoundFile]], bool], passing: list[RefusedObject]
) -> Iterator[SeriesEntry | RefusedObject]:
    """Every series of an index, ordered by UID, then what cannot be used, by path.

    Where files bear one SOP Instance UID and differ, none can be told to be the right one: each is
    refused as ``DUPLICATE_UID`` and the series that they stand in are left out whole.

    Parameters
    ----------
    equal : callable
        Whether files with one SOP Instance UID hold the same object.
    passing : list of RefusedObject
        What the index does not remember; told too.
    """
    conflicts = [group for group in index.doubled() if not equal(group)]
    left_out = {uids_of(each).series_instance_uid for group in conflicts for each in group}
    mixed = []
    for series_instance_uid in index.series():
        if series_instance_uid in left_out:
            continue
        entry = _entry(series_instance_uid, index.files_of(series_instance_uid))
        if isinstance(entry, SeriesEntry):
            yield entry
        else:
            mixed.append(entry)
    yield from mixed
    yield from (each for group in conflicts for each in _duplicates(group))
    yield from (refusal(each) for each in index.refused() if each.header.code != "DICOMDIR")
    yield from passing


def _entry(series_instance_uid: str, files: list[FoundFile]) -> SeriesEntry | RefusedObject:
    """Series that files make; refused if they do not agree on its study and modality."""
    files = one_each(files)
    studies = sorted({uids_of(each).study_instance_uid for each in files})
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
        uids = uids_of(file)
        reason = (
            f"differs from {shown(other.path)} and both are {uids.sop_instance_uid}; "
            f"series {uids.series_instance_uid} is left out (PS3.5 9: a UID names one object)"
        )
        yield RefusedObject(shown(file.path), "DUPLICATE_UID", reason)


def by_instance(files: list[FoundFile]) -> Iterator[tuple[str, list[FoundFile]]]:
    """Files in the order of their SOP Instance UIDs, grouped by them."""
    for instance, group in groupby(files, key=lambda each: uids_of(each).sop_instance_uid):
        yield instance, list(group)


def one_each(files: list[FoundFile]) -> list[FoundFile]:
    """First file of each instance."""
    return [group[0] for _, group in by_instance(files)]


def uids_of(file: FoundFile) -> ObjectUids:
    """UIDs of a file that is not refused: the index gives no others here."""
    if file.header.uids is None:
        raise ValueError(file.path)
    return file.header.uids
