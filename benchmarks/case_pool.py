"""Child processes that score cases, each with a deadline and a memory cap; results are kept on disk."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path

from ..enrich.atomic import write_text
from ..runners.node_memory import stage_bytes
from ..runners.pictures import Picture
from ..runners.supervisor import Limits, StageError, StageProcess
from ..runners.workitem import Failure
from .case import CaseRequest, CaseResult, PictureRequest, Problem, from_plain, to_plain
from .study import digest_of

PERFORM = "voxfleet.benchmarks.case_worker:perform"
DEADLINE_S = 3600.0
"""A child that scores one series for longer is killed."""


class CasePool:
    """Scores series in child processes; to be closed.

    Parameters
    ----------
    kept : Path
        Folder of the results of cases.
    state : str
        Of the files that are read, for `digest_of`.
    workers : int
        Children.
    """

    def __init__(self, kept: Path, state: str, workers: int) -> None:
        self._kept, self._state = kept, state
        self._limits = Limits(DEADLINE_S, stage_bytes() // workers)
        self._local = threading.local()
        self._children: list[StageProcess] = []
        kept.mkdir(parents=True, exist_ok=True)
        self._threads = ThreadPoolExecutor(workers, initializer=self._start)

    def score(self, requests: Iterable[CaseRequest], stopped: Callable[[], bool]) -> Iterator[CaseResult]:
        """Results in the order in which they are ready; none is begun once `stopped` says so."""
        futures = [self._threads.submit(self._scored, request, stopped) for request in requests]
        for future in as_completed(futures):
            found = future.result()
            if found is not None:
                yield found

    def draw(self, requests: Iterable[PictureRequest]) -> list[tuple[Picture, ...]]:
        """Pictures of each request, in order; none where drawing failed."""
        futures: list[Future[object]] = [self._threads.submit(self._ask, request) for request in requests]
        answers = [future.result() for future in futures]
        return [answer if isinstance(answer, tuple) else () for answer in answers]

    def close(self) -> None:
        """Wait for what is in flight and end the children."""
        self._threads.shutdown(wait=True)
        for child in self._children:
            child.close()

    def _start(self) -> None:
        self._local.child = StageProcess("score", self._kept.parent / "workers.log", PERFORM)
        self._children.append(self._local.child)

    def _scored(self, request: CaseRequest, stopped: Callable[[], bool]) -> CaseResult | None:
        path = self._kept / f"{digest_of(request, self._state)}.json"
        if (kept := _read(path)) is not None:
            return kept
        if stopped():
            return None
        answer = self._ask(request)
        if isinstance(answer, Failure) and answer.lost:
            answer = self._ask(request)
        if isinstance(answer, CaseResult):
            write_text(path, json.dumps(to_plain(answer)))
            return answer
        return self._failed(request, answer)

    def _failed(self, request: CaseRequest, answer: object) -> CaseResult:
        """A case that cannot be scored: its models as failed, if the image and its reference can be read."""
        failure = answer if isinstance(answer, Failure) else Failure("score", "BAD_ANSWER", "no result")
        told = f"{failure.code}: {failure.message}"
        without = replace(
            request, candidates=tuple(replace(each, failure=each.failure or told) for each in request.candidates)
        )
        problem = Problem(failure.code, failure.message)
        again = self._ask(without) if without != request else answer
        if isinstance(again, CaseResult):
            return replace(again, problems=(problem, *again.problems))
        return CaseResult(request.entry.series_instance_uid, modality=request.entry.modality, problems=(problem,))

    def _ask(self, request: object) -> object:
        try:
            return self._local.child.call(request, self._limits)
        except StageError as exc:
            return Failure.from_error("score", exc)


def _read(path: Path) -> CaseResult | None:
    """A result that was kept; None where there is none, or a file that is no result."""
    try:
        return from_plain(CaseResult, json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return None
