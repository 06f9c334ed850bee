"""A cohort moved from one archive to another: each object read back and compared, what fails recorded."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from ..enrich.archives.archive import (
    Archive,
    NoSpace,
    RefusedObject,
    RetrieveError,
    SearchError,
    SeriesEntry,
    StoreConflict,
    StoredObject,
    StoreError,
)
from ..enrich.archives.header import DAMAGE
from ..enrich.archives.object_file import opened
from ..enrich.archives.read_only import ReadOnlyArchive
from ..enrich.archives.together import StoresTogether
from ..enrich.series import Instance, Series


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
    NoSpace, ReadOnlyArchive, AccessDenied, SearchError
        What no further object would fare better with: the target is full, closed or gone.
    """
    with ExitStack() as stack:
        try:
            series = source.retrieve(entry, _scratch_folder(stack, source.uri, entry.series_instance_uid))
        except RetrieveError as exc:
            return CopiedSeries(entry.series_instance_uid, (), (_refusal(entry.series_instance_uid, exc),))
        together = _stored_together(target, series)
        results = [together.get(each.sop_instance_uid) or _copied(target, each) for each in series.instances]
    return CopiedSeries(
        entry.series_instance_uid,
        tuple(each for each in results if isinstance(each, StoredObject)),
        tuple(each for each in results if isinstance(each, RefusedObject)),
    )


def _scratch_folder(stack: ExitStack, uri: str, series_instance_uid: str) -> Path:
    """A folder of this machine that ends with `stack`; raises RetrieveError where none can be made."""
    try:
        return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="voxfleet-")))
    except OSError as exc:
        reason = f"no scratch folder can be made here: {exc.strerror or type(exc).__name__}"
        raise RetrieveError(uri, series_instance_uid, reason) from exc


def _stored_together(target: Archive, series: Series) -> dict[str, StoredObject]:
    """SOP Instance UID -> what the target is sure to hold; nothing where it stores one object at a time."""
    if not isinstance(target, StoresTogether):
        return {}
    try:
        return {each.sop_instance_uid: each for each in target.store_together(series)}
    except NoSpace:
        raise
    except (SearchError, RetrieveError, StoreError):
        return {}


def _copied(target: Archive, instance: Instance) -> StoredObject | RefusedObject:
    uid = instance.sop_instance_uid
    try:
        with opened(instance.path) as dataset:
            return target.store(dataset)
    except (NoSpace, ReadOnlyArchive):
        raise
    except (StoreError, StoreConflict) as exc:
        if exc.retryable:
            target.probe()  # ends the copy if the target is gone
        return _refusal(uid, exc)
    except DAMAGE as exc:
        return RefusedObject(uid, "UNREADABLE", f"is damaged ({type(exc).__name__})")


def _refusal(identifier: str, error: RetrieveError | StoreError | StoreConflict) -> RefusedObject:
    return RefusedObject(identifier, error.code, str(error.args[2]))
