"""A ledger in a SQL database, whichever it is.

Plain drivers with the SQL written out, and not SQLAlchemy: leasing and finishing are each a few
statements that must be atomic and fast, there are some forty in all, and the databases differ in
six words of them (`Dialect`), so that a layer over both would hide what matters.

What adds or ends work is on the disk before the call returns; leases and heartbeats need not be:
a kill loses none of them, and what a power cut takes of them only has work done again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal

from ...enrich.archives.archive import StoredObject
from ...runners.node_memory import UNKNOWN_MEMORY, NodeMemory
from ...runners.workitem import Outcome, Workitem
from ..ledger import (
    LEASE_S,
    Lease,
    Run,
    RunMismatch,
    Staged,
)
from ..prices.rates import Price
from . import outgrown, rows
from .attempt import LOST
from .endings import Ending, end, expire, keep, silent_for
from .records import price_to_json, prices_to_json, workitem_to_json
from .run_record import NOTICE
from .schema import READY_OF_MODEL
from .sql_reading import SqlReading
from .steps import Steps


class SqlLedger(SqlReading):
    """A ledger in the tables of `database`; see `Ledger` for its methods."""

    @contextmanager
    def _write(self, *, durable: bool) -> Iterator[Steps]:
        with self._database.write(durable=durable) as sql:
            yield Steps(sql, self._database.dialect, self._database.contact)

    def create_run(self, run: Run) -> Run:
        """See Ledger."""
        with self._write(durable=True) as steps:
            new = steps.sql.execute(
                "INSERT INTO run VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
                rows.run_row(run),
            )
            if new.rowcount:
                _may_lease_by_model(steps, run)
                return run
        known = self.run()
        if not known.same_work(run):
            raise RunMismatch(self._database.name, f"it is of other work: {known.difference(run)}")
        with self._write(durable=True) as steps:
            # One that an older version began cannot yet.
            _may_lease_by_model(steps, known)
        return known

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

    def set_prices(self, prices: Mapping[str, Price]) -> None:
        """See Ledger."""
        with self._write(durable=True) as steps:
            steps.sql.execute("UPDATE run SET prices = ?", (prices_to_json(prices),))

    def add(self, workitems: Iterable[Workitem]) -> int:
        """See Ledger."""
        new = ((w.key, w.model, workitem_to_json(w), w.size_bytes) for w in workitems)
        return self._database.add_items(new)

    def refuse(self, identifier: str, code: str, reason: str) -> bool:
        """See Ledger."""
        with self._write(durable=False) as steps:
            done = steps.sql.execute(
                "INSERT INTO refusal VALUES (?, ?, ?) ON CONFLICT DO NOTHING", (identifier, code, reason)
            )
            return done.rowcount > 0

    def lease(
        self,
        owner: str,
        limit: int,
        ttl_s: float = LEASE_S,
        memory: NodeMemory = UNKNOWN_MEMORY,
        models: Sequence[str] = (),
    ) -> tuple[Lease, ...]:
        """See Ledger."""
        self._database.contact.begin()
        with self._write(durable=False) as steps:
            steps.lock(owner)
            expire(steps)
            steps.hold(owner, ttl_s)
            leases = steps.take(owner, limit, memory, models)
        if not leases:
            # With no locks of the above: it waits for others' items.
            with self._write(durable=False) as steps:
                outgrown.note_idle(steps, owner, memory, models, ttl_s)
                outgrown.give_up(steps)
        return leases

    def heartbeat(self, owner: str, ttl_s: float = LEASE_S) -> bool:
        """See Ledger."""
        self._database.contact.begin()
        with self._write(durable=False) as steps:
            steps.hold(owner, ttl_s)
            up = steps.sql.execute("SELECT 1 FROM node WHERE owner = ? AND down IS NULL LIMIT 1", (owner,)).fetchone()
        self._database.contact.begin()
        return up is not None

    def start(self, lease: Lease, node: str) -> bool:
        """See Ledger."""
        return self.start_all([(lease, node)])[0]

    def start_all(self, begun: Sequence[tuple[Lease, str]]) -> tuple[bool, ...]:
        """See Ledger."""
        with self._write(durable=False) as steps:
            held = steps.held(lease for lease, _ in begun)
            steps.begin((held[lease], node) for lease, node in begun if lease in held)
            return tuple(lease in held for lease, _ in begun)

    def finish(self, lease: Lease, outcome: Outcome, node: str = "") -> bool:
        """See Ledger."""
        return self.finish_all([(lease, outcome, node)])[0]

    def finish_all(self, ended: Sequence[tuple[Lease, Outcome, str]]) -> tuple[bool, ...]:
        """See Ledger."""
        for lease, outcome, _ in ended:
            if outcome.key != lease.workitem.key:
                raise self._database.error(f"outcome of {outcome.key} for a lease of {lease.workitem.key}")
        with self._write(durable=True) as steps:
            held = steps.held(lease for lease, _, _ in ended)
            end(steps, [Ending.told(held[lease], told, node) for lease, told, node in ended if lease in held])
            return tuple(lease in held for lease, _, _ in ended)

    def lose(self, leases: Sequence[Lease], reason: str, node: str = "", code: str = LOST) -> int:
        """See Ledger."""
        with self._write(durable=True) as steps:
            held = steps.held(leases)
            end(steps, [Ending.lost(each, reason, node, code) for each in held.values()])
            return len(held)

    def give_back(self, leases: Sequence[Lease]) -> int:
        """See Ledger."""
        with self._write(durable=True) as steps:
            held = steps.held(leases)
            steps.give_back(tuple(held.values()))
            return len(held)

    def notice(self, owner: str) -> None:
        """See Ledger."""
        self.event("warning", NOTICE, owner)

    def release(self, owner: str, reason: str) -> int:
        """See Ledger."""
        with self._write(durable=True) as steps:
            steps.lock(owner)
            held = steps.held_by(owner)
            steps.give_back(held)
            steps.forget(owner)
            if held:
                steps.note("info", "released", f"{len(held)} workitems of {owner}: {reason}")
            return len(held)

    def expire(self) -> int:
        """See Ledger."""
        words, contact = self._database.dialect, self._database.contact
        # Also of who only looks, as whoever looks after cells does.
        contact.begin()
        self._database.end_stalled()
        silent = self._database.rows(f"SELECT 1 FROM owner WHERE {silent_for(words)} LIMIT 1", (contact.lasts_s,))  # noqa: S608
        if not silent:
            return 0
        with self._write(durable=True) as steps:
            return expire(steps)

    def adopt(self, key: str, stored: Sequence[StoredObject]) -> bool:
        """See Ledger."""
        with self._write(durable=True) as steps:
            done = steps.sql.execute(
                "UPDATE item SET state = 'COMPLETED', failure = NULL WHERE key = ? AND state = 'SCHEDULED'", (key,)
            )
            if done.rowcount:
                keep(steps.sql, [(key, stored)])
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

    def node_up(self, node: str, machine: str, owner: str, cell: str = "", price: Price | None = None) -> None:
        """See Ledger."""
        self._come_up(owner, node, machine, cell, price_to_json(price), False)

    def head_up(self, node: str, machine: str, owner: str, cell: str = "", price: Price | None = None) -> None:
        """See Ledger."""
        self._come_up(owner, node, machine, cell, price_to_json(price), True)

    def _come_up(self, owner: str, node: str, *others: object) -> None:
        with self._write(durable=True) as steps:
            steps.end_lives([owner], node)
            steps.sql.execute(
                f"""INSERT INTO node (up, owner, node, machine, cell, price, head)
                VALUES ({self._now}, ?, ?, ?, ?, ?, ?)""",  # noqa: S608
                (owner, node, *others),
            )

    def node_down(self, node: str, owner: str) -> None:
        """See Ledger."""
        with self._write(durable=True) as steps:
            steps.end_life(owner, node)

    def published(self, staged: Staged, uri: str) -> None:
        """See Ledger."""
        self._mark("published", staged, uri)

    def rejected(self, staged: Staged, reason: str) -> None:
        """See Ledger."""
        self._mark("rejected", staged, reason)

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


def _may_lease_by_model(steps: Steps, run: Run) -> None:
    """Let a run of several models be leased from by model."""
    if len(run.models) > 1:
        steps.sql.execute(READY_OF_MODEL)
