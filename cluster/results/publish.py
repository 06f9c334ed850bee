"""From a staging store to the archive, at the archive's pace: while it sleeps, the fleet works on."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from time import monotonic

from pydicom import Dataset

from ... import Error
from ...enrich.archives.archive import (
    Archive,
    ReadBackDiffers,
    RetrieveError,
    SeriesEntry,
    StoreConflict,
    StoreRefused,
)
from ...enrich.archives.object_file import digest_if_whole, opened
from ...enrich.archives.outage import is_outage
from ..ledger import Ledger, Staged
from .delays import Delays

BATCH = 100
"""Objects asked of the ledger at a time."""

FOLLOW_S = 2.0
"""How often a run that goes on is asked for more."""

REJECTED = (StoreRefused, StoreConflict, ReadBackDiffers, RetrieveError)
"""Errors after which an object is not sent again, where they are no outage."""


@dataclass(frozen=True, slots=True)
class Publisher:
    """What to publish, and how fast.

    Attributes
    ----------
    staging, target : Archive
        Where the run stored its results, and where they belong.
    per_s : float
        Most objects a second.
    follow : bool
        Whether to wait for what a run that goes on will store.
    """

    ledger: Ledger
    staging: Archive
    target: Archive
    per_s: float
    follow: bool = False

    def work(self, stop: Event, observe: Callable[[], None]) -> Mapping[str, str]:
        """Publish until nothing waits, or `stop` is set.

        An object that the archive refuses, or has another version of, is noted as rejected with
        the reason. One that fails and may pass stays in the backlog and is tried again after all
        others, see `Delays`; while the archive takes nothing there are pauses of up to a minute.

        Returns
        -------
        mapping of str to str
            SOP Instance UIDs of objects that failed too often while others were taken, with the reasons: they stay
            in the backlog.

        Raises
        ------
        AccessDenied, NoSpace
            If the archive takes nothing any more, whatever is sent.
        """
        delays = Delays()
        due = monotonic()
        while not stop.is_set():
            # Asked before the backlog is read: what the run's last workitem leaves is in it.
            most_s = FOLLOW_S if self.follow and self.ledger.counts().open else math.inf
            begun, tried = monotonic(), False
            for each in self._due(delays):
                stop.wait(max(0.0, due - monotonic()))
                if stop.is_set():
                    break
                due = max(due, monotonic()) + 1 / self.per_s
                stop.wait(self._publish(each, delays))
                observe()
                tried = True
            if not tried:
                delays.gone(begun)
                pause_s = min(most_s, delays.due_in_s)
                if pause_s == math.inf:
                    break
                stop.wait(pause_s)
        return delays.left

    def _due(self, delays: Delays) -> Iterator[Staged]:
        """The backlog, once, but for what is to be tried later."""
        last: Staged | None = None
        while batch := self.ledger.backlog(BATCH, last):
            last = batch[-1]
            yield from (each for each in batch if delays.is_due(each.object.sop_instance_uid))

    def _publish(self, staged: Staged, delays: Delays) -> float:
        """Store one object; for how many seconds nothing is to be tried."""
        uid = staged.object.sop_instance_uid
        try:
            with self._opened(staged) as dataset:
                uri = self.target.store(dataset).uri
        except Error as exc:
            reason = f"{exc.code}: {exc}"
            if isinstance(exc, REJECTED) and not is_outage(exc):
                self.ledger.rejected(staged, reason)
                delays.settled(uid)
                return 0.0
            if not exc.retryable:
                raise
            asked = self.staging if isinstance(exc, RetrieveError) else self.target
            return delays.failed(uid, reason, lambda: _answers(asked))
        self.ledger.published(staged, uri)
        delays.took(uid)
        return 0.0

    @contextmanager
    def _opened(self, staged: Staged) -> Iterator[Dataset]:
        """The object in the staging store, as the run stored it; raises RetrieveError."""
        uid = staged.object.sop_instance_uid
        entry = SeriesEntry(staged.workitem.study_instance_uid, staged.object.series_instance_uid, "", 1)
        with tempfile.TemporaryDirectory(prefix="voxfleet-") as folder:
            paths = {each.sop_instance_uid: each.path for each in self.staging.retrieve(entry, Path(folder)).instances}
            if uid not in paths:
                raise RetrieveError(self.staging.uri, staged.object.series_instance_uid, "the object is not in it")
            if digest_if_whole(paths[uid]) != staged.object.sha256:
                raise RetrieveError(self.staging.uri, uid, "was changed or damaged since the run stored it")
            with opened(paths[uid]) as dataset:
                yield dataset


def _answers(archive: Archive) -> bool:
    """Whether an archive can be reached now."""
    try:
        archive.probe()
    except Error:
        return False
    return True
