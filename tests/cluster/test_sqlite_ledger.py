"""What is SQLite's own: the file, its versions, its locks."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from threading import Event

import pytest
from voxfleet.cluster.ledger import Counts, LedgerCorrupt, LedgerUnavailable, Run
from voxfleet.cluster.ledgers.schema import VERSION
from voxfleet.cluster.ledgers.sqlite import SqliteLedger
from voxfleet.runners.workitem import Outcome, State, Workitem

RUN = Run("r", "dir:a", "dir:b", ("m 1",), {}, "0.1.0", "local", datetime(2026, 11, 21, tzinfo=UTC))


def workitem(number: int) -> Workitem:
    """The workitem of series 1.NUMBER."""
    return Workitem("1", f"1.{number}", "CT", 1, "dir:a", "dir:b", "m", "1", "none")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the ledger is."""
    return tmp_path / "ledger.sqlite"


def test_opened_again(path: Path) -> None:
    """All that was written is there for the next to open it, while the first is open and afterwards."""
    first = SqliteLedger(path)
    first.create_run(RUN)
    first.add([workitem(1)])
    assert SqliteLedger(path).run() == RUN
    first.close()
    assert SqliteLedger(path).counts() == Counts(scheduled=1)


def test_says_what_it_is(path: Path) -> None:
    """The file's header names the program (offset 68), and each migration is noted once."""
    SqliteLedger(path).close()
    SqliteLedger(path).close()
    assert path.read_bytes()[68:72] == b"Voxf"
    versions = sqlite3.connect(path).execute("SELECT version, platform_version FROM migration").fetchall()
    assert versions == [(i + 1, "0.1.0") for i in range(VERSION)]


def test_newer_version_is_refused(path: Path) -> None:
    """A ledger of a newer program is not touched."""
    SqliteLedger(path).close()
    with sqlite3.connect(path) as sql:
        sql.execute("INSERT INTO migration VALUES (999, 0, '9.9')")
    with pytest.raises(LedgerCorrupt, match="newer"):
        SqliteLedger(path)


def test_no_database(path: Path) -> None:
    """A file that is no database is refused and left as it is."""
    path.write_bytes(b"DICM" * 500)
    with pytest.raises(LedgerCorrupt, match="not a database"):
        SqliteLedger(path)
    assert path.read_bytes() == b"DICM" * 500


def test_another_programs_database(path: Path) -> None:
    """A database with other tables is refused, and gets none of ours."""
    with sqlite3.connect(path) as sql:
        sql.execute("CREATE TABLE patient (name TEXT)")
    with pytest.raises(LedgerCorrupt, match="not a ledger"):
        SqliteLedger(path)
    tables = sqlite3.connect(path).execute("SELECT name FROM sqlite_schema").fetchall()
    assert tables == [("patient",)]


def test_folder_is_not_there(tmp_path: Path) -> None:
    """A folder that is not there is said in one line, with the path."""
    with pytest.raises(LedgerUnavailable, match=r"nowhere/ledger\.sqlite: unable to open"):
        SqliteLedger(tmp_path / "nowhere" / "ledger.sqlite")


def test_damaged_file(path: Path) -> None:
    """A page overwritten in the middle is found when it is read, and named."""
    ledger = SqliteLedger(path)
    ledger.add(workitem(n) for n in range(2000))
    ledger.close()
    content = bytearray(path.read_bytes())
    content[4096 * 20 : 4096 * 60] = b"\xff" * 4096 * 40
    path.write_bytes(content)
    with pytest.raises(LedgerCorrupt, match="malformed"):
        SqliteLedger(path).items()


def test_locked_by_another(path: Path) -> None:
    """While another holds the file a call waits its time, says so, and works afterwards."""
    ledger = SqliteLedger(path, busy_s=0.05)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerUnavailable, match="locked"):
        ledger.add([workitem(1)])
    assert ledger.counts().total == 0
    other.execute("COMMIT")
    assert ledger.add([workitem(1)]) == 1


def test_opened_while_another_begins_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that another process just makes: who opens it at the same time waits, and both have the ledger."""
    other, refused = sqlite3.connect(path, isolation_level=None), Event()
    other.execute("BEGIN IMMEDIATE")
    monkeypatch.setattr("voxfleet.cluster.ledgers.sqlite_file.time.sleep", lambda _: refused.set())
    with ThreadPoolExecutor(1) as threads:
        opened = threads.submit(SqliteLedger, path)
        try:
            assert refused.wait(30)
        finally:
            other.execute("COMMIT")
        assert opened.result().counts() == Counts()
    other.close()


def test_disk_full(path: Path) -> None:
    """A full disk is said; nothing of the call is kept, all of what was before is, and it goes on with room."""
    ledger = SqliteLedger(path)
    ledger.add([workitem(0)])
    (lease,) = ledger.lease("o", 1)
    sql = ledger._database._sql
    (pages,) = sql.execute("PRAGMA page_count").fetchone()
    sql.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(LedgerUnavailable, match="full"):
        ledger.add(workitem(n) for n in range(1, 500))
    assert ledger.counts() == Counts(in_progress=1)
    sql.execute("PRAGMA max_page_count = 1000000")
    assert ledger.add(workitem(n) for n in range(1, 500)) == 499
    assert ledger.finish(lease, Outcome(lease.workitem.key, State.COMPLETED))


def test_crash_at_any_step_of_finish(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """Where finish breaks off after any number of SQLite's own steps, all of it is there or nothing."""
    crashes = 0
    while True:
        path = tmp_path / f"{crashes}.sqlite"
        ledger = SqliteLedger(path)
        ledger.add([workitem(1)])
        (lease,) = ledger.lease("o", 1)
        calls = itertools.count()
        # SQLite asks after every 7 instructions of its virtual machine whether to break off.
        ledger._database._sql.set_progress_handler(partial(_is_at, calls, crashes), 7)
        try:
            finished = ledger.finish(lease, Outcome(lease.workitem.key, State.COMPLETED))
        except LedgerUnavailable:
            finished = False
        ledger.close()
        again = SqliteLedger(path)
        assert again.counts() == (Counts(completed=1) if finished else Counts(in_progress=1))
        assert [attempt.ended is not None for attempt in again.attempts()] == [finished]
        assert sum(usage.attempts for usage in again.usage()) == int(finished)
        again.close()
        if finished:
            break
        crashes += 1
    record_property("times", crashes)
    assert crashes > 20


def _is_at(calls: itertools.count[int], step: int) -> bool:
    return next(calls) == step


def test_threads_share_it(path: Path) -> None:
    """Threads may use one ledger at the same time; each item is leased once."""
    ledger = SqliteLedger(path)
    ledger.add(workitem(n) for n in range(200))
    with ThreadPoolExecutor(8) as threads:
        leases = [lease for taken in threads.map(lambda i: ledger.lease(f"t{i}", 10), range(20)) for lease in taken]
    assert len({lease.workitem.key for lease in leases}) == len(leases) == 200


def test_small_questions_do_not_read_every_item(path: Path) -> None:
    """What is asked again and again (counts, next item, an owner's items and notices) is answered from an index."""
    ledger = SqliteLedger(path)
    ledger.add(workitem(n) for n in range(10))
    seen: list[str] = []
    ledger._database._sql.set_trace_callback(seen.append)
    ledger.lease("o", 1)
    ledger.counts()
    ledger.heartbeat("o", 0)
    ledger.expire()
    ledger._database._sql.set_trace_callback(None)
    queries = [text for text in seen if (" item " in text or "FROM event" in text) and not text.startswith("--")]
    plans = [row[3] for text in queries for row in ledger._database._sql.execute(f"EXPLAIN QUERY PLAN {text}")]
    assert plans
    scans = [plan for plan in plans if plan.startswith(("SCAN item", "SCAN event")) and "INDEX" not in plan]
    assert any("event_notice" in plan for plan in plans)
    assert scans == []
    assert not any("TEMP B-TREE" in plan for plan in plans)
