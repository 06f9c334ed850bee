"""Stages that wait instead of working, so that what is measured is the machinery around them."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

from ...cluster.ledger import Run
from ...cluster.prices.price import Price
from ...enrich.archives.archive import StoredObject
from ...runners.consumption import Consumption
from ...runners.node_memory import UNKNOWN_MEMORY
from ...runners.request import Answer, Delivery, Request
from ...runners.workitem import Outcome, State, Workitem

SEG = "1.2.840.10008.5.1.4.1.1.66.4"
THREADS = 64
"""Workitems that one process of agents takes at a time at most."""

TOY = Price("toy", "", "", "on-demand", Decimal(1), 2, "", 0, "a toy", date(2026, 11, 1))


def stub_run() -> Run:
    """A run of stub workitems."""
    return Run("stub", "dir:/in", "dir:/out", ("stub 1",), {}, "0", "toy", datetime.now(UTC))


def stub_workitems(number: int, seconds: Mapping[str, tuple[float, float]]) -> Iterator[Workitem]:
    """Workitems whose lanes take between so many seconds, the same ones each time."""
    chance = random.Random(number)  # noqa: S311 - the same ones each time is the point
    for n in range(number):
        wanted = tuple(sorted((lane, f"{chance.uniform(*span):.4f}") for lane, span in seconds.items()))
        yield Workitem("1", f"1.{n}", "CT", 100, "dir:/in", "dir:/out", "stub", "1", "none", wanted)


def seconds_of(workitem: Workitem, lane: str) -> float:
    """What a lane of a workitem takes."""
    return float(dict(workitem.parameters).get(lane, 0))


def lane(request: object) -> Answer:
    """Wait for as long as the workitem says; what `NodePipeline` runs in its children."""
    if not isinstance(request, Request):
        raise TypeError(type(request).__name__)
    wait_s, started = seconds_of(request.workitem, request.lane), time.time()
    if wait_s:
        time.sleep(wait_s)
    used = (Consumption(request.lane, started, wait_s, 0.0),)
    delivery = Delivery((stored_of(request.workitem),)) if request.lane == "deliver" else None
    return Answer(used, delivery=delivery)


def stored_of(workitem: Workitem) -> StoredObject:
    """What a workitem is said to have left."""
    series = workitem.series_instance_uid
    return StoredObject(SEG, f"{series}.1", series, f"dir:/out/{series}", "0" * 64, 1)


class Waiting:
    """A node pipeline whose workitems take what they say in ``segment``; it leaves its process id in a folder."""

    memory = UNKNOWN_MEMORY

    def __init__(self, folder: str) -> None:
        self._threads = ThreadPoolExecutor(THREADS)
        if folder:
            (Path(folder) / str(os.getpid())).touch()

    def submit(self, workitem: Workitem) -> Future[Outcome]:
        """See Pipeline."""
        return self._threads.submit(self._process, workitem)

    def close(self) -> None:
        """See Pipeline."""
        self._threads.shutdown(wait=True)

    @staticmethod
    def _process(workitem: Workitem) -> Outcome:
        wait_s, started = seconds_of(workitem, "segment"), time.time()
        time.sleep(wait_s)
        used = (Consumption("segment", started, wait_s, 0.0, wait_s),)
        return Outcome(workitem.key, State.COMPLETED, used, (stored_of(workitem),))
