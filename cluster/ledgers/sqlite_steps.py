"""The steps that the SQLite ledger's transactions are made of; each runs inside one."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace

from ...runners.consumption import Consumption
from ...runners.workitem import Failure, State
from ..ledger import AttemptClass, Lease, state_after
from .records import consumption_rows, failure_to_json, workitem_from_json
from .sqlite_file import NOW


def hold(sql: sqlite3.Connection, owner: str, ttl_s: float) -> None:
    """Let all leases of `owner` hold for `ttl_s` seconds from now."""
    sql.execute(
        f"""INSERT INTO owner VALUES (:owner, {NOW} + :ttl)
        ON CONFLICT (owner) DO UPDATE SET lease_until = excluded.lease_until""",  # noqa: S608
        {"owner": owner, "ttl": ttl_s},
    )


def holds(sql: sqlite3.Connection, lease: Lease) -> bool:
    """Whether the lease is the item's newest and was not taken back."""
    row = sql.execute(
        "SELECT 1 FROM item WHERE key = ? AND fence = ? AND owner = ? AND state = 'IN PROGRESS'",
        (lease.workitem.key, lease.fence, lease.owner),
    ).fetchone()
    return row is not None


def take(sql: sqlite3.Connection, owner: str, limit: int) -> tuple[Lease, ...]:
    """Up to `limit` SCHEDULED items in the order of `Ledger.lease`, with an open attempt at each."""
    rows = sql.execute(
        """UPDATE item SET state = 'IN PROGRESS', owner = ?, fence = fence + 1
        WHERE seq IN (SELECT seq FROM item INDEXED BY item_ready WHERE state = 'SCHEDULED'
            ORDER BY fails + losses, bytes DESC, seq LIMIT ?)
        RETURNING seq, key, model, workitem, bytes, fence, fails, losses""",
        (owner, limit),
    ).fetchall()
    rows.sort(key=lambda row: (row["fails"] + row["losses"], -row["bytes"], row["seq"]))
    sql.executemany(
        f"INSERT INTO attempt (key, model, fence, owner, started) VALUES (?, ?, ?, ?, {NOW})",  # noqa: S608
        [(row["key"], row["model"], row["fence"], owner) for row in rows],
    )
    return tuple(
        Lease(workitem_from_json(row["workitem"]), owner, row["fence"], row["fails"] + row["losses"] + 1)
        for row in rows
    )


def expire(sql: sqlite3.Connection) -> int:
    """Lose the items of owners whose time has passed; how many."""
    silent = [row["owner"] for row in sql.execute(f"SELECT owner FROM owner WHERE lease_until <= {NOW}")]  # noqa: S608
    count = 0
    for owner in silent:
        held = held_by(sql, owner)
        for row in held:
            lose(sql, row["key"], row["fence"], f"no heartbeat from {owner}", "")
        sql.execute("DELETE FROM owner WHERE owner = ?", (owner,))
        if held:
            note(sql, "warning", "owner_silent", f"{owner}: {len(held)} workitems taken back")
        count += len(held)
    return count


def held_by(sql: sqlite3.Connection, owner: str) -> list[sqlite3.Row]:
    """Key and fence of each item that an owner holds."""
    return sql.execute(
        "SELECT key, fence FROM item INDEXED BY item_held WHERE state = 'IN PROGRESS' AND owner = ?", (owner,)
    ).fetchall()


def give_back(sql: sqlite3.Connection, key: str, fence: int) -> None:
    """Put a held item back to SCHEDULED as if this attempt had not been; its fence stays used."""
    sql.execute("DELETE FROM attempt WHERE key = ? AND fence = ?", (key, fence))
    sql.execute("UPDATE item SET state = 'SCHEDULED', owner = NULL WHERE key = ?", (key,))


def lose(sql: sqlite3.Connection, key: str, fence: int, reason: str, node: str) -> None:
    """End an attempt as lost: the machine's fault and not the item's."""
    failure = Failure("", "LOST", reason, retryable=True, lost=True)
    end_attempt(sql, (key, fence), AttemptClass.LOST, failure, node)
    settle(sql, key, AttemptClass.LOST, failure)


def end_attempt(
    sql: sqlite3.Connection,
    attempt: tuple[str, int],
    kind: AttemptClass,
    failure: Failure | None,
    node: str,
    used: Sequence[Consumption] = (),
) -> None:
    """Close the attempt (key, fence), now, on the node where it started unless another is named."""
    (row,) = sql.execute(
        f"""UPDATE attempt SET ended = {NOW}, outcome = ?, failure = ?, node = coalesce(nullif(?, ''), node)
        WHERE key = ? AND fence = ? RETURNING id, model""",  # noqa: S608
        (kind.value, failure_to_json(failure), node, *attempt),
    ).fetchall()
    sql.executemany("INSERT INTO consumption VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", consumption_rows(row["id"], used))
    sql.execute(
        """INSERT INTO usage VALUES (?, ?, 1, ?, ?, ?, ?, ?) ON CONFLICT (model, outcome) DO UPDATE SET
        attempts = attempts + 1, wall_s = wall_s + excluded.wall_s, cpu_s = cpu_s + excluded.cpu_s,
        gpu_s = gpu_s + excluded.gpu_s, bytes_in = bytes_in + excluded.bytes_in,
        bytes_out = bytes_out + excluded.bytes_out""",
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


def settle(sql: sqlite3.Connection, key: str, kind: AttemptClass, failure: Failure | None) -> None:
    """Put an item where it goes after an attempt of this class."""
    row = sql.execute("SELECT fails, losses FROM item WHERE key = ?", (key,)).fetchone()
    fails = row["fails"] + (kind is AttemptClass.FAILED)
    losses = row["losses"] + (kind is AttemptClass.LOST)
    retryable = failure is not None and failure.retryable
    state = state_after(kind, fails=fails, losses=losses, retryable=retryable)
    if state is State.CANCELED and kind is AttemptClass.LOST and failure is not None:
        failure = replace(failure, code="LOST_TOO_OFTEN", message=f"{losses} times; last: {failure.message}")
    sql.execute(
        """UPDATE item SET state = ?, refused = ?, owner = NULL, fails = ?, losses = ?, failure = ?
        WHERE key = ?""",
        (state.value, kind is AttemptClass.REFUSED, fails, losses, failure_to_json(failure), key),
    )


def note(sql: sqlite3.Connection, level: str, kind: str, detail: str) -> None:
    """Write an event, now."""
    sql.execute(f"INSERT INTO event (at, level, kind, detail) VALUES ({NOW}, ?, ?, ?)", (level, kind, detail))  # noqa: S608
