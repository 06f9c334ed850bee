"""How a worker tells its end: to schedulers by an exit code, to programs by one JSON document."""

from __future__ import annotations

import json
import signal
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from voxfleet.cluster.budgets.governor import BudgetSpent
from voxfleet.cluster.drivers import worker_ending
from voxfleet.cluster.drivers.stop import Stop
from voxfleet.cluster.drivers.worker_command import worker
from voxfleet.cluster.drivers.worker_ending import WorkerReport, ending_of, told_at_end
from voxfleet.cluster.enrichment import UnknownExecutor
from voxfleet.cluster.ledger import LedgerUnavailable, Run
from voxfleet.cluster.ledgers.sqlite import SqliteLedger
from voxfleet.cluster.prices.price import Price
from voxfleet.runners.workitem import Failure, Outcome, State, Workitem


@pytest.mark.parametrize(
    ("left", "number", "short", "paused", "outcome", "code"),
    [
        (0, signal.SIGTERM, True, "a limit", "done", 0),
        (7, signal.SIGTERM, False, "", "preempted", 143),
        (7, signal.SIGTERM, True, "a limit", "preempted", 143),
        (7, signal.SIGINT, False, "", "interrupted", 4),
        (7, None, True, "", "out_of_budget", 4),
        (7, None, False, "a limit", "limit", 4),
        (7, None, False, "", "idle", 4),
    ],
)
def test_only_a_machine_that_is_taken_away_from_work_is_worth_another_begin(
    left: int, number: int | None, short: bool, paused: str, outcome: str, code: int
) -> None:
    """Done, out of budget, limited, interrupted, idle: none of these is begun again by a scheduler."""
    stop = Stop()
    if number is not None:
        stop.told(number)
    governor: Any = SimpleNamespace(stop=stop, out_of_budget=short, paused=paused)
    ending = ending_of(left, governor)
    assert (ending.outcome, ending.exit_code, ending.left) == (outcome, code, left)


def test_a_notice_that_comes_twice_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slurm tells a script, which hands it on, and the worker, which drains; it leaves when told again later."""
    now = [100.0]
    monkeypatch.setattr("voxfleet.cluster.drivers.stop.monotonic", lambda: now[0])
    stop = Stop()
    assert [stop.told(signal.SIGTERM), stop.told(signal.SIGTERM)] == [False, False]
    now[0] += 4.0
    assert not stop.told(signal.SIGTERM)
    now[0] += 2.0
    assert stop.told(signal.SIGTERM)
    interrupted = Stop()
    assert [interrupted.told(signal.SIGINT), interrupted.told(signal.SIGINT)] == [False, True]


def item(number: int) -> Workitem:
    """The workitem of series 1.NUMBER."""
    return Workitem("1", f"1.{number}", "CT", 1, "dir:a", "dir:b", "m", "1", "none")


def priced(usd_per_hour: int) -> Price:
    """The price of some machine."""
    return Price("m", "gcp", "", "owned", Decimal(usd_per_hour), 0, "", 0, "table", date(2026, 11, 1))


def test_what_a_worker_did_is_counted_by_what_it_tells_its_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each attempt once, by its class; an answer after the workitem was taken away as lost; nodes at their prices."""
    now = [100.0]
    monkeypatch.setattr(worker_ending, "monotonic", lambda: now[0])
    report = WorkerReport("r")
    report.node, report.price = "n", priced(36)
    ledger = report.counts(SqliteLedger(tmp_path / "ledger.sqlite"))
    ledger.create_run(Run("r", "dir:a", "dir:b", ("m 1",), {}, "0.1.0", "local", datetime(2026, 11, 21, tzinfo=UTC)))
    ledger.add([item(number) for number in range(6)])
    ledger.node_up("n", "m", "me")
    ledger.head_up("dear", "m", "me", price=priced(72))
    now[0] += 10.0
    ledger.node_up("n", "m", "me")
    ledger.node_down("dear", "me")
    now[0] += 10.0
    leases = ledger.lease("me", 6, 60.0)
    assert all(ledger.start_all([(lease, "n") for lease in leases]))
    failures = (None, Failure("read", "GEOMETRY", "", refused=True), Failure("segment", "BROKEN", ""))
    for lease, failure in zip(leases, failures, strict=False):
        state = State.CANCELED if failure else State.COMPLETED
        assert ledger.finish(lease, Outcome(lease.workitem.key, state, (), failure=failure), "n")
    # Answered twice, as one that was taken for dead and comes back: the second time is nobody's.
    done = [(lease, Outcome(lease.workitem.key, State.COMPLETED, ()), "n") for lease in (leases[3], leases[0])]
    assert ledger.finish_all(done) == (True, False)
    assert ledger.lose(leases[4:], "left", "n") == 2
    assert report.document() == {
        "run": "r",
        "node": "n",
        "outcome": "error",
        "reason": "not begun",
        "exit_code": 1,
        "attempts": {"completed": 2, "refused": 1, "failed": 1, "lost": 3},
        "left": None,
        "seconds": 20.0,
        "usd": "0.400",  # 20 s at 36 US$ an hour, and 10 s at 72: 0.2 + 0.2
    }


@pytest.mark.parametrize(
    ("error", "outcome", "reason", "code"),
    [
        (LedgerUnavailable("db", "away"), "error", "LEDGER_UNAVAILABLE: ", 1),
        (SystemExit(143), "preempted", "told to stop twice", 143),
        (SystemExit(130), "interrupted", "told to stop twice", 130),
        (typer.BadParameter("no"), "error", "BadParameter: no", 2),
        (ValueError("a bug"), "error", "ValueError: a bug", 1),
    ],
)
def test_whatever_ends_a_worker_is_told(
    error: BaseException, outcome: str, reason: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """One document on standard output, with the exit code that the command has."""
    with pytest.raises(type(error)), told_at_end("r", as_json=True):
        raise error
    told = json.loads(capsys.readouterr().out)
    assert (told["outcome"], told["exit_code"], told["usd"]) == (outcome, code, None)
    assert told["reason"].startswith(reason)


def test_a_budget_that_is_spent_unseen_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """What `stopped_unseen` turns into an exit code has its reason in the document."""
    with pytest.raises(typer.Exit), told_at_end("r", as_json=True):
        raise typer.Exit(4) from BudgetSpent(Decimal("9.5"), Decimal(10))
    told = json.loads(capsys.readouterr().out)
    assert (told["outcome"], told["exit_code"]) == ("out_of_budget", 4)
    assert told["reason"] == "9.500000 of 10 US$ are spent"


def test_a_broken_configuration_is_told_too(capsys: pytest.CaptureFixture[str]) -> None:
    """An executor that there is not: an error of ours, and the document; without --json nothing on standard output."""
    for as_json in (True, False):
        with pytest.raises(UnknownExecutor):
            worker("r", "postgresql://x/y", on="slurm", as_json=as_json)
    told = json.loads(capsys.readouterr().out)
    assert (told["outcome"], told["exit_code"]) == ("error", 1)
    assert "slurm" in told["reason"]
