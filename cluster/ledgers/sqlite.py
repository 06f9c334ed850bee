"""The ledger in one SQLite file: the default, for one driver or a few on one machine.

Plain `sqlite3` with the SQL written out, and not SQLAlchemy: leasing and finishing are each
one statement that must be atomic (`UPDATE ... RETURNING`), there are some forty statements in
all, and PostgreSQL's differ in just those (`FOR UPDATE SKIP LOCKED`), so that a layer over
both would hide what matters.

Write-ahead log. What adds or ends work is on the disk before the call returns; leases and
heartbeats need not be: a kill loses none of them, and what a power cut takes of them only has
work done again. Not for network file systems: the log needs shared memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path

from ...runners.workitem import Outcome, Workitem
from ..ledger import (
    LEASE_S,
    Attempt,
    AttemptClass,
    Counts,
    Event,
    Item,
    Lease,
    Node,
    NoSuchRun,
    Recent,
    Refusal,
    Run,
    RunMismatch,
    Stored,
    Usage,
    attempt_class,
)
from . import sqlite_rows as rows
from . import sqlite_steps as steps
from .records import moment, size_of, stored_rows, workitem_to_json
from .sqlite_file import BUSY_S, DURABLE, NOW, QUICK, SqliteFile


class SqliteLedger:
    """A ledger in the file `path`, made if it is not there; see `Ledger` for its methods.

    Raises
    ------
    LedgerCorrupt
        If the file is no ledger, or was made by a newer version.
    LedgerUnavailable
        If it cannot be opened or written.
    """

    def __init__(self, path: Path, busy_s: float = BUSY_S) -> None:
        self._file = SqliteFile(path, busy_s)

    def create_run(self, run: Run) -> Run:
        """See Ledger."""
        with self._file.write(DURABLE) as sql:
            row = sql.execute("SELECT * FROM run").fetchone()
            if row is None:
                sql.execute("INSERT INTO run VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows.run_row(run))
                return run
        known = rows.run_of(row)
        if not known.same_work(run):
            raise RunMismatch(str(self._file.path), f"it is of other work: {known.difference(run)}")
        return known

    def run(self) -> Run:
        """See Ledger."""
        found = self._file.rows("SELECT * FROM run")
        if not found:
            raise NoSuchRun(str(self._file.path), "no run was begun in it")
        return rows.run_of(found[0])

    def set_budget(self, budget_usd: Decimal | None) -> None:
        """See Ledger."""
        with self._file.write(DURABLE) as sql:
            sql.execute("UPDATE run SET budget_usd = ?", (None if budget_usd is None else str(budget_usd),))

    def add(self, workitems: Iterable[Workitem]) -> int:
        """See Ledger."""
        new = ((w.key, w.model, workitem_to_json(w), size_of(w)) for w in workitems)
        with self._file.write(DURABLE) as sql:
            before = sql.total_changes
            sql.executemany(
                "INSERT INTO item (key, model, workitem, bytes) VALUES (?, ?, ?, ?) ON CONFLICT (key) DO NOTHING", new
            )
            return sql.total_changes - before

    def refuse(self, identifier: str, code: str, reason: str) -> bool:
        """See Ledger."""
        with self._file.write(QUICK) as sql:
            done = sql.execute(
                "INSERT INTO refusal VALUES (?, ?, ?) ON CONFLICT DO NOTHING", (identifier, code, reason)
            )
            return done.rowcount > 0

    def lease(self, owner: str, limit: int, ttl_s: float = LEASE_S) -> tuple[Lease, ...]:
        """See Ledger."""
        with self._file.write(QUICK) as sql:
            steps.expire(sql)
            steps.hold(sql, owner, ttl_s)
            return steps.take(sql, owner, limit)

    def heartbeat(self, owner: str, ttl_s: float = LEASE_S) -> None:
        """See Ledger."""
        with self._file.write(QUICK) as sql:
            steps.hold(sql, owner, ttl_s)

    def start(self, lease: Lease, node: str) -> bool:
        """See Ledger."""
        with self._file.write(QUICK) as sql:
            if not steps.holds(sql, lease):
                return False
            sql.execute(
                f"UPDATE attempt SET node = ?, started = {NOW} WHERE key = ? AND fence = ?",  # noqa: S608
                (node, lease.workitem.key, lease.fence),
            )
            return True

    def finish(self, lease: Lease, outcome: Outcome, node: str = "") -> bool:
        """See Ledger."""
        key = lease.workitem.key
        if outcome.key != key:
            raise self._file.error(f"outcome of {outcome.key} for a lease of {key}")
        kind = attempt_class(outcome)
        with self._file.write(DURABLE) as sql:
            if not steps.holds(sql, lease):
                return False
            steps.end_attempt(sql, (key, lease.fence), kind, outcome.failure, node or outcome.node, outcome.consumption)
            steps.settle(sql, key, kind, outcome.failure)
            if kind is AttemptClass.COMPLETED:
                sql.execute(
                    "UPDATE item SET repairs = ?, failed_features = ? WHERE key = ?",
                    (json.dumps(outcome.repairs), json.dumps(outcome.failed_features), key),
                )
                sql.executemany(
                    "INSERT INTO stored VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", stored_rows(key, outcome.stored)
                )
            return True

    def lose(self, leases: Sequence[Lease], reason: str, node: str = "") -> int:
        """See Ledger."""
        with self._file.write(DURABLE) as sql:
            held = [lease for lease in leases if steps.holds(sql, lease)]
            for lease in held:
                steps.lose(sql, lease.workitem.key, lease.fence, reason, node)
            return len(held)

    def give_back(self, leases: Sequence[Lease]) -> int:
        """See Ledger."""
        with self._file.write(DURABLE) as sql:
            held = [lease for lease in leases if steps.holds(sql, lease)]
            for lease in held:
                steps.give_back(sql, lease.workitem.key, lease.fence)
            return len(held)

    def release(self, owner: str, reason: str) -> int:
        """See Ledger."""
        with self._file.write(DURABLE) as sql:
            held = steps.held_by(sql, owner)
            for row in held:
                steps.give_back(sql, row["key"], row["fence"])
            sql.execute("DELETE FROM owner WHERE owner = ?", (owner,))
            if held:
                steps.note(sql, "info", "released", f"{len(held)} workitems of {owner}: {reason}")
            return len(held)

    def expire(self) -> int:
        """See Ledger."""
        if not self._file.rows(f"SELECT 1 FROM owner WHERE lease_until <= {NOW} LIMIT 1"):  # noqa: S608
            return 0
        with self._file.write(DURABLE) as sql:
            return steps.expire(sql)

    def retry_failed(self) -> int:
        """See Ledger."""
        with self._file.write(DURABLE) as sql:
            done = sql.execute(
                """UPDATE item SET state = 'SCHEDULED', fails = 0, losses = 0, failure = NULL
                WHERE state = 'CANCELED' AND NOT refused"""
            )
            return done.rowcount

    def event(self, level: str, kind: str, detail: str) -> None:
        """See Ledger."""
        with self._file.write(QUICK) as sql:
            steps.note(sql, level, kind, detail)

    def node_up(self, node: str, machine: str) -> None:
        """See Ledger."""
        with self._file.write(DURABLE) as sql:
            sql.execute(
                f"UPDATE node SET down = {rows.LAST_SEEN} WHERE node = ? AND down IS NULL",  # noqa: S608
                (node,),
            )
            sql.execute(f"INSERT INTO node (node, machine, up) VALUES (?, ?, {NOW})", (node, machine))  # noqa: S608

    def node_down(self, node: str) -> None:
        """See Ledger."""
        with self._file.write(DURABLE) as sql:
            sql.execute(f"UPDATE node SET down = {NOW} WHERE node = ? AND down IS NULL", (node,))  # noqa: S608

    def nodes(self) -> tuple[Node, ...]:
        """See Ledger."""
        return rows.nodes(self._file)

    def usage(self) -> tuple[Usage, ...]:
        """See Ledger."""
        return rows.usage(self._file)

    def recent(self, window_s: float) -> Recent:
        """See Ledger."""
        return rows.recent(self._file, window_s)

    def counts(self) -> Counts:
        """See Ledger."""
        return rows.counts(self._file)

    def attempts(self) -> tuple[Attempt, ...]:
        """See Ledger."""
        return rows.attempts(self._file)

    def items(self) -> tuple[Item, ...]:
        """See Ledger."""
        return rows.items(self._file.rows("SELECT * FROM item ORDER BY seq"))

    def stored(self) -> tuple[Stored, ...]:
        """See Ledger."""
        return rows.stored(
            self._file.rows("SELECT stored.* FROM stored JOIN item USING (key) ORDER BY item.seq, stored.position")
        )

    def refusals(self) -> tuple[Refusal, ...]:
        """See Ledger."""
        found = self._file.rows("SELECT identifier, code, reason FROM refusal ORDER BY identifier")
        return tuple(Refusal(*row) for row in found)

    def events(self) -> tuple[Event, ...]:
        """See Ledger."""
        return rows.events(self._file.rows("SELECT * FROM event ORDER BY id"))

    def now(self) -> datetime:
        """See Ledger."""
        (row,) = self._file.rows(f"SELECT {NOW} AS now")
        return moment(row["now"])

    def close(self) -> None:
        """See Ledger."""
        self._file.close()
