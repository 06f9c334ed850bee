"""Ledgers of older versions go on in the newest, in every database."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from voxfleet.cluster.ledger import Counts, Ledger, Lived, Publication, Run
from voxfleet.cluster.ledgers import postgres_database, schema, sqlite_file
from voxfleet.cluster.ledgers.postgres import PostgresLedger
from voxfleet.cluster.ledgers.records import workitem_to_json
from voxfleet.cluster.ledgers.sqlite import SqliteLedger
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
    yield f"INSERT INTO owner VALUES ('old', {NOW + 1e9})"
    yield f"INSERT INTO stored VALUES ('{WORK[0].key}', 0, '{SEG}', '2.25.1', '2.25.2', 'dir:b', '00', 7, FALSE)"
    yield f"INSERT INTO node (node, machine, up, down) VALUES ('n', 'local', {NOW}, {NOW + 9})"
    yield f"INSERT INTO node (node, machine, up) VALUES ('m', 'local', {NOW})"
    yield "INSERT INTO refusal VALUES ('a.txt', 'NOT_DICOM', 'no')"
    yield f"INSERT INTO event (at, level, kind, detail) VALUES ({NOW}, 'warning', 'notice', 'old')"


def make_old(execute: Callable[[Any], object], types: dict[str, str]) -> None:
    """A ledger as version 1 made it."""
    execute(schema.migration_table(types))
    _, statements = schema.steps_from(0, types)[0]
    for statement in (*statements, *rows_of_the_first_version()):
        execute(statement)
    execute(f"INSERT INTO migration VALUES (1, {NOW}, '0.0.9')")


@pytest.fixture(params=["postgres", "sqlite"])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Ledger]:
    """Opens a ledger that version 1 made and worked on."""
    if request.param == "sqlite":
        path = tmp_path / "ledger.sqlite"
        with sqlite3.connect(path) as lite:
            lite.execute(f"PRAGMA application_id = {sqlite_file.APPLICATION_ID}")
            make_old(lite.execute, sqlite_file._TYPES)
        return lambda: SqliteLedger(path)
    server: Postgres = request.getfixturevalue("postgres")
    with psycopg.connect(server.url) as sql:
        sql.execute("CREATE SCHEMA begun_long_ago")
        sql.execute("SET search_path TO begun_long_ago")
        make_old(sql.execute, postgres_database._TYPES)
    return lambda: PostgresLedger(server.url, "begun_long_ago")


def test_a_run_begun_by_the_first_version_goes_on(old: Callable[[], Ledger]) -> None:
    """With rows in every table: nothing of it is lost, and what was at work and to do is done."""
    ledger = old()
    assert ledger.counts() == Counts(scheduled=1, in_progress=1, completed=1, refused=1, never_workitems=1)
    assert ledger.run().same_work(RUN)
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
    assert old().counts().completed == 3


def test_released_steps_are_never_changed() -> None:
    """A ledger that was made by a step has what that step said then: what is to change is another step."""
    digests = {
        number: hashlib.sha256("\n".join(statements).encode()).hexdigest()
        for number, statements in enumerate(schema._MIGRATIONS, start=1)
    }
    assert {number: digests[number][:12] for number in RELEASED} == RELEASED
