"""The ledger is away for longer than leases hold: drivers that could not be heard are not taken for dead."""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import psutil
import psycopg
import pytest
from voxfleet.cluster.ledger import LEASE_S as FULL_LEASE_S
from voxfleet.cluster.ledger import AttemptClass, Ledger, LedgerUnavailable
from voxfleet.cluster.ledgers import contact, endings, sql_ledger
from voxfleet.cluster.ledgers.postgres import PostgresLedger
from voxfleet.cluster.ledgers.sqlite import SqliteLedger
from voxfleet.cluster.ledgers.steps import Steps
from voxfleet.runners.workitem import Workitem

if TYPE_CHECKING:
    from conftest import Account, Postgres, StubFleet

LEASE_S = 6.0


@pytest.mark.slow
def test_database_is_away_for_longer_than_leases(
    stub_fleet: Callable[..., StubFleet], postgres: Postgres, account: Account
) -> None:
    """PostgreSQL stopped for longer than leases hold, with two drivers at work: nothing is lost or begun again."""
    fleet = stub_fleet([{"seconds": "0.3", "waits": "segment"}] * 24, postgres.url)
    drivers = [fleet.start(node, "--lease-s", LEASE_S) for node in ("a", "b")]
    fleet.until(lambda: len(fleet.held("a")) == len(fleet.held("b")) == 3)
    fleet.ledger.close()
    postgres.stop("fast")
    try:
        fleet.go()
        time.sleep(LEASE_S + 1)
    finally:
        postgres.start()
    account.harmed()
    assert [driver.wait(200) for driver in drivers] == [0, 0]
    fleet.ledger = PostgresLedger(postgres.url, fleet.folder.name)
    assert fleet.check() == {AttemptClass.COMPLETED: 24}
    assert fleet.segmented().total() == 24


@pytest.mark.slow
def test_a_budget_ends_also_while_its_ledger_is_away(stub_fleet: Callable[..., StubFleet], postgres: Postgres) -> None:
    """PostgreSQL is stopped: a driver with two dollars at ten cents a second is gone after 16 s, and not after 600.

    When the database is back another driver does the rest, and what the first one cost is within its budget.
    """
    fleet = stub_fleet([{"seconds": "0.1", "waits": "segment"}] * 60, postgres.url)
    driver = fleet.start("a", "--budget", 2, "--lease-s", LEASE_S)
    # The ledger counts it up to the end of its leases: those of a start that took long would pass the budget.
    fleet.until(lambda: bool(fleet.waiting()))
    held = len(fleet.held("a"))
    children = fleet.children("a")
    fleet.ledger.close()
    postgres.stop("fast")
    try:
        assert driver.wait(200) == 0
    finally:
        postgres.start()
    assert "of 2 US$ are spent, reckoned for" in (fleet.folder / "log").read_text()
    assert not [each for each in children if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
    fleet.go()
    fleet.ledger = PostgresLedger(postgres.url, fleet.folder.name)
    assert fleet.start("b").wait(200) == 0
    assert held <= fleet.check()[AttemptClass.LOST] <= 3
    first = next(node for node in fleet.ledger.nodes() if node.node == "a")
    assert first.down is not None
    assert 0.1 * (first.down - first.up).total_seconds() < 2


def _cut(ledger: Ledger, postgres: Postgres) -> None:
    with psycopg.connect(postgres.url, autocommit=True) as sql:
        sql.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'voxfleet'")
    with pytest.raises(LedgerUnavailable):
        ledger.counts()


def _lock(ledger: Ledger, path: Path) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerUnavailable):
        ledger.heartbeat("back first", 0.3)
    other.execute("COMMIT")
    other.close()


@pytest.mark.parametrize("kind", ["postgres", "sqlite"])
def test_who_was_cut_off_takes_nobody_for_dead(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cut network, or a locked file: who comes back first leaves all others, and itself, the time of their leases.

    Who stays silent for that long is taken for dead all the same; by a driver that was not cut off, at once.
    """
    seconds = 0.0
    monkeypatch.setattr(contact, "_now", lambda: seconds)
    path = tmp_path / "ledger.sqlite"
    server: Postgres | None = request.getfixturevalue("postgres") if kind == "postgres" else None

    def opened() -> Ledger:
        return PostgresLedger(server.url, "cut off") if server else SqliteLedger(path, busy_s=0.1)

    first = opened()
    first.add(Workitem("1", f"1.{n}", "CT", 1, "dir:a", "dir:b", "m", "1", "none") for n in range(3))
    for owner in ("back first", "back later"):
        first.lease(owner, 1)
    with first._database.write(durable=False) as sql:  # type: ignore[attr-defined]
        # Their leases held for a moment, and that is over.
        sql.execute(f"UPDATE owner SET lease_s = 0.3, lease_until = lease_until - {FULL_LEASE_S}")
    seconds += contact.BREAK_S + 1
    _cut(first, server) if server else _lock(first, path)
    assert first.expire() == 0
    assert len(first.lease("back first", 1, 0.3)) == 1, "the third, and not its own"
    assert first.counts().in_progress == 3
    seconds += 0.31
    time.sleep(0.31)
    assert first.expire() == 1 + 2
    first.lease("back later", 1, 0.1)
    time.sleep(0.11)
    assert opened().expire() == 1


def _begin(ledger: Ledger) -> None:
    ledger.heartbeat("waits", 0.0)
    ledger.expire()


@pytest.mark.parametrize(
    ("ask", "midst"),
    [
        pytest.param(lambda ledger: ledger.lease("waits", 1, 0.5), False, id="lease"),
        pytest.param(lambda ledger: ledger.lease("waits", 1, 0.5), True, id="in the midst of a lease"),
        pytest.param(lambda ledger: ledger.expire(), False, id="expire"),
        pytest.param(_begin, False, id="first heartbeat"),
    ],
)
def test_who_waited_while_the_database_stood_still_takes_nobody_for_dead(
    ask: Callable[[Ledger], object], midst: bool, postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL stands still for longer than leases hold, and a driver's call with it: it ends no lease of others.

    Who stays silent afterwards for the time of its leases is taken for dead all the same.
    """
    run, reached, go_on = tmp_path.name, Event(), Event()

    def slowly(steps: Steps) -> int:
        reached.set()
        assert go_on.wait(30)
        return endings.expire(steps)

    ledger, other = PostgresLedger(postgres.url, run), PostgresLedger(postgres.url, run)
    ledger.add(Workitem("1", f"1.{n}", "CT", 1, "dir:a", "dir:b", "m", "1", "none") for n in range(3))
    if ask is not _begin:
        ledger.heartbeat("waits", 0.5)
    (lease,) = other.lease("others", 1, 0.5)
    if midst:
        monkeypatch.setattr(sql_ledger, "expire", slowly)
    with ThreadPoolExecutor(1) as threads:
        begun = [threads.submit(ask, ledger)] if midst else []
        assert not midst or reached.wait(30)
        postgres.freeze()
        go_on.set()
        try:
            (waits,) = begun or [threads.submit(ask, ledger)]
            while ledger._database.contact._answered == math.inf and not waits.done():
                # It is yet to begin.
                time.sleep(0.01)
            time.sleep(0.7)
            # Not before: on a busy machine that is a break, too.
            monkeypatch.setattr(contact, "BREAK_S", 0.3)
            assert not waits.done()
        finally:
            postgres.thaw()
        waits.result()
    assert [each.ended for each in ledger.attempts() if each.owner == "others"] == [None]
    monkeypatch.undo()
    deadline = time.monotonic() + 30
    while ledger.expire() == 0:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not other.start(lease, "n")
    ledger.close(), other.close()
