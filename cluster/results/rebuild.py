"""A ledger made again from what the archive holds: what is stored is not computed twice."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from ...enrich.archives.archive import Archive, ArchiveError, SeriesEntry, StoredObject
from ...enrich.archives.header import DAMAGE
from ...enrich.archives.object_file import object_digest
from ...enrich.identity import derived_uid
from ...enrich.series import Instance
from ...runners.workitem import State, Workitem
from ..ledger import Ledger

PRODUCTS = ("seg", "sr")
"""What each workitem leaves in the target: one series of one instance each, their UIDs drawn from its key."""


def rebuild(ledger: Ledger, archive: Archive, found: Callable[[int], None]) -> int:
    """Take every SCHEDULED workitem whose SEG and SR are in `archive` for COMPLETED; how many were.

    UIDs follow from the workitem's key (series, model, weights, parameters, version), so that an
    object of that UID is the result of just this work. It is read whole: a damaged one is no result.

    Parameters
    ----------
    found : callable
        Told the number of workitems taken so far.

    Raises
    ------
    SearchError, AccessDenied
        If the archive cannot be listed.
    """
    there = {entry.series_instance_uid: entry for entry in archive.search() if isinstance(entry, SeriesEntry)}
    number = 0
    for item in ledger.items():
        if item.state is State.SCHEDULED and (stored := _products(item.workitem, there, archive)):
            number += ledger.adopt(item.workitem.key, stored)
            found(number)
    ledger.event("info", "rebuilt", f"{number} workitems were found done in {archive.uri}")
    return number


def _products(workitem: Workitem, there: dict[str, SeriesEntry], archive: Archive) -> tuple[StoredObject, ...]:
    """All that the workitem leaves, read back; empty if any of it is missing or cannot be read."""
    stored = []
    for kind in PRODUCTS:
        entry = there.get(derived_uid(workitem.key, f"{kind}.series"))
        object_there = _object(archive, entry, derived_uid(workitem.key, f"{kind}.instance")) if entry else None
        if object_there is None:
            return ()
        stored.append(object_there)
    return tuple(stored)


def _object(archive: Archive, entry: SeriesEntry, sop_instance_uid: str) -> StoredObject | None:
    with tempfile.TemporaryDirectory(prefix="voxfleet-") as folder:
        try:
            series = archive.retrieve(entry, Path(folder))
            for instance in series.instances:
                if instance.sop_instance_uid == sop_instance_uid:
                    return _stored(instance, entry.series_instance_uid, archive.uri)
        except (ArchiveError, OSError, *DAMAGE):
            return None
    return None


def _stored(instance: Instance, series_instance_uid: str, uri: str) -> StoredObject:
    digest = object_digest(instance.path)
    return StoredObject(
        instance.sop_class_uid,
        instance.sop_instance_uid,
        series_instance_uid,
        uri,
        digest,
        instance.bytes,
        already_there=True,
    )
