"""Many series on one node: read ahead, warm model, write behind; each heavy stage in a child."""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue

from .cache_room import TIMES, CacheRoom
from .consumption import Consumption
from .heartbeat import SILENCE_S
from .node_memory import NodeMemory, gpu_bytes, stage_bytes
from .request import Answer, Request, StageSettings
from .scratch import Scratch
from .supervisor import PERFORM, Limits, StageError, StageKilled, StageOutOfMemory, StageProcess, StageStuck
from .workitem import Failure, Outcome, State, Workitem

_LOG = logging.getLogger(__name__)

LANES = ("prepare", "segment", "deliver")
"""In the order in which a workitem passes them; what each does stands in `stages.LANES`."""
FEATURES_DEADLINE = 24
"""How much longer the last lane may take where a parameter file asks for features."""


@dataclass(frozen=True, slots=True)
class PipelineSettings:
    """How one node works; picklable, so that it can travel to an agent.

    Attributes
    ----------
    stages : StageSettings
        `stages.scratch` is where the pipeline makes a folder of its own.
    devices : tuple of str
        One warm child each: ``cpu``, or ``cuda:0``, ``cuda:1``, ...
    deadlines_s : mapping as tuple of (lane, seconds)
        A child that does not answer in this time is killed.
    memory_bytes : int
        Resident memory at which a child is killed; 0: `node_memory.stage_bytes` of the node on which it works.
    deliverers : int
        Children that measure, encode and store.
    perform : str
        ``module:function`` that the children run.
    silence_s : float
        The children end themselves when this process falls silent for so long.
    cache_bytes : int
        What series in flight may take of the local disk together; 0: see `CacheRoom`.
    """

    stages: StageSettings
    devices: tuple[str, ...] = ("cpu",)
    deadlines_s: tuple[tuple[str, float], ...] = (("prepare", 900.0), ("segment", 1800.0), ("deliver", 1800.0))
    memory_bytes: int = 0
    deliverers: int = 1
    perform: str = PERFORM
    silence_s: float = SILENCE_S
    cache_bytes: int = 0

    @property
    def depth(self) -> int:
        """Workitems in flight that keep every lane busy, and no more: a bound of the local cache beside its bytes."""
        return 1 + len(self.devices) + self.deliverers


@dataclass(slots=True)
class _Attempt:
    """One workitem on its way through the lanes."""

    workitem: Workitem
    outcome: Future[Outcome]
    consumption: tuple[Consumption, ...] = ()


class NodePipeline:
    """Takes workitems, gives futures of outcomes; no future of it ever raises a stage's error.

    Parameters
    ----------
    settings : PipelineSettings
    """

    def __init__(self, settings: PipelineSettings) -> None:
        self.depth = settings.depth
        self._deadlines = dict(settings.deadlines_s)
        self.memory = NodeMemory(settings.memory_bytes or stage_bytes(), gpu_bytes(settings.devices))
        self._perform, self._silence_s = settings.perform, settings.silence_s
        self._scratch = Scratch(settings.stages.scratch)
        self._room = CacheRoom(self._scratch.path, settings.cache_bytes)
        cores = max(1, len(os.sched_getaffinity(0)) // settings.deliverers)
        self._settings = replace(
            settings.stages, scratch=self._scratch.path, cores=cores, memory_bytes=self.memory.host_bytes
        )
        self._log = settings.stages.scratch.parent / "workers.log"
        self._devices: SimpleQueue[str] = SimpleQueue()
        for device in settings.devices:
            self._devices.put(device)
        self._local = threading.local()
        self._children: list[StageProcess] = []
        self._lock = threading.Lock()
        self._readers: Counter[Path] = Counter()
        threads = {"prepare": 1, "segment": len(settings.devices), "deliver": settings.deliverers}
        self._lanes = {
            lane: ThreadPoolExecutor(threads[lane], thread_name_prefix=lane, initializer=self._start, initargs=(lane,))
            for lane in LANES
        }

    def submit(self, workitem: Workitem) -> Future[Outcome]:
        """Future outcome of one workitem; the caller keeps no more than `depth` in flight."""
        attempt = _Attempt(workitem, Future())
        with self._lock:
            self._readers[self._settings.series_folder_of(workitem)] += 1
        self._lanes["prepare"].submit(self._pass, 0, attempt)
        return attempt.outcome

    def pids(self) -> tuple[int, ...]:
        """Process ids of the children that live now."""
        return tuple(child.pid for child in self._children if child.pid is not None)

    def close(self) -> None:
        """Wait for what is in flight, end the children, remove the local cache."""
        for lane in LANES:
            self._lanes[lane].shutdown(wait=True)
        for child in self._children:
            child.close()
        self._scratch.close()

    def abort(self) -> None:
        """Kill the children at once; workitems in flight end as lost."""
        self._room.open()
        for lane in LANES:
            self._lanes[lane].shutdown(wait=False, cancel_futures=True)
        for child in self._children:
            child.kill()
        self.close()

    def _start(self, lane: str) -> None:
        """Give a lane's thread its own child, and its device if it segments."""
        device = self._devices.get() if lane == "segment" else "cpu"
        self._local.child = StageProcess(lane, self._log, self._perform, self._silence_s)
        self._local.settings = replace(self._settings, device=device)
        self._children.append(self._local.child)

    def _pass(self, step: int, attempt: _Attempt) -> None:
        """Take a workitem through one lane, and hand it to the next."""
        lane, key = LANES[step], attempt.workitem.key
        if step == 0:
            self._room.enter(key, TIMES * attempt.workitem.size_bytes)
        answer = self._ask(lane, attempt)
        if step == 0:
            self._room.correct(key, self._taken(attempt.workitem, answer))
        attempt.consumption += answer.consumption
        if answer.failure is None and step + 1 < len(LANES):
            self._lanes[LANES[step + 1]].submit(self._pass, step + 1, attempt)
            return
        self._clear(attempt.workitem)
        attempt.outcome.set_result(_outcome(attempt, answer, self._settings.node))

    def _clear(self, workitem: Workitem) -> None:
        """Remove what a workitem leaves, and its series once no other model of it is on its way; make room."""
        shutil.rmtree(self._settings.folder_of(workitem), ignore_errors=True)
        series = self._settings.series_folder_of(workitem)
        with self._lock:
            self._readers[series] -= 1
            if not self._readers[series]:
                del self._readers[series]
                shutil.rmtree(series, ignore_errors=True)
        self._room.leave(workitem.key)

    def _taken(self, workitem: Workitem, answer: Answer) -> int:
        """Bytes that a series takes in the cache, once it is read, and what will be made of it: as much again."""
        taken = sum(used.bytes_in for used in answer.consumption)
        with suppress(OSError), os.scandir(self._settings.series_folder_of(workitem)) as files:
            taken += sum(file.stat().st_size for file in files)
        return 2 * taken

    def _ask(self, lane: str, attempt: _Attempt) -> Answer:
        # Textures of a hundred segments under a dozen filters are hours of work.
        longer = FEATURES_DEADLINE if attempt.workitem.features and lane == "deliver" else 1
        limits = Limits(self._deadlines[lane] * longer, self.memory.host_bytes)
        request = Request(lane, attempt.workitem, self._local.settings, attempt.consumption)
        started, clock = time.time(), time.perf_counter()
        try:
            answer = self._local.child.call(request, limits)
        except StageError as exc:
            used = Consumption(lane, started, time.perf_counter() - clock, 0.0, peak_bytes=_peak_of(exc, limits))
            lost = isinstance(exc, StageKilled | StageStuck)
            return Answer((used,), replace(Failure.from_error(lane, exc), lost=lost))
        except OSError as exc:  # no child could be started: this machine has no process, pipe or memory left for one
            return Answer((), replace(Failure.from_error(lane, exc), lost=True))
        except Exception as exc:  # noqa: BLE001 - such as an answer that cannot be read: nobody may wait for ever
            _LOG.exception("series %s, %s", attempt.workitem.series_instance_uid, lane)
            self._local.child.close()
            return Answer((), Failure.from_error(lane, exc))
        if not isinstance(answer, Answer):
            return Answer((), Failure(lane, "BAD_ANSWER", f"worker answered with {type(answer).__name__}"))
        return answer


def _peak_of(error: StageError, limits: Limits) -> int:
    return limits.memory_bytes if isinstance(error, StageOutOfMemory) else 0


def _outcome(attempt: _Attempt, answer: Answer, node: str) -> Outcome:
    """Outcome of an attempt that has ended, in its last lane or before."""
    delivery = answer.delivery
    if answer.failure is not None or delivery is None:
        failure = answer.failure or Failure("deliver", "NO_DELIVERY", "the last stage gave nothing")
        return Outcome(attempt.workitem.key, State.CANCELED, attempt.consumption, failure=failure, node=node)
    return Outcome(
        key=attempt.workitem.key,
        state=State.COMPLETED,
        consumption=attempt.consumption,
        stored=delivery.stored,
        repairs=delivery.repairs,
        failed_features=delivery.failed_features,
        node=node,
    )
