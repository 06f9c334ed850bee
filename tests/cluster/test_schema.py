"""Ledgers of older versions go on in the newest, in every database."""

from __future__ import annotations

import hashlib
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from voxfleet.cluster.ledger import Counts, Ledger, Lived, Publication, Run
from voxfleet.cluster.ledgers import postgres_database, schema, sqlite_file
from voxfleet.cluster.ledgers.migrating import LedgerInUse
from voxfleet.cluster.ledgers.postgres import PostgresLedger
from voxfleet.cluster.ledgers.records import workitem_to_json
from voxfleet.cluster.ledgers.sqlite import SqliteLedger
from voxfleet.cluster.prices.price import price_of
from voxfleet.runners.workitem import Outcome, State, Workitem

if TYPE_CHECKING:
    from conftest import Postgres

RUN = Run("r", "dir:a", "dir:b", ("m 1",), {}, "0.1.0", "local", datetime(2026, 11, 21, tzinfo=UTC))
NOW = RUN.created.timestamp()
WORK = [Workitem("1", f"1.{number}", "CT", 1, "dir:a", "dir:b", "m", "1", "none") for number in range(4)]
SEG = "1.2.840.10008.5.1.4.1.1.66.4"

RELEASED = {
    1: "8ef208af9784",
    2: "ab889d697425",
    3: "7fe92060d8b2",
    4: "963b7c49ebb2",
    5: "0ad01ab7775d",
    6: "02d44afd532a",
    7: "3dda48e07bd7",
    8: "fa8b3ccc6a9f",
    9: "41d52531be5d",
}
"""Digests of the steps that ledgers out there were made with."""


def rows_of_the_first_version() -> Iterable[str]:
    """Rows in every table of version 1: one workitem done, one refused, one at work, one to do."""
    yield f"""INSERT INTO run
        VALUES (1, 'r', 'dir:a', 'dir:b', '["m 1"]', '{{}}', '0.1.0', 'local', '', '', '9', {NOW})"""
    states = ("COMPLETED", "CANCELED", "IN PROGRESS", "SCHEDULED")
    for work, state in zip(WORK, states, strict=True):
        refused, owner = state == "CANCELED", "'old'" if state == "IN PROGRESS" else "NULL"
        failure = '\'{"stage": "read", "code": "GANTRY_TILT", "message": "tilted"}\'' if refused else "NULL"
        yield f"""INSERT INTO item (key, model, workitem, bytes, state, refused, owner, fence, failure)
            VALUES ('{work.key}', 'm', '{workitem_to_json(work)}', 7, '{state}', {refused}, {owner}, 1, {failure})"""
    for work, outcome in zip(WORK, ("'completed'", "'refused'", "NULL"), strict=False):
        ended = "NULL" if outcome == "NULL" else NOW + 9
        yield f"""INSERT INTO attempt (key, model, fence, owner, node, started, ended, outcome)
            VALUES ('{work.key}', 'm', 1, 'old', 'n', {NOW}, {ended}, {outcome})"""
    yield f"INSERT INTO consumption SELECT id, 0, 'read', {NOW}, 9, 8, 0, 7, 6, 5 FROM attempt WHERE ended IS NOT NULL"
    yield "INSERT INTO usage VALUES ('m', 'completed', 1, 9, 8, 0, 6, 5), ('m', 'refused', 1, 9, 8, 0, 6, 5)"
    yield "INSERT INTO owner VALUES ('old', 1)"
    yield f"INSERT INTO stored VALUES ('{WORK[0].key}', 0, '{SEG}', '2.25.1', '2.25.2', 'dir:b', '00', 7, FALSE)"
    yield f"INSERT INTO node (node, machine, up, down) VALUES ('n', 'local', {NOW}, {NOW + 9})"
    yield f"INSERT INTO node (node, machine, up) VALUES ('m', 'local', {NOW})"
    yield "INSERT INTO refusal VALUES ('a.txt', 'NOT_DICOM', 'no')"
    yield f"INSERT INTO event (at, level, kind, detail) VALUES ({NOW}, 'warning', 'notice', 'old')"


def make_old(execute: Callable[[Any], object], types: dict[str, str], version: int) -> None:
    """A ledger as version 1 made it, brought to a later one by that."""
    execute(schema.migration_table(types))
    for number, statements in schema.steps_from(0, types)[:version]:
        for statement in (*statements, *(rows_of_the_first_version() if number == 1 else ())):
            execute(statement)
        execute(f"INSERT INTO migration VALUES ({number}, {NOW}, '0.0.9')")


class Old:
    """Ledgers that versions before this one made and worked on, in one of the databases."""

    def __init__(self, server: Postgres | None, folder: Path) -> None:
        self.server, self.folder = server, folder

    def make(self, version: int) -> str:
        """Make one; its name."""
        name = f"of_{version}_in_{self.folder.name}"[-40:]
        with self.connect(name) as sql:
            sql.execute(f"CREATE SCHEMA {name}" if self.server else f"PRAGMA application_id = {0x566F7866}")
            make_old(sql.execute, postgres_database._TYPES if self.server else sqlite_file._TYPES, version)
        return name

    @contextmanager
    def connect(self, name: str) -> Iterator[Any]:
        """An older driver's connection, in a transaction that ends with the block."""
        sql: Any = psycopg.connect(self.server.url) if self.server else sqlite3.connect(self.folder / name)
        try:
            begin = (f"SET search_path TO {name}",) if self.server else ("PRAGMA journal_mode = WAL", "BEGIN IMMEDIATE")
            for statement in begin:
                sql.execute(statement)
            yield sql
            sql.commit()
        finally:
            sql.close()

    def execute(self, name: str, *statements: str) -> list[Any]:
        """What an older driver does; the rows of the last."""
        with self.connect(name) as sql:
            cursors = [sql.execute(statement) for statement in statements]
            return list(cursors[-1]) if cursors[-1].description else []

    def open(self, name: str) -> Ledger:
        """As this version does."""
        return PostgresLedger(self.server.url, name) if self.server else SqliteLedger(self.folder / name)


@pytest.fixture(params=["postgres", "sqlite"])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Old:
    """Makes ledgers of older versions in one database."""
    return Old(request.getfixturevalue("postgres") if request.param == "postgres" else None, tmp_path)


def test_a_run_begun_by_the_first_version_goes_on(old: Old) -> None:
    """With rows in every table: nothing of it is lost, and what was at work and to do is done."""
    name = old.make(1)
    ledger = old.open(name)
    assert ledger.counts() == Counts(scheduled=1, in_progress=1, completed=1, refused=1, never_workitems=1)
    assert ledger.run().same_work(RUN)
    assert ledger.run().price is None, "versions before 4 knew none"
    price = price_of("g4dn.xlarge", "us-east-1", "on-demand")
    ledger.set_price(price)
    assert ledger.run().price == price
    assert [item.workitem for item in ledger.items()] == WORK
    assert [(each.wall_s, each.peak_bytes) for attempt in ledger.attempts() for each in attempt.consumption] == [
        (9, 7)
    ] * 2
    assert [(node.node, node.cell, node.price, node.down is None) for node in ledger.nodes()] == [
        ("n", "", None, False),
        ("m", "", None, True),
    ]
    assert ledger.lived() == (Lived(None, 2, 1, 9.0),), "one lived for 9 s, and nothing was seen of the other"
    assert sum(usage.attempts for usage in ledger.usage()) == 2
    assert ledger.publication() == Publication(waiting=1)
    assert [event.kind for event in ledger.events()] == ["notice"]
    assert [refusal.code for refusal in ledger.refusals()] == ["NOT_DICOM"]
    ledger.heartbeat("old", 0)
    assert ledger.expire() == 1
    assert [attempt.preempted for attempt in ledger.attempts()] == [False, False, True], "its notice is still known"
    leases = ledger.lease("new", 5)
    outcomes = [(each, Outcome(each.workitem.key, State.COMPLETED), "n") for each in leases]
    assert ledger.finish_all(outcomes) == (True, True)
    assert ledger.counts() == Counts(completed=3, refused=1, never_workitems=1)
    ledger.close()
    assert old.open(name).counts().completed == 3


BEAT = "UPDATE owner SET lease_until = {} + 600 WHERE owner = 'old'"


def test_tables_are_not_changed_under_drivers_of_an_older_version(old: Old) -> None:
    """Of any version: refused while a lease holds, with who is at work and until when; opened once it has ended."""
    beat = BEAT.format(postgres_database.DIALECT.now if old.server else sqlite_file.DIALECT.now)
    # On PostgreSQL each takes a second: the first, and the two kinds of an owner's row.
    for version in (1, 7, 8) if old.server else range(1, schema.VERSION):
        name = old.make(version)
        old.execute(name, beat)
        until = old.execute(name, "SELECT lease_until FROM owner")[0][0]
        told = f"of version {version}, .*old until {datetime.fromtimestamp(until, UTC):%Y-%m-%d %H:%M:%S} UTC; end them"
        with pytest.raises(LedgerInUse, match=told):
            old.open(name)
        assert old.execute(name, "SELECT max(version) FROM migration")[0][0] == version
        old.execute(name, "UPDATE owner SET lease_until = 1")
        ledger = old.open(name)
        ledger.heartbeat("new", 60)
        ledger.close()
        old.open(name).close()


def test_a_driver_of_an_older_version_that_is_just_heard_is_waited_for(old: Old) -> None:
    """Its heartbeat is in a transaction that has not ended when the ledger is opened: refused all the same."""
    name = old.make(1)
    beat = BEAT.format(postgres_database.DIALECT.now if old.server else sqlite_file.DIALECT.now)
    with ThreadPoolExecutor(1) as threads:
        with old.connect(name) as sql:
            sql.execute(beat)
            opening = threads.submit(old.open, name)
            time.sleep(0.2)
            assert not opening.done()
        assert isinstance(opening.exception(), LedgerInUse)


def test_drivers_that_could_not_be_heard_are_not_taken_for_gone(postgres: Postgres) -> None:
    """PostgreSQL began less than the time of a lease ago: whoever held one before may be at work all the same."""
    old = Old(postgres, Path("just_begun"))
    name = old.make(8)
    old.execute(name, "UPDATE owner SET lease_s = 1e6")
    with pytest.raises(LedgerInUse, match="old until"):
        old.open(name)


def test_commands_that_only_look_say_the_same(tmp_path: Path) -> None:
    """Of many drivers three are named; in one line, with exit code 1; the ledger stays as it is."""
    old = Old(None, tmp_path)
    (tmp_path / old.make(3)).rename(tmp_path / "ledger.sqlite")
    beats = (f"INSERT INTO owner VALUES ('cell-{n}', {sqlite_file.DIALECT.now} + {600 + n})" for n in range(5))
    old.execute("ledger.sqlite", *beats)
    for command in ("status", "cost"):
        words = [sys.executable, "-m", "voxfleet", command, str(tmp_path)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
        assert re.search(r"error LEDGER_IN_USE: .*version 3, .*cell-4 until .*cell-2 until .* and 2 more;", done.stderr)
    assert old.execute("ledger.sqlite", "SELECT max(version) FROM migration")[0][0] == 3


def test_released_steps_are_never_changed() -> None:
    """A ledger that was made by a step has what that step said then: what is to change is another step."""
    digests = {
        number: hashlib.sha256("\n".join(statements).encode()).hexdigest()
        for number, statements in enumerate(schema._MIGRATIONS, start=1)
    }
    assert {number: digests[number][:12] for number in RELEASED} == RELEASED
