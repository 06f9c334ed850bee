"""The steps that a SQL ledger's transactions are made of.

What a transaction changes it locks first, and all in one order: owners, items by their keys, the sums of what attempts
used, nodes, the sums of their lives. So drivers that end attempts at the same time wait for each other, and never in
a ring.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from ...runners.node_memory import NodeMemory
from .attempt import Lease
from .contact import Contact
from .database import Dialect, Parameters, Row, Transaction
from .outgrown import FITS, fitting
from .records import workitem_from_json
from .rows import last_seen

MOST_KEYS: Final = 500
"""Items that one statement names by their keys."""


@dataclass(frozen=True, slots=True)
class Held:
    """An item that is IN PROGRESS, with its open attempt.

    Attributes
    ----------
    attempt : int
        Id of the attempt.
    started : float
        Unix seconds of its begin, or of its lease.
    fails, losses : int
        The item's counters, this attempt not included.
    """

    key: str
    fence: int
    owner: str
    model: str
    fails: int
    losses: int
    attempt: int
    started: float

    @property
    def lease(self) -> tuple[str, int, str]:
        """Key, fence and owner: what tells its lease from all others."""
        return self.key, self.fence, self.owner


@dataclass(frozen=True, slots=True)
class Steps:
    """Steps inside one transaction `sql`, in a database's own `words`.

    Attributes
    ----------
    contact : Contact
        Of this process with the database.
    """

    sql: Transaction
    words: Dialect
    contact: Contact = field(default_factory=Contact)

    def lock(self, owner: str) -> None:
        """Keep others from an owner; where it is needed, it comes before all items."""
        self.sql.execute(f"SELECT 1 FROM owner WHERE owner = ? {self.words.lock}", (owner,))  # noqa: S608

    def hold(self, owner: str, ttl_s: float) -> None:
        """Let all leases of `owner` hold for `ttl_s` seconds from now; 0: they end, if they have not before."""
        self.sql.execute(
            f"""INSERT INTO owner (owner, lease_until, lease_s) VALUES (?, {self.words.now} + ?, ?)
            ON CONFLICT (owner) DO UPDATE SET lease_s = excluded.lease_s, lease_until =
                CASE WHEN excluded.lease_s = 0 AND owner.lease_until < excluded.lease_until THEN owner.lease_until
                ELSE excluded.lease_until END""",  # noqa: S608
            (owner, ttl_s, ttl_s),
        )

    def held(self, leases: Iterable[Lease]) -> dict[Lease, Held]:
        """What is held by these leases, those that are their items' newest; the items are locked."""
        wanted = {(lease.workitem.key, lease.fence, lease.owner): lease for lease in leases}
        # In the order of keys also across statements.
        keys = sorted({key for key, _, _ in wanted})
        found: list[Held] = []
        for at in range(0, len(keys), MOST_KEYS):
            part = keys[at : at + MOST_KEYS]
            found += self._held("", f"item.key IN ({', '.join('?' * len(part))})", part)
        return {wanted[each.lease]: each for each in found if each.lease in wanted}

    def held_by(self, *owners: str) -> list[Held]:
        """All that some owners hold; the items are locked."""
        marks = ", ".join("?" * len(owners))
        return self._held(self.words.held, f"item.owner IN ({marks})", owners) if owners else []

    def _held(self, index: str, which: str, parameters: Parameters) -> list[Held]:
        rows: list[Row] = self.sql.execute(
            f"""SELECT item.key, item.fence, item.owner, item.model, fails, losses, attempt.id AS attempt, started
            FROM item {index} JOIN attempt ON attempt.key = item.key AND attempt.fence = item.fence
            WHERE state = 'IN PROGRESS' AND {which} {self.words.locked}""",  # noqa: S608
            parameters,
        ).fetchall()
        return [
            Held(
                row["key"],
                row["fence"],
                row["owner"],
                row["model"],
                row["fails"],
                row["losses"],
                row["attempt"],
                row["started"],
            )
            for row in rows
        ]

    def begin(self, begun: Iterable[tuple[Held, str]]) -> None:
        """Note the node of attempts, each with its own, that begin now."""
        self.sql.executemany(
            f"UPDATE attempt SET node = ?, started = {self.words.now} WHERE id = ?",  # noqa: S608
            [(node, held.attempt) for held, node in begun],
        )

    def take(self, owner: str, limit: int, memory: NodeMemory, models: Sequence[str]) -> tuple[Lease, ...]:
        """Up to `limit` SCHEDULED items in the order of `Ledger.lease`, with an open attempt at each."""
        candidates, parameters = self._next(limit, memory, models)
        rows = self.sql.execute(
            f"""WITH next AS MATERIALIZED ({candidates})
            UPDATE item SET state = 'IN PROGRESS', owner = ?, fence = fence + 1
            WHERE seq IN (SELECT seq FROM next)
            RETURNING seq, key, model, workitem, bytes, fence, fails, losses""",  # noqa: S608
            (*parameters, owner),
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

    def _next(self, limit: int, memory: NodeMemory, models: Sequence[str]) -> tuple[str, list[object]]:
        """The query, with its parameters, for the items to lease: of each model by an index, then the first of these.

        Were one index gone through for items of some models, it would be gone through all those of the others
        that come before: after hours these are most of what a run has.
        """
        ready = f"state = 'SCHEDULED' AND due <= {self.words.now} AND {FITS}"
        if not models:
            query = f"""SELECT seq FROM item {self.words.ready} WHERE {ready}
                ORDER BY fails + losses, bytes DESC, seq LIMIT ? {self.words.take}"""  # noqa: S608
            return query, [*fitting(memory), limit]
        of_model = f"""SELECT seq, fails, losses, bytes FROM item {self.words.ready_of_model}
            WHERE model = ? AND {ready}
            ORDER BY losses + fails, bytes DESC, seq LIMIT ? {self.words.take}"""  # noqa: S608
        parts = (f"SELECT * FROM ({of_model}) AS of_{number}" for number in range(len(models)))  # noqa: S608
        query = f"""SELECT seq FROM ({" UNION ALL ".join(parts)}) AS of_any
            ORDER BY fails + losses, bytes DESC, seq LIMIT ?"""  # noqa: S608
        return query, [*(each for model in models for each in (model, *fitting(memory), limit)), limit]

    def forget(self, owner: str) -> None:
        """Let an owner be no more, but for one whom somebody else at this moment hears or takes for dead."""
        mine = f"SELECT owner FROM owner WHERE owner = ? {self.words.take}"  # noqa: S608
        self.sql.execute(f"DELETE FROM owner WHERE owner IN ({mine})", (owner,))  # noqa: S608

    def end_lives(self, owners: Sequence[str], node: str | None = None) -> None:
        """End the open lives of some owners' nodes, or of one of them, when last seen."""
        which, parameters = ("", owners) if node is None else ("AND node = ?", (*owners, node))
        if owners:
            marks = ", ".join("?" * len(owners))
            self._end(last_seen(self.words.now), f"owner IN ({marks}) {which}", parameters)

    def end_life(self, owner: str, node: str) -> None:
        """End the open life of an owner's node, now."""
        self._end(self.words.now, "owner = ? AND node = ?", (owner, node))

    def _end(self, down: str, which: str, parameters: Parameters) -> None:
        """End lives, and add what they lasted to the sums: in one order, so that drivers do not wait in a ring."""
        ended: list[Row] = self.sql.execute(
            f"""UPDATE node SET down = {down} WHERE {which} AND down IS NULL
            RETURNING coalesce(price, '') AS price, up, down""",  # noqa: S608
            parameters,
        ).fetchall()
        self.sql.executemany(
            """INSERT INTO lived VALUES (?, 1, ?)
            ON CONFLICT (price) DO UPDATE SET lives = lived.lives + 1, seconds = lived.seconds + excluded.seconds""",
            sorted((row["price"], max(0.0, row["down"] - row["up"])) for row in ended),
        )

    def give_back(self, held: Sequence[Held]) -> None:
        """Put held items back to SCHEDULED as if these attempts had not been; their fences stay used."""
        self.sql.executemany("DELETE FROM attempt WHERE id = ?", [(each.attempt,) for each in held])
        self.sql.executemany(
            "UPDATE item SET state = 'SCHEDULED', owner = NULL WHERE key = ?", [(each.key,) for each in held]
        )

    def note(self, level: str, kind: str, detail: str) -> None:
        """Write an event, now."""
        self.sql.execute(
            f"INSERT INTO event (at, level, kind, detail) VALUES ({self.words.now}, ?, ?, ?)",  # noqa: S608
            (level, kind, detail),
        )
