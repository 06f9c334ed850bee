"""What is PostgreSQL's own: its URL, its server, its schemas."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from voxfleet.cluster.budgets.governor import BudgetSpent
from voxfleet.cluster.ledger import Counts, LedgerCorrupt, LedgerError, LedgerUnavailable, Run
from voxfleet.cluster.ledgers import postgres_database
from voxfleet.cluster.ledgers.opening import NoDriver, keep_in, open_ledger
from voxfleet.cluster.ledgers.patience import Patience, patient
from voxfleet.cluster.ledgers.postgres import PostgresLedger
from voxfleet.cluster.ledgers.sqlite import SqliteLedger
from voxfleet.cluster.ledgers.steps import Steps
from voxfleet.cluster.run_folder import RunFolder
from voxfleet.runners.node_memory import NodeMemory
from voxfleet.runners.workitem import Outcome, State, Workitem

if TYPE_CHECKING:
    from conftest import Postgres

RUN = Run("r", "dir:a", "dir:b", ("m 1",), {}, "0.1.0", "local", datetime(2026, 11, 21, tzinfo=UTC))


def workitem(number: int) -> Workitem:
    """The workitem of series 1.NUMBER."""
    return Workitem("1", f"1.{number}", "CT", 1, "dir:a", "dir:b", "m", "1", "none")


def test_runs_share_a_database(postgres: Postgres) -> None:
    """Two runs in one database see nothing of each other, whatever they are called."""
    first, second = PostgresLedger(postgres.url, "NLST 1; drop"), PostgresLedger(postgres.url, "nlst 2")
    first.create_run(RUN)
    first.add([workitem(1), workitem(2)])
    assert second.counts() == Counts()
    assert PostgresLedger(postgres.url, "NLST 1; drop").counts() == Counts(scheduled=2)


def test_what_is_next_comes_from_an_index(postgres: Postgres) -> None:
    """Of all models and of some: PostgreSQL sorts none of those that wait, and passes over none of other models."""
    ledger = PostgresLedger(postgres.url, "planned")
    ledger.create_run(replace(RUN, models=("m 1", "n 1")))
    ledger.add(replace(workitem(number), model=model) for number in range(1000) for model in ("m", "n"))
    for models, index in (((), "item_ready"), (("n",), "item_ready_of_model"), (("m", "n"), "item_ready_of_model")):
        with ledger._database.write(durable=False) as sql:
            sql.execute("ANALYZE item")
            query, parameters = Steps(sql, ledger._database.dialect)._next(4, NodeMemory(2**34), models)
            plan = [row["QUERY PLAN"] for row in sql.execute(f"EXPLAIN {query}", parameters).fetchall()]
        scans = [line for line in plan if "Scan" in line and " on item" in line]
        assert len(scans) == max(1, len(models))
        assert all(f"Index Scan using {index} on item" in line for line in scans), plan
    ledger.close()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql://me:secret@db/voxfleet", "holds a password"),
        ("host=db password=secret", "holds a password"),
        ("postgresql://db/voxfleet?nonsense=1", "not a PostgreSQL URL"),
        ("sqlite:///ledger.sqlite", "not a PostgreSQL URL"),
    ],
)
def test_url_that_is_none_or_holds_a_secret(url: str, reason: str) -> None:
    """Refused before anything is connected to, and the secret is not repeated."""
    with pytest.raises(LedgerError, match=reason) as caught:
        PostgresLedger(url, "r")
    assert "secret" not in str(caught.value)


def test_name_too_long() -> None:
    """PostgreSQL would cut the name off: two long names could be one."""
    with pytest.raises(LedgerError, match="63 bytes"):
        PostgresLedger("postgresql://db/voxfleet", "r" * 64)


def test_server_is_not_there(tmp_path: Path) -> None:
    """In one line, with what was asked for; the same call may succeed later."""
    with pytest.raises(LedgerUnavailable, match=rf"{tmp_path}.*No such file") as caught:
        PostgresLedger(f"postgresql:///voxfleet?host={tmp_path}", "r")
    assert "\n" not in str(caught.value)


def test_a_connection_that_knows_not_its_schema_is_not_kept(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server cancels the first statement of a new connection: unavailable, and then everything is there again."""
    ledger = PostgresLedger(postgres.url, "half connected")
    ledger.create_run(RUN)
    ledger.close()
    with monkeypatch.context() as patched:

        def canceled(*_: object) -> None:
            raise psycopg.errors.QueryCanceled("canceling statement due to statement timeout")

        patched.setattr(psycopg.Connection, "execute", canceled)
        with pytest.raises(LedgerUnavailable):
            ledger.counts()
    assert ledger.run().name == "r"


def test_newer_version_is_refused(postgres: Postgres) -> None:
    """A ledger of a newer program is not touched."""
    PostgresLedger(postgres.url, "newer").close()
    with psycopg.connect(postgres.url) as sql:
        sql.execute("INSERT INTO newer.migration VALUES (999, 0, '9.9')")
    with pytest.raises(LedgerCorrupt, match="newer"):
        PostgresLedger(postgres.url, "newer")


def test_folder_knows_its_ledger(postgres: Postgres, tmp_path: Path) -> None:
    """A run begun with --ledger is found by its folder; a run with a ledger elsewhere is not taken over."""
    shared, own = RunFolder(f"{tmp_path}/shared"), RunFolder(f"{tmp_path}/own")
    keep_in(shared, postgres.url)
    open_ledger(shared).create_run(RUN)
    assert open_ledger(shared.must_exist()).run() == RUN
    with pytest.raises(LedgerError, match="another database"):
        keep_in(shared, f"{postgres.url}&application_name=x")
    own.path.mkdir()
    SqliteLedger(own.ledger).close()
    with pytest.raises(LedgerError, match="begin a new run"):
        keep_in(own, postgres.url)


def test_psycopg_is_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The error names the extra to install."""
    monkeypatch.setitem(sys.modules, "voxfleet.cluster.ledgers.postgres", None)
    with pytest.raises(NoDriver, match=r"pip install 'voxfleet\[postgres\]'"):
        keep_in(RunFolder(f"{tmp_path}/r"), "postgresql://db/voxfleet")


class _Flaky:
    """A ledger that does not answer the first calls."""

    def __init__(self, failures: int) -> None:
        self.failures = failures

    def counts(self) -> Counts:
        """Fail, or answer."""
        self.failures -= 1
        if self.failures >= 0:
            raise LedgerUnavailable("db", "the database system is starting up")
        return Counts(scheduled=7)


@pytest.mark.parametrize(("failures", "wait_s"), [(0, 0.0), (3, 20.0)])
def test_patience(failures: int, wait_s: float) -> None:
    """A ledger that comes back in time is waited for."""
    assert patient(_Flaky(failures), Patience(wait_s)).counts() == Counts(scheduled=7)


def test_patience_ends() -> None:
    """One that does not is said to be unavailable; what is asked of it next waits no more, until it has answered."""
    flaky = _Flaky(10**9)
    ledger = patient(flaky, Patience(0.3))
    with pytest.raises(LedgerUnavailable, match="starting up"):
        ledger.counts()
    flaky.failures = 1
    with pytest.raises(LedgerUnavailable):
        ledger.counts()
    assert ledger.counts() == Counts(scheduled=7)
    flaky.failures = 1
    assert ledger.counts() == Counts(scheduled=7)


def test_patience_ends_with_the_money() -> None:
    """Who minds is asked before each wait, and what is raised then ends the waiting."""

    def mind() -> None:
        raise BudgetSpent(Decimal(2), Decimal(2))

    with pytest.raises(BudgetSpent):
        patient(_Flaky(1), Patience(minds=mind)).counts()


def _drive_madly(url: str, number: int) -> None:
    """Lease, end, give back and take others for dead, as fast as it goes; whoever is in the way is waited for."""
    chance, owner = random.Random(number), f"driver-{number}"
    ledger, leases, end = PostgresLedger(url, "ring"), [], time.monotonic() + 2.5
    while time.monotonic() < end:
        leases = [*leases, *ledger.lease(owner, 6, chance.choice([0.0, 0.01]))][-30:]
        told = [(each, Outcome(each.workitem.key, State.COMPLETED), "n") for each in chance.sample(leases, 3)]
        ledger.node_up("n", "toy", owner)
        ledger.lose(chance.sample(leases, 3), "as asked")
        chance.choice([partial(ledger.finish_all, told), partial(ledger.release, owner, "left"), ledger.expire])()
        ledger.heartbeat(owner, 0.0)
    ledger.close()


def test_drivers_never_wait_for_each_other_in_a_ring(postgres: Postgres) -> None:
    """Eight drivers that end attempts, stop, and take each other for dead all at once: there is no deadlock."""
    ledger = PostgresLedger(postgres.url, "ring")
    ledger.add(replace(workitem(number), model=f"m{number % 3}") for number in range(5000))
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(partial(_drive_madly, postgres.url), range(8)))
    assert ledger.counts().total == 5000


FROZEN = """
import os, signal, sys
from voxfleet.cluster.ledgers import endings
from voxfleet.cluster.ledgers.patience import patient
from voxfleet.cluster.ledgers.postgres import PostgresLedger
from voxfleet.cluster.ledgers.steps import Steps
from voxfleet.runners.workitem import Outcome, State

def then_stand_still(step):
    def steps(*words):
        step(*words)
        os.kill(os.getpid(), signal.SIGSTOP)
    return steps

ledger = patient(PostgresLedger(sys.argv[1], f"frozen in {sys.argv[2]}"))
(lease,) = ledger.lease("frozen", 1, 60 if sys.argv[2] == "sums" else 0.1)
if sys.argv[2] == "hold":
    Steps.hold = then_stand_still(Steps.hold)
    ledger.heartbeat("frozen", 0.1)
endings._add_usage = then_stand_still(endings._add_usage)
print(ledger.finish(lease, Outcome(lease.workitem.key, State.COMPLETED)))
"""


@pytest.mark.parametrize("step", ["sums", "hold"])
def test_a_driver_that_stands_still_in_the_midst_of_a_transaction_keeps_no_locks(
    step: str, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits for what it locked, or looks after silent drivers, ends its transaction; what it held goes to others.

    Back again, it goes on by itself: fenced, or with what it still holds.
    """
    monkeypatch.setattr(postgres_database, "STILL_S", 0.3)
    url = f"{postgres.url}&options=-c%20lock_timeout%3D500ms"
    ledger = PostgresLedger(url, f"frozen in {step}")
    ledger.add([workitem(1), workitem(2)])
    frozen = subprocess.Popen([sys.executable, "-c", FROZEN, url, step], stdout=subprocess.PIPE, text=True)
    try:
        assert os.WIFSTOPPED(os.waitpid(frozen.pid, os.WUNTRACED)[1])
        (lease,) = ledger.lease("other", 1)
        if step == "sums":
            others = patient(ledger, Patience(30))
            assert others.finish(lease, Outcome(lease.workitem.key, State.COMPLETED)), "waits for the same sums"
        deadline = time.monotonic() + 30
        while step == "hold" and not ledger.expire():
            assert time.monotonic() < deadline
        frozen.send_signal(signal.SIGCONT)
        while os.WIFSTOPPED(status := os.waitpid(frozen.pid, os.WUNTRACED)[1]):
            frozen.send_signal(signal.SIGCONT)
        assert status == 0
        assert frozen.stdout is not None
        assert frozen.stdout.read() == ("True\n" if step == "sums" else "False\n")
    finally:
        frozen.kill()
    ledger.close()
