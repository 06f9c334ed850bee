"""The steps that a SQL ledger's transactions are made of.

What a transaction changes it locks first, items in the order of their keys: drivers that end
attempts at the same time wait for each other, and never in a ring.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from ...enrich.archives.archive import StoredObject
from ...runners.consumption import Consumption
from ...runners.node_memory import NodeMemory
from ...runners.workitem import Failure, State
from ..attempt import LOST, OUT_OF_MEMORY, PREEMPTED, AttemptClass, Lease, pause_s, state_after
from ..run_record import NOTICE
from .database import Dialect, Transaction
from .outgrown import FITS, fitting
from .records import consumption_rows, failure_to_json, stored_rows, workitem_from_json
from .rows import last_seen


@dataclass(frozen=True, slots=True)
class Steps:
    """Steps inside one transaction `sql`, in a database's own `words`."""

    sql: Transaction
    words: Dialect

    def hold(self, owner: str, ttl_s: float) -> None:
        """Let all leases of `owner` hold for `ttl_s` seconds from now."""
        self.sql.execute(
            f"""INSERT INTO owner VALUES (?, {self.words.now} + ?)
            ON CONFLICT (owner) DO UPDATE SET lease_until = excluded.lease_until""",  # noqa: S608
            (owner, ttl_s),
        )

    def held(self, leases: Iterable[Lease]) -> list[Lease]:
        """Those that are their item's newest and were not taken back; their items are locked."""
        return [lease for lease in sorted(leases, key=lambda each: each.workitem.key) if self.holds(lease)]

    def holds(self, lease: Lease) -> bool:
        """Whether the lease is the item's newest and was not taken back; its item is locked."""
        row = self.sql.execute(
            f"""SELECT seq FROM item WHERE key = ? AND fence = ? AND owner = ? AND state = 'IN PROGRESS'
            {self.words.locked}""",  # noqa: S608
            (lease.workitem.key, lease.fence, lease.owner),
        ).fetchone()
        return row is not None

    def take(self, owner: str, limit: int, memory: NodeMemory) -> tuple[Lease, ...]:
        """Up to `limit` SCHEDULED items in the order of `Ledger.lease`, with an open attempt at each."""
        rows = self.sql.execute(
            f"""WITH next AS MATERIALIZED (
                SELECT seq FROM item {self.words.ready}
                WHERE state = 'SCHEDULED' AND due <= {self.words.now} AND {FITS}
                ORDER BY fails + losses, bytes DESC, seq LIMIT ? {self.words.take})
            UPDATE item SET state = 'IN PROGRESS', owner = ?, fence = fence + 1
            WHERE seq IN (SELECT seq FROM next)
            RETURNING seq, key, model, workitem, bytes, fence, fails, losses""",  # noqa: S608
            (*fitting(memory), limit, owner),
        ).fetchall()
        rows.sort(key=lambda row: (row["fails"] + row["losses"], -row["bytes"], row["seq"]))
        self.sql.executemany(
            f"""INSERT INTO attempt (key, model, fence, owner, host_bytes, gpu_bytes, started)
            VALUES (?, ?, ?, ?, ?, ?, {self.words.now})""",  # noqa: S608
            [(row["key"], row["model"], row["fence"], owner, memory.host_bytes, memory.gpu_bytes) for row in rows],
        )
        return tuple(
            Lease(workitem_from_json(row["workitem"]), owner, row["fence"], row["fails"] + row["losses"] + 1)
            for row in rows
        )

    def expire(self) -> int:
        """Lose the items of owners whose time has passed; how many."""
        silent = self.sql.execute(
            f"SELECT owner FROM owner WHERE lease_until <= {self.words.now} ORDER BY owner {self.words.take}"  # noqa: S608
        ).fetchall()
        held = [(row["owner"], self.held_by(row["owner"])) for row in silent]
        for owner, items in held:
            for key, fence in items:
                code = PREEMPTED if self.had_notice(owner, key, fence) else LOST
                self.lose(key, fence, f"no heartbeat from {owner}", "", code)
            self.end_lives(owner)
            self.forget(owner)
            if items:
                self.note("warning", "owner_silent", f"{owner}: {len(items)} workitems taken back")
        return sum(len(items) for _, items in held)

    def held_by(self, owner: str) -> list[tuple[str, int]]:
        """Key and fence of each item that an owner holds; they are locked."""
        rows = self.sql.execute(
            f"""SELECT key, fence FROM item {self.words.held} WHERE state = 'IN PROGRESS' AND owner = ?
            {self.words.locked}""",  # noqa: S608
            (owner,),
        ).fetchall()
        return [(row["key"], row["fence"]) for row in rows]

    def forget(self, owner: str) -> None:
        """Let an owner be no more."""
        self.sql.execute("DELETE FROM owner WHERE owner = ?", (owner,))

    def end_lives(self, owner: str, node: str | None = None) -> None:
        """End the open lives of an owner's nodes, or of one of them, when last seen."""
        which, parameters = ("", (owner,)) if node is None else ("AND node = ?", (owner, node))
        self.sql.execute(
            f"UPDATE node SET down = {last_seen(self.words.now)} WHERE owner = ? AND down IS NULL {which}",  # noqa: S608
            parameters,
        )

    def give_back(self, key: str, fence: int) -> None:
        """Put a held item back to SCHEDULED as if this attempt had not been; its fence stays used."""
        self.sql.execute("DELETE FROM attempt WHERE key = ? AND fence = ?", (key, fence))
        self.sql.execute("UPDATE item SET state = 'SCHEDULED', owner = NULL WHERE key = ?", (key,))

    def had_notice(self, owner: str, key: str, fence: int) -> bool:
        """Whether an owner told, since this attempt began, that its machine is about to be taken away."""
        row = self.sql.execute(
            """SELECT count(*) AS told FROM event WHERE kind = ? AND detail = ?
            AND at >= (SELECT started FROM attempt WHERE key = ? AND fence = ?)""",
            (NOTICE, owner, key, fence),
        ).fetchone()
        return row is not None and row["told"] > 0

    def lose(self, key: str, fence: int, reason: str, node: str, code: str) -> None:
        """End an attempt as lost: the machine's fault and not the item's."""
        failure = Failure("", code, reason, retryable=True, lost=True)
        self.end_attempt((key, fence), AttemptClass.LOST, failure, node)
        self.settle(key, AttemptClass.LOST, failure)

    def end_attempt(
        self,
        attempt: tuple[str, int],
        kind: AttemptClass,
        failure: Failure | None,
        node: str,
        used: Sequence[Consumption] = (),
    ) -> None:
        """Close the attempt (key, fence), now, on the node where it started unless another is named."""
        row = self.sql.execute(
            f"""UPDATE attempt SET ended = {self.words.now}, outcome = ?, failure = ?,
            node = coalesce(nullif(?, ''), node) WHERE key = ? AND fence = ? RETURNING id, model""",  # noqa: S608
            (kind.value, failure_to_json(failure), node, *attempt),
        ).fetchone()
        self.sql.executemany(
            "INSERT INTO consumption VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", consumption_rows(row["id"], used)
        )
        self.sql.execute(
            """INSERT INTO usage VALUES (?, ?, 1, ?, ?, ?, ?, ?) ON CONFLICT (model, outcome) DO UPDATE SET
            attempts = usage.attempts + 1, wall_s = usage.wall_s + excluded.wall_s,
            cpu_s = usage.cpu_s + excluded.cpu_s, gpu_s = usage.gpu_s + excluded.gpu_s,
            bytes_in = usage.bytes_in + excluded.bytes_in, bytes_out = usage.bytes_out + excluded.bytes_out""",
            (
                row["model"],
                kind.value,
                sum(c.wall_s for c in used),
                sum(c.cpu_s for c in used),
                sum(c.gpu_s for c in used),
                sum(c.bytes_in for c in used),
                sum(c.bytes_out for c in used),
            ),
        )

    def settle(self, key: str, kind: AttemptClass, failure: Failure | None) -> None:
        """Put an item where it goes after an attempt of this class."""
        row = self.sql.execute("SELECT fails, losses FROM item WHERE key = ?", (key,)).fetchone()
        fails = row["fails"] + (kind is AttemptClass.FAILED)
        losses = row["losses"] + (kind is AttemptClass.LOST)
        state = state_after(kind, fails=fails, losses=losses, failure=failure)
        if state is State.CANCELED and kind is AttemptClass.LOST and failure is not None:
            failure = replace(failure, code="LOST_TOO_OFTEN", message=f"{losses} times; last: {failure.message}")
        self.sql.execute(
            f"""UPDATE item SET state = ?, refused = ?, owner = NULL, fails = ?, losses = ?, failure = ?,
            due = {self.words.now} + ? WHERE key = ?""",  # noqa: S608
            (
                state.value,
                kind is AttemptClass.REFUSED,
                fails,
                losses,
                failure_to_json(failure),
                pause_s(failure, losses),
                key,
            ),
        )
        if failure is not None and failure.code == OUT_OF_MEMORY:
            self.sql.execute(
                """UPDATE item SET (outgrown_host, outgrown_gpu) = (SELECT host_bytes, gpu_bytes FROM attempt
                WHERE attempt.key = item.key AND attempt.fence = item.fence) WHERE key = ?""",
                (key,),
            )

    def keep(self, key: str, stored: Sequence[StoredObject]) -> None:
        """Write down the objects that an item left in the target."""
        self.sql.executemany(
            """INSERT INTO stored (key, position, sop_class_uid, sop_instance_uid, series_instance_uid, uri, sha256,
            bytes, already_there) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)""",
            stored_rows(key, stored),
        )

    def note(self, level: str, kind: str, detail: str) -> None:
        """Write an event, now."""
        self.sql.execute(
            f"INSERT INTO event (at, level, kind, detail) VALUES ({self.words.now}, ?, ?, ?)",  # noqa: S608
            (level, kind, detail),
        )
