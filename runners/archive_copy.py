"""A cohort moved from one archive to another: each object read back and compared, what fails recorded."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import pydicom

from ..enrich.archives.archive import (
    Archive,
    NoSpace,
    RefusedObject,
    RetrieveError,
    SeriesEntry,
    StoreConflict,
    StoredObject,
    StoreError,
)
from ..enrich.archives.header import DAMAGE
from ..enrich.archives.read_only import ReadOnlyArchive
from ..enrich.series import Instance


@dataclass(frozen=True, slots=True)
class CopiedSeries:
    """What became of one series.

    Attributes
    ----------
    stored : tuple of StoredObject
        Objects that the target holds, equal to those of the source; with `already_there` nothing was sent.
    refused : tuple of RefusedObject
        What it does not hold, and why.
    """

    series_instance_uid: str
    stored: tuple[StoredObject, ...]
    refused: tuple[RefusedObject, ...]


def copy_series(source: Archive, target: Archive, entry: SeriesEntry) -> CopiedSeries:
    """Store every object of a series in the target, which reads it back and compares data sets by digest.

    What one object or one series runs into is recorded, and the next is done: the same call mends it later.

    Raises
    ------
    NoSpace, ReadOnlyArchive, AccessDenied
        What no further object would fare better with.
    """
    with tempfile.TemporaryDirectory(prefix="voxfleet-") as folder:
        try:
            series = source.retrieve(entry, Path(folder))
        except RetrieveError as exc:
            return CopiedSeries(entry.series_instance_uid, (), (_refusal(entry.series_instance_uid, exc),))
        results = [_copied(target, each) for each in series.instances]
    return CopiedSeries(
        entry.series_instance_uid,
        tuple(each for each in results if isinstance(each, StoredObject)),
        tuple(each for each in results if isinstance(each, RefusedObject)),
    )


def _copied(target: Archive, instance: Instance) -> StoredObject | RefusedObject:
    uid = instance.sop_instance_uid
    try:
        return target.store(pydicom.dcmread(instance.path))
    except (NoSpace, ReadOnlyArchive):
        raise
    except (StoreError, StoreConflict) as exc:
        return _refusal(uid, exc)
    except DAMAGE as exc:
        return RefusedObject(uid, "UNREADABLE", f"is damaged ({type(exc).__name__})")


def _refusal(identifier: str, error: RetrieveError | StoreError | StoreConflict) -> RefusedObject:
    return RefusedObject(identifier, error.code, str(error.args[2]))
