"""A node pipeline without stages, for tests of what stands around it; imported by agents' processes."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from voxfleet.enrich.archives.archive import StoredObject
from voxfleet.runners.consumption import Consumption
from voxfleet.runners.node_memory import NodeMemory
from voxfleet.runners.workitem import Failure, Outcome, State, Workitem

GATED = 1000
"""Workitems of series of this number and above are not done before there is a file ``go``."""


class StandIn:
    """Takes `seconds` for each workitem and leaves one file, created once or not at all.

    Parameters
    ----------
    settings : mapping
        ``folder``: where ``pids/``, ``begun/`` and ``stored/`` are; ``seconds``: for each workitem; ``host``, ``gpu``:
        bytes of its node's memory, 2 GiB and none unless told.
    """

    def __init__(self, settings: Mapping[str, str]) -> None:
        self._folder = Path(settings["folder"])
        self._seconds = float(settings["seconds"])
        self.memory = NodeMemory(int(settings.get("host", 2**31)), int(settings.get("gpu", 0)))
        self._threads = ThreadPoolExecutor(4)
        for name in ("pids", "begun", "stored"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        (self._folder / "pids" / str(os.getpid())).touch()

    def submit(self, workitem: Workitem) -> Future[Outcome]:
        """See Pipeline."""
        return self._threads.submit(self._process, workitem)

    def close(self) -> None:
        """See Pipeline."""
        self._threads.shutdown(wait=True)

    def _process(self, workitem: Workitem) -> Outcome:
        series = workitem.series_instance_uid
        with (self._folder / "begun" / series).open("a") as begun:
            begun.write(f"{os.getpid()}\n")
        started = time.time()
        time.sleep(self._seconds)
        while int(series.rpartition(".")[2]) >= GATED and not (self._folder / "go").exists():
            time.sleep(0.02)
        if series.endswith(".666"):
            os.abort()
        used = (Consumption("segment", started, self._seconds, self._seconds),)
        if series.endswith(".28") and len((self._folder / "begun" / series).read_text().splitlines()) == 1:
            failure = Failure("read", "NO_SPACE", "No space left on device", lost=True)
            return Outcome(workitem.key, State.CANCELED, used, failure=failure)
        if series.endswith(".13"):
            failure = Failure("segment", "MODEL_ERROR", "no lung found")
            return Outcome(workitem.key, State.CANCELED, used, failure=failure)
        path = self._folder / "stored" / series
        try:
            path.touch(exist_ok=False)
            already_there = False
        except FileExistsError:
            already_there = True
        stored = StoredObject(
            "1.2.840.10008.5.1.4.1.1.66.4", f"{series}.1", series, str(path), "0" * 64, 1, already_there
        )
        return Outcome(workitem.key, State.COMPLETED, used, (stored,))


def without_gpu(settings: Mapping[str, str]) -> StandIn:
    """A node whose GPU, where it is to have one, is not there."""
    if "gpu" in settings:
        raise RuntimeError("no GPU found")
    return StandIn(settings)
