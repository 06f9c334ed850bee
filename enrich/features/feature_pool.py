"""Processes that compute features side by side, as many as there are cores and room in memory for.

pyradiomics holds Python's lock, so threads of one process would wait for one another.
``multiprocessing`` would leave its children alive when a supervised stage is killed; these
end with the thread that started them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe

from ... import Error
from .feature_worker import Task

Answer = dict[str, float] | str


class FeatureWorkerDied(Error):
    """The process that computed features ended before it answered, most often for want of memory."""

    code = "FEATURE_WORKER_DIED"

    def __init__(self, name: str, returncode: int) -> None:
        super().__init__(name, returncode)

    def __str__(self) -> str:
        name, returncode = self.args
        return f"{name}: the process that computed it ended with {returncode}; fewer features or more memory may help"


@dataclass(frozen=True, slots=True)
class Job:
    """A task that is not cut out of the volume before its turn comes.

    Attributes
    ----------
    name : str
        For errors.
    cut : callable
        Gives the task.
    bytes : int
        Memory that it will take, roughly.
    """

    name: str
    cut: Callable[[], Task]
    bytes: int


def compute_all(jobs: Sequence[Job], workers: int, room_bytes: int) -> list[Answer]:
    """The answer to each job, in their order.

    Parameters
    ----------
    workers : int
        Processes, at most.
    room_bytes : int
        What the tasks in work may take together; one that takes more is computed alone.

    Raises
    ------
    FeatureWorkerDied
        If a process ended; the others are ended too.
    """
    room, local = _Room(room_bytes), threading.local()
    started: list[_Worker] = []

    def start() -> None:
        local.worker = _Worker()
        started.append(local.worker)

    def answer(job: Job) -> Answer:
        worker: _Worker = local.worker
        with room.taken(job.bytes):
            return worker.ask(job)

    executor = ThreadPoolExecutor(max(1, min(workers, len(jobs))), initializer=start)
    try:
        return list(executor.map(answer, jobs))
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
        for worker in started:
            worker.end()
        executor.shutdown(wait=True)


class _Worker:
    """One process, started by the thread that asks it."""

    def __init__(self) -> None:
        self._connection, theirs = Pipe()
        command = [sys.executable, "-P", "-m", f"{__package__}.feature_worker", str(theirs.fileno()), str(os.getpid())]
        self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        theirs.close()

    def ask(self, job: Job) -> Answer:
        """The answer to a job; what the process raised is raised here."""
        connection: Connection = self._connection
        try:
            connection.send(job.cut())
            answer: Answer | Exception = connection.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError) as exc:
            raise FeatureWorkerDied(job.name, self._process.wait()) from exc
        if isinstance(answer, Exception):
            raise answer
        return answer

    def end(self) -> None:
        """End the process and wait for it, so that its CPU seconds are counted."""
        self._process.kill()
        self._process.wait()
        self._connection.close()


class _Room:
    """Memory that tasks take and give back."""

    def __init__(self, size: int) -> None:
        self._size, self._used = size, 0
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, wanted: int) -> Iterator[None]:
        """Wait until there is room, or until nobody else is there."""
        with self._changed:
            self._changed.wait_for(lambda: self._used == 0 or self._used + wanted <= self._size)
            self._used += wanted
        try:
            yield
        finally:
            with self._changed:
                self._used -= wanted
                self._changed.notify_all()
