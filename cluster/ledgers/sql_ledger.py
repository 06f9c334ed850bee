"""A ledger in a SQL database, whichever it is.

Plain drivers with the SQL written out, and not SQLAlchemy: leasing and finishing are each a few
statements that must be atomic and fast, there are some forty in all, and the databases differ in
six words of them (`Dialect`), so that a layer over both would hide what matters.

What adds or ends work is on the disk before the call returns; leases and heartbeats need not be:
a kill loses none of them, and what a power cut takes of them only has work done again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal

from ...enrich.archives.archive import StoredObject
from ...runners.node_memory import UNKNOWN_MEMORY, NodeMemory
from ...runners.workitem import Outcome, Workitem
from ..attempt import LOST
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
    Publication,
    Recent,
    Refusal,
    Run,
    RunMismatch,
    Staged,
    Stored,
    Trouble,
    Usage,
    attempt_class,
)
from ..rates import Price
from ..run_record import NOTICE
from . import outgrown, rows
from .database import Database
from .outgrown import FITS, fitting
from .records import moment, price_to_json, size_of, workitem_from_json, workitem_to_json
from .steps import Steps


class SqlLedger:
    """A ledger in the tables of `database`; see `Ledger` for its methods."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._now = database.dialect.now

    @contextmanager
    def _write(self, *, durable: bool) -> Iterator[Steps]:
        with self._database.write(durable=durable) as sql:
            yield Steps(sql, self._database.dialect)

    def create_run(self, run: Run) -> Run:
        """See Ledger."""
        with self._write(durable=True) as steps:
            new = steps.sql.execute(
                "INSERT INTO run VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
                rows.run_row(run),
            )
            if new.rowcount:
                return run
        known = self.run()
        if not known.same_work(run):
            raise RunMismatch(self._database.name, f"it is of other work: {known.difference(run)}")
        return known

    def run(self) -> Run:
        """See Ledger."""
        found = self._database.rows("SELECT * FROM run")
        if not found:
            raise NoSuchRun(self._database.name, "no run was begun in it")
        return rows.run_of(found[0])

    def set_budget(self, budget_usd: Decimal | None) -> None:
        """See Ledger."""
        with self._write(durable=True) as steps:
            steps.sql.execute("UPDATE run SET budget_usd = ?", (None if budget_usd is None else str(budget_usd),))

    def set_price(self, price: Price) -> None:
        """See Ledger."""
        with self._write(durable=True) as steps:
            steps.sql.execute(
                "UPDATE run SET price = ?, machine = ?, region = ?, market = ?",
                (price_to_json(price), price.machine, price.region, price.market),
            )

    def add(self, workitems: Iterable[Workitem]) -> int:
        """See Ledger."""
        new = ((w.key, w.model, workitem_to_json(w), size_of(w)) for w in workitems)
        return self._database.add_items(new)

    def refuse(self, identifier: str, code: str, reason: str) -> bool:
        """See Ledger."""
        with self._write(durable=False) as steps:
            done = steps.sql.execute(
                "INSERT INTO refusal VALUES (?, ?, ?) ON CONFLICT DO NOTHING", (identifier, code, reason)
            )
            return done.rowcount > 0

    def lease(
        self, owner: str, limit: int, ttl_s: float = LEASE_S, memory: NodeMemory = UNKNOWN_MEMORY
    ) -> tuple[Lease, ...]:
        """See Ledger."""
        with self._write(durable=False) as steps:
            steps.expire()
            steps.hold(owner, ttl_s)
            leases = steps.take(owner, limit, memory)
            if not leases:
                outgrown.note_idle(steps, owner, memory, ttl_s)
                outgrown.give_up(steps)
            return leases

    def heartbeat(self, owner: str, ttl_s: float = LEASE_S) -> None:
        """See Ledger."""
        with self._write(durable=False) as steps:
            steps.hold(owner, ttl_s)

    def start(self, lease: Lease, node: str) -> bool:
        """See Ledger."""
        with self._write(durable=False) as steps:
            if not steps.holds(lease):
                return False
            steps.sql.execute(
                f"UPDATE attempt SET node = ?, started = {self._now} WHERE key = ? AND fence = ?",  # noqa: S608
                (node, lease.workitem.key, lease.fence),
            )
            return True

    def finish(self, lease: Lease, outcome: Outcome, node: str = "") -> bool:
        """See Ledger."""
        key = lease.workitem.key
        if outcome.key != key:
            raise self._database.error(f"outcome of {outcome.key} for a lease of {key}")
        kind = attempt_class(outcome)
        with self._write(durable=True) as steps:
            if not steps.holds(lease):
                return False
            steps.end_attempt((key, lease.fence), kind, outcome.failure, node or outcome.node, outcome.consumption)
            steps.settle(key, kind, outcome.failure)
            if kind is AttemptClass.COMPLETED:
                steps.sql.execute(
                    "UPDATE item SET repairs = ?, failed_features = ? WHERE key = ?",
                    (json.dumps(outcome.repairs), json.dumps(outcome.failed_features), key),
                )
                steps.keep(key, outcome.stored)
            return True

    def lose(self, leases: Sequence[Lease], reason: str, node: str = "", code: str = LOST) -> int:
        """See Ledger."""
        with self._write(durable=True) as steps:
            held = steps.held(leases)
            for lease in held:
                steps.lose(lease.workitem.key, lease.fence, reason, node, code)
            return len(held)

    def give_back(self, leases: Sequence[Lease]) -> int:
        """See Ledger."""
        with self._write(durable=True) as steps:
            held = steps.held(leases)
            for lease in held:
                steps.give_back(lease.workitem.key, lease.fence)
            return len(held)

    def notice(self, owner: str) -> None:
        """See Ledger."""
        self.event("warning", NOTICE, owner)

    def release(self, owner: str, reason: str) -> int:
        """See Ledger."""
        with self._write(durable=True) as steps:
            held = steps.held_by(owner)
            for key, fence in held:
                steps.give_back(key, fence)
            steps.forget(owner)
            if held:
                steps.note("info", "released", f"{len(held)} workitems of {owner}: {reason}")
            return len(held)

    def expire(self) -> int:
        """See Ledger."""
        if not self._database.rows(f"SELECT 1 FROM owner WHERE lease_until <= {self._now} LIMIT 1"):  # noqa: S608
            return 0
        with self._write(durable=True) as steps:
            return steps.expire()

    def adopt(self, key: str, stored: Sequence[StoredObject]) -> bool:
        """See Ledger."""
        with self._write(durable=True) as steps:
            done = steps.sql.execute(
                "UPDATE item SET state = 'COMPLETED', failure = NULL WHERE key = ? AND state = 'SCHEDULED'", (key,)
            )
            if done.rowcount:
                steps.keep(key, stored)
            return done.rowcount > 0

    def retry_failed(self) -> int:
        """See Ledger."""
        with self._write(durable=True) as steps:
            done = steps.sql.execute(
                """UPDATE item SET state = 'SCHEDULED', fails = 0, losses = 0, failure = NULL, due = 0,
                outgrown_host = NULL, outgrown_gpu = NULL WHERE state = 'CANCELED' AND NOT refused"""
            )
            return done.rowcount

    def event(self, level: str, kind: str, detail: str) -> None:
        """See Ledger."""
        with self._write(durable=False) as steps:
            steps.note(level, kind, detail)

    def node_up(self, node: str, machine: str, owner: str, cell: str = "") -> None:
        """See Ledger."""
        with self._write(durable=True) as steps:
            steps.end_lives(owner, node)
            steps.sql.execute(
                f"INSERT INTO node (node, machine, up, owner, cell) VALUES (?, ?, {self._now}, ?, ?)",  # noqa: S608
                (node, machine, owner, cell),
            )

    def node_down(self, node: str, owner: str) -> None:
        """See Ledger."""
        with self._write(durable=True) as steps:
            steps.sql.execute(
                f"UPDATE node SET down = {self._now} WHERE node = ? AND owner = ? AND down IS NULL",  # noqa: S608
                (node, owner),
            )

    def nodes(self) -> tuple[Node, ...]:
        """See Ledger."""
        return rows.nodes(self._database)

    def usage(self) -> tuple[Usage, ...]:
        """See Ledger."""
        return rows.usage(self._database)

    def recent(self, window_s: float) -> Recent:
        """See Ledger."""
        return rows.recent(self._database, window_s)

    def counts(self) -> Counts:
        """See Ledger."""
        return rows.counts(self._database)

    def waiting(self, memory: NodeMemory) -> int:
        """See Ledger."""
        (row,) = self._database.rows(
            f"SELECT count(*) AS n FROM item WHERE state = 'SCHEDULED' AND {FITS}",  # noqa: S608
            fitting(memory),
        )
        return int(row["n"])

    def held_by_others(self, owner: str) -> int:
        """See Ledger."""
        held = self._database.dialect.held
        (row,) = self._database.rows(
            f"SELECT count(*) AS n FROM item {held} WHERE state = 'IN PROGRESS' AND owner <> ?",  # noqa: S608
            (owner,),
        )
        return int(row["n"])

    def troubles(self) -> tuple[Trouble, ...]:
        """See Ledger."""
        return rows.troubles(self._database)

    def attempts(self) -> tuple[Attempt, ...]:
        """See Ledger."""
        return rows.attempts(self._database)

    def items(self) -> tuple[Item, ...]:
        """See Ledger."""
        return rows.items(self._database.rows("SELECT * FROM item ORDER BY seq"))

    def stored(self) -> tuple[Stored, ...]:
        """See Ledger."""
        return rows.stored(
            self._database.rows("SELECT stored.* FROM stored JOIN item USING (key) ORDER BY item.seq, stored.position")
        )

    def backlog(self, limit: int) -> tuple[Staged, ...]:
        """See Ledger."""
        found = self._database.rows(
            """SELECT stored.*, item.workitem FROM stored JOIN item USING (key)
            WHERE published IS NULL AND rejected IS NULL ORDER BY stored.key, stored.position LIMIT ?""",
            (limit,),
        )
        return tuple(Staged(workitem_from_json(row["workitem"]), rows.stored_object(row)) for row in found)

    def published(self, staged: Staged, uri: str) -> None:
        """See Ledger."""
        self._mark("published", staged, uri)

    def rejected(self, staged: Staged, reason: str) -> None:
        """See Ledger."""
        self._mark("rejected", staged, reason)

    def publication(self) -> Publication:
        """See Ledger."""
        (row,) = self._database.rows(
            "SELECT count(*) AS objects, count(published) AS published, count(rejected) AS rejected FROM stored"
        )
        return Publication(row["objects"] - row["published"] - row["rejected"], row["published"], row["rejected"])

    def publish_again(self) -> int:
        """See Ledger."""
        with self._write(durable=True) as steps:
            return steps.sql.execute("UPDATE stored SET rejected = NULL WHERE rejected IS NOT NULL").rowcount

    def _mark(self, column: str, staged: Staged, value: str) -> None:
        with self._write(durable=True) as steps:
            steps.sql.execute(
                f"UPDATE stored SET {column} = ? WHERE key = ? AND sop_instance_uid = ?",  # noqa: S608
                (value, staged.workitem.key, staged.object.sop_instance_uid),
            )

    def refusals(self) -> tuple[Refusal, ...]:
        """See Ledger."""
        found = self._database.rows("SELECT identifier, code, reason FROM refusal ORDER BY identifier")
        return tuple(Refusal(row["identifier"], row["code"], row["reason"]) for row in found)

    def events(self) -> tuple[Event, ...]:
        """See Ledger."""
        return rows.events(self._database.rows("SELECT * FROM event ORDER BY id"))

    def now(self) -> datetime:
        """See Ledger."""
        (row,) = self._database.rows(f"SELECT {self._now} AS now")
        return moment(row["now"])

    def close(self) -> None:
        """See Ledger."""
        self._database.close()
