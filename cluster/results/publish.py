"""From a staging store to the archive, at the archive's pace: while it sleeps, the fleet works on."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from time import monotonic

from pydicom import Dataset
from tenacity import Retrying, retry_if_exception, sleep_using_event, stop_when_event_set, wait_random_exponential

from ... import Error
from ...enrich.archives.archive import (
    Archive,
    NoSpace,
    ReadBackDiffers,
    RetrieveError,
    SeriesEntry,
    StoreConflict,
    StoreRefused,
)
from ...enrich.archives.object_file import digest_if_whole, opened
from ...enrich.archives.outage import is_outage
from ..ledger import Ledger, Staged

BATCH = 100
"""Objects asked of the ledger at a time."""

LONGEST_PAUSE_S = 60.0
"""Between two tries while the archive is busy or away."""

AWAY_S = 15.0
"""After the staging store did not answer, before it is asked again."""

FOLLOW_S = 2.0
"""How often a run that goes on is asked for more."""


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

    def work(self, stop: Event, observe: Callable[[], None]) -> None:
        """Publish until nothing waits, or `stop` is set.

        An object that the archive refuses, or has another version of, is noted as rejected with
        the reason. While the archive answers that it is busy (429, 503), or not at all, the same
        object is tried again, after pauses of up to a minute.

        Raises
        ------
        AccessDenied, NoSpace
            If the archive takes nothing any more, whatever is sent.
        """
        due = monotonic()
        while not stop.is_set():
            batch = self.ledger.backlog(BATCH)
            if not batch:
                if not self._more_may_come():
                    return
                stop.wait(FOLLOW_S)
                continue
            for each in batch:
                stop.wait(max(0.0, due - monotonic()))
                if stop.is_set():
                    return
                due = max(due, monotonic()) + 1 / self.per_s
                self._publish(each, stop)
                observe()

    def _more_may_come(self) -> bool:
        return self.follow and self.ledger.counts().open > 0

    def _publish(self, staged: Staged, stop: Event) -> None:
        """Store one object, as often as the archive needs to be asked; it may be stopped in between."""
        try:
            with self._opened(staged) as dataset:
                for attempt in self._patience(stop):
                    with attempt:
                        self.ledger.published(staged, self.target.store(dataset).uri)
        except (StoreRefused, StoreConflict, ReadBackDiffers, RetrieveError) as exc:
            if is_outage(exc):
                # The staging store is away, and nothing is wrong with the object: it stays in the backlog.
                stop.wait(AWAY_S)
                return
            self.ledger.rejected(staged, f"{exc.code}: {exc}")
        except Error as exc:
            if not (stop.is_set() and exc.retryable):
                raise

    def _patience(self, stop: Event) -> Retrying:
        return Retrying(
            retry=retry_if_exception(_passes),
            stop=stop_when_event_set(stop),
            sleep=sleep_using_event(stop),
            wait=wait_random_exponential(multiplier=0.5, max=LONGEST_PAUSE_S),
            reraise=True,
        )

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


def _passes(error: BaseException) -> bool:
    """Whether the same call may succeed later, with nothing done about it."""
    return isinstance(error, Error) and error.retryable and not isinstance(error, NoSpace)
