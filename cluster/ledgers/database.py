"""What a SQL ledger needs of its database, and where two databases' SQL differs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from ..ledger import LedgerError
from .contact import Contact

Parameters: TypeAlias = Sequence[object]


class Row(Protocol):
    """One row of a result; its columns by their names."""

    def __getitem__(self, column: str, /) -> Any: ...


class Rows(Protocol):
    """What a statement gives."""

    @property
    def rowcount(self) -> int:
        """Rows that the statement changed."""
        ...

    def fetchone(self) -> Any:
        """The next row; None after the last."""
        ...

    def fetchall(self) -> list[Any]:
        """All rows that are left."""
        ...


class Transaction(Protocol):
    """Where statements run, with ``?`` for each parameter."""

    def execute(self, sql: str, parameters: Parameters = (), /) -> Rows:
        """Run one statement."""
        ...

    def executemany(self, sql: str, parameters: Iterable[Parameters], /) -> object:
        """Run one statement once for each set of parameters."""
        ...


@dataclass(frozen=True, slots=True)
class Dialect:
    """The few words in which two databases' SQL differs.

    Attributes
    ----------
    now : str
        Unix seconds by the database's clock, fixed within a statement.
    up : str
        Unix seconds since which the database has been there to be asked, by its own clock.
    lock : str
        Put after a SELECT of one row: locks it.
    locked : str
        Put after a SELECT of items that are changed later in the transaction: locks them in the order of their keys.
    take : str
        Put after the SELECT of the items to lease: rows that others lease now are passed over.
    alone : str
        Statement after which nobody else changes an owner until the transaction ends; empty: nobody does anyway.
    ready, ready_of_model, held, outgrown : str
        Put after the table ``item`` where its index of that name must be used.
    """

    now: str
    up: str = "0"
    lock: str = ""
    locked: str = ""
    take: str = ""
    alone: str = ""
    ready: str = ""
    ready_of_model: str = ""
    held: str = ""
    outgrown: str = ""


class Database(Protocol):
    """One ledger's tables; threads may share it, processes open their own.

    Every method raises LedgerUnavailable while the database does not answer.
    """

    @property
    def name(self) -> str:
        """What errors call it."""
        ...

    @property
    def dialect(self) -> Dialect:
        """Its SQL's own words."""
        ...

    @property
    def contact(self) -> Contact:
        """The contact of this process with it."""
        ...

    def write(self, *, durable: bool) -> AbstractContextManager[Transaction]:
        """All of the block or, if it raises, nothing of it; `durable`: on the disk when the block ends."""
        ...

    def read(self) -> AbstractContextManager[Transaction]:
        """Several queries of the block on one state of the tables."""
        ...

    def rows(self, query: str, parameters: Parameters = ()) -> list[Any]:
        """All rows that one query gives."""
        ...

    def add_items(self, items: Iterable[tuple[str, str, str, int]]) -> int:
        """Rows (key, model, workitem, bytes) into ``item`` where the key is new, all or nothing; how many were."""
        ...

    def end_stalled(self) -> None:
        """End transactions of drivers that stand still in their midst: they would keep what they locked."""
        ...

    def error(self, reason: str) -> LedgerError:
        """An error that names this database."""
        ...

    def close(self) -> None:
        """Let it go."""
        ...
