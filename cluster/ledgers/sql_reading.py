"""What a ledger in a SQL database tells."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from ...runners.node_memory import NodeMemory
from ..ledger import (
    Attempt,
    Counts,
    Event,
    Item,
    Lived,
    Node,
    NoSuchRun,
    Publication,
    Recent,
    Refusal,
    Run,
    Staged,
    Stored,
    Trouble,
    Usage,
)
from . import rows
from .database import Database
from .outgrown import FITS, LEASABLE, fitting
from .records import moment, workitem_from_json


class SqlReading:
    """What the tables of `database` say; see `Ledger` for its methods."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._now = database.dialect.now

    def run(self) -> Run:
        """See Ledger."""
        found = self._database.rows("SELECT * FROM run")
        if not found:
            raise NoSuchRun(self._database.name, "no run was begun in it")
        return rows.run_of(found[0])

    def nodes(self) -> tuple[Node, ...]:
        """See Ledger."""
        return rows.nodes(self._database)

    def lived(self) -> tuple[Lived, ...]:
        """See Ledger."""
        return rows.lived(self._database)

    def usage(self) -> tuple[Usage, ...]:
        """See Ledger."""
        return rows.usage(self._database)

    def recent(self, window_s: float) -> Recent:
        """See Ledger."""
        return rows.recent(self._database, window_s)

    def counts(self) -> Counts:
        """See Ledger."""
        return rows.counts(self._database)

    def waiting(self, memory: NodeMemory, models: Sequence[str] = ()) -> int:
        """See Ledger."""
        of = f"AND model IN ({', '.join('?' * len(models))})" if models else ""
        (row,) = self._database.rows(
            f"SELECT count(*) AS n FROM item WHERE state = 'SCHEDULED' AND {FITS} {of}",  # noqa: S608
            (*fitting(memory), *models),
        )
        return int(row["n"])

    def leasable(self) -> int:
        """See Ledger."""
        (row,) = self._database.rows(f"SELECT count(*) AS n FROM item WHERE {LEASABLE} AND due <= {self._now}")  # noqa: S608
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

    def backlog(self, limit: int, after: Staged | None = None) -> tuple[Staged, ...]:
        """See Ledger."""
        last = ("", -1) if after is None else (after.workitem.key, after.position)
        found = self._database.rows(
            """SELECT stored.*, item.workitem FROM stored JOIN item USING (key)
            WHERE published IS NULL AND rejected IS NULL AND (stored.key, stored.position) > (?, ?)
            ORDER BY stored.key, stored.position LIMIT ?""",
            (*last, limit),
        )
        return tuple(
            Staged(workitem_from_json(row["workitem"]), rows.stored_object(row), row["position"]) for row in found
        )

    def publication(self) -> Publication:
        """See Ledger."""
        (row,) = self._database.rows(
            "SELECT count(*) AS objects, count(published) AS published, count(rejected) AS rejected FROM stored"
        )
        return Publication(row["objects"] - row["published"] - row["rejected"], row["published"], row["rejected"])

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
