"""A driver that is killed at random points of its work with the ledger: nothing lost, doubled or half written."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from voxfleet.cluster.ledger import MOST_FAILS, Ledger
from voxfleet.enrich.archives.archive import StoredObject
from voxfleet.runners.workitem import Outcome, State

if TYPE_CHECKING:
    from conftest import StubFleet

ITEMS = 2000
KEY = 64
"""Digits of a workitem's key."""

DRIVERS = """
import itertools, os, random, signal, sys
from pathlib import Path
from voxfleet.cluster.ledgers import postgres_database
from voxfleet.cluster.ledgers.opening import open_shared_ledger
from voxfleet.cluster.ledgers.sqlite import SqliteLedger
from voxfleet.enrich.archives.archive import StoredObject
from voxfleet.runners.workitem import Failure, Outcome, State

where, run, points = sys.argv[1], sys.argv[2], int(sys.argv[3])
chance = random.Random(points)


def work(at):
    shared, calls = where.startswith("postgresql:"), itertools.count()

    def step(*_):
        if next(calls) == at:
            os.kill(os.getpid(), signal.SIGKILL)

    if shared:
        ledger, execute = open_shared_ledger(where, run), postgres_database._Transaction.execute
        def before_and_after(*words):
            step()
            rows = execute(*words)
            step()
            return rows
        postgres_database._Transaction.execute = before_and_after
    else:
        ledger = SqliteLedger(Path(where))
        # SQLite calls it before each instruction of its virtual machine.
        ledger._database._sql.set_progress_handler(step, 1)
    ledger.heartbeat("driver", 0.0)
    ledger.expire()
    ledger.node_up("n", "toy", "driver")
    while leases := ledger.lease("driver", 3):
        for lease in leases:
            ledger.start(lease, "n")
        done, bad, lost = (*leases, None, None)[:3]
        key, series = done.workitem.key, done.workitem.series_instance_uid
        stored = (StoredObject("1.2", f"{series}.1", series, "dir:/out", "0" * 64, 1),)
        if ledger.finish(done, Outcome(key, State.COMPLETED, stored=stored), "n"):
            os.write(1, f"{key}\\n".encode())
        if bad:
            failure = Failure("segment", "CRASHED", "as asked", retryable=True)
            ledger.finish(bad, Outcome(bad.workitem.key, State.CANCELED, failure=failure), "n")
        if lost:
            chance.choice([ledger.give_back, lambda held: ledger.lose(held, "as asked", "n")])([lost])
        ledger.heartbeat("driver")
    ledger.node_down("n", "driver")
    ledger.close()


for _ in range(points):
    at, driver = int(2 ** chance.uniform(0, 7 if where.startswith("postgresql:") else 13)), os.fork()
    if not driver:
        work(at)
        os._exit(0)
    ended = os.waitstatus_to_exitcode(os.waitpid(driver, 0)[1])
    print("killed" if ended == -signal.SIGKILL else f"ended with {ended}", flush=True)
    sys.stdin.readline()
"""


def _rows(ledger: Ledger, query: str) -> list[tuple[object, ...]]:
    """What a query of the ledger's own tables gives, in order."""
    return sorted(tuple(dict(row).values()) for row in ledger._database.rows(query))  # type: ignore[attr-defined]


def _is_whole(ledger: Ledger) -> bool:
    """Items, attempts, objects and sums tell the same, as after each transaction."""
    completed = _rows(ledger, "SELECT key FROM item WHERE state = 'COMPLETED'")
    held = _rows(ledger, "SELECT key, fence FROM item WHERE state = 'IN PROGRESS'")
    ended = _rows(ledger, "SELECT outcome, count(*) FROM attempt WHERE ended IS NOT NULL GROUP BY outcome")
    return (
        completed
        == _rows(ledger, "SELECT key FROM stored")
        == _rows(ledger, "SELECT key FROM attempt WHERE outcome = 'completed'")
        and held == _rows(ledger, "SELECT key, fence FROM attempt WHERE ended IS NULL")
        and ended == _rows(ledger, "SELECT outcome, attempts FROM usage")
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("shared", "points"), [(False, 500), (True, 200)])
def test_a_driver_is_killed_at_random_points(
    stub_fleet: Callable[..., StubFleet],
    request: pytest.FixtureRequest,
    record_property: Callable[[str, object], None],
    shared: bool,
    points: int,
) -> None:
    """Between any two statements, in SQLite any two instructions of them: after each kill all is there or nothing.

    What a driver was told is done stays done, and in the end every item is done, or given up for its own failures.
    """
    record_property("times", points)
    fleet = stub_fleet([{}] * ITEMS, *([request.getfixturevalue("postgres").url] if shared else []))
    command = [sys.executable, "-c", DRIVERS, fleet.where, fleet.folder.name, str(points)]
    told: set[str] = set()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as drivers:
        assert drivers.stdin is not None
        assert drivers.stdout is not None
        for line in map(str.strip, drivers.stdout):
            if len(line) == KEY:
                told.add(line)
                continue
            assert line == "killed"
            # A server may still be at work on the last of what it was sent.
            fleet.until(lambda: _is_whole(fleet.ledger))
            drivers.stdin.write("\n")
            drivers.stdin.flush()
    assert drivers.returncode == 0
    assert 0 < fleet.ledger.counts().completed < ITEMS
    fleet.ledger.heartbeat("driver", 0.0)
    while leases := fleet.ledger.lease("last", 100):
        for lease in leases:
            series = lease.workitem.series_instance_uid
            stored = (StoredObject("1.2", f"{series}.1", series, "dir:/out", "0" * 64, 1),)
            assert fleet.ledger.finish(lease, Outcome(lease.workitem.key, State.COMPLETED, stored=stored))
    assert _is_whole(fleet.ledger)
    counts = fleet.ledger.counts()
    assert (counts.completed + counts.failed, counts.open) == (ITEMS, 0)
    assert told <= {each.key for each in fleet.ledger.stored()}
    failed = [item for item in fleet.ledger.items() if item.state is State.CANCELED]
    assert [item.fails for item in failed] == [MOST_FAILS] * counts.failed
