"""A driver without Ray, with a pipeline that does nothing: what it leases, begins and gives back."""

from __future__ import annotations

import threading
from collections import defaultdict
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from voxfleet.cluster.drivers.local_cell import LocalCell, NodeUnfit, run_locally
from voxfleet.cluster.ledger import AttemptClass, Run
from voxfleet.cluster.ledgers.sqlite import SqliteLedger
from voxfleet.runners.node_memory import NodeMemory
from voxfleet.runners.pipeline import PipelineSettings
from voxfleet.runners.request import StageSettings
from voxfleet.runners.workitem import Failure, Outcome, State, Workitem

MODELS = ("one", "two", "three")
SERIES = 30


class Idle:
    """A node pipeline whose workitems end at once, and fail by the failure of its settings' node."""

    memory = NodeMemory(2**31)
    depth = 3
    failures: dict[str, Failure] = {}  # noqa: RUF012 - set by a test

    def __init__(self, settings: PipelineSettings) -> None:
        self._node = settings.stages.node
        self._threads = ThreadPoolExecutor(2)

    def submit(self, workitem: Workitem) -> Future[Outcome]:
        """See Pipeline."""
        failure = self.failures.get(self._node)
        state = State.CANCELED if failure else State.COMPLETED
        return self._threads.submit(Outcome, workitem.key, state, failure=failure)

    def close(self) -> None:
        """See Pipeline."""
        self._threads.shutdown()

    abort = close


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SqliteLedger:
    """A run of thirty series and three models."""
    monkeypatch.setattr("voxfleet.cluster.drivers.local_cell.NodePipeline", Idle)
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    models = tuple(f"{name} 1" for name in MODELS)
    ledger.create_run(Run("run", "dir:/in", "dir:/out", models, {}, "0", "toy", datetime.now(UTC)))
    ledger.add(
        Workitem("1", f"1.{n}", "CT", 1, "dir:/in", "dir:/out", name, "1", "none")
        for n in range(SERIES)
        for name in MODELS
    )
    return ledger


def drive(path: Path, node: str, stop: threading.Event | None = None) -> None:
    """Work as one driver of several, each with a connection of its own."""
    settings = PipelineSettings(StageSettings(path.parent, path.parent, node))
    ledger = SqliteLedger(path)
    stop = stop or threading.Event()
    cell = LocalCell(settings, "toy", node)
    run_locally(ledger, cell, may_lease=lambda _: not stop.is_set(), observe=lambda: None, stop=stop)


def test_two_drivers_share_series_and_not_their_models(
    run: SqliteLedger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All models of a series are done by the one driver that reads it, though the queue begins in the midst of one.

    The second comes when the first has leased from there; neither has done anything before both have something.
    """
    has_leased = {"a": threading.Event(), "b": threading.Event()}

    class Together(Idle):
        def __init__(self, settings: PipelineSettings) -> None:
            super().__init__(settings)
            if self._node == "b":
                assert has_leased["a"].wait(60)

        def submit(self, workitem: Workitem) -> Future[Outcome]:
            has_leased[self._node].set()
            assert has_leased["b"].wait(60)
            return super().submit(workitem)

    monkeypatch.setattr("voxfleet.cluster.drivers.local_cell.NodePipeline", Together)
    (first,) = run.lease("somebody", 1)
    run.finish(first, Outcome(first.workitem.key, State.COMPLETED), "somewhere")
    run.release("somebody", "done")
    drivers = [threading.Thread(target=drive, args=(tmp_path / "ledger.sqlite", node)) for node in ("a", "b")]
    for each in drivers:
        each.start()
    for each in drivers:
        each.join()
    assert run.counts().completed == SERIES * len(MODELS)
    series = {item.workitem.key: item.workitem.series_instance_uid for item in run.items()}
    readers = defaultdict(set)
    for attempt in run.attempts():
        if attempt.node in ("a", "b"):
            readers[series[attempt.key]].add(attempt.node)
    assert {"a", "b"} == set.union(*readers.values())
    assert sum(len(nodes) for nodes in readers.values()) == SERIES


def test_what_was_leased_and_not_begun_is_given_back(
    run: SqliteLedger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told to stop, a driver ends what it began; the rest of its leases count as no attempt, and as no loss."""
    stop = threading.Event()

    class Stopping(Idle):
        depth = 1

        def submit(self, workitem: Workitem) -> Future[Outcome]:
            stop.set()
            return super().submit(workitem)

    monkeypatch.setattr("voxfleet.cluster.drivers.local_cell.NodePipeline", Stopping)
    drive(tmp_path / "ledger.sqlite", "a", stop)
    counts = run.counts()
    assert (counts.in_progress, counts.completed) == (0, 1)
    assert [attempt.outcome for attempt in run.attempts()] == [AttemptClass.COMPLETED]
    assert sum(item.losses for item in run.items()) == 0


@pytest.mark.parametrize("code", ["NO_SPACE", "WORKER_STUCK"])
def test_a_machine_that_cannot_go_on_says_so_and_costs_no_series(
    run: SqliteLedger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    """Its disk full or a process that does not die: the driver ends, and another one does everything."""
    monkeypatch.setitem(Idle.failures, "sick", Failure("read", code, "as asked", lost=True))
    with pytest.raises(NodeUnfit, match="sick, read: as asked; mend it"):
        drive(tmp_path / "ledger.sqlite", "sick")
    assert run.counts().in_progress == 0
    drive(tmp_path / "ledger.sqlite", "well")
    assert run.counts().completed == SERIES * len(MODELS)
    lost = [attempt.outcome for attempt in run.attempts() if attempt.node == "sick"]
    assert set(lost) == {AttemptClass.LOST}
    assert len(lost) <= 3
