"""One SQLite file: opened, brought up to date, written in transactions, its errors made ours."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from ... import Error, __version__
from ..ledger import LedgerCorrupt, LedgerError, LedgerUnavailable
from .contact import Contact
from .database import Dialect, Parameters
from .migrating import migrate
from .schema import VERSION

APPLICATION_ID: Final = 0x566F7866
"""``Voxf``: what SQLite's header (bytes 68 to 71) says the file is."""

BUSY_S = 30.0
"""How long a call waits for another process's transaction before LedgerUnavailable."""

_AGAIN_S: Final = 0.01
"""Between two tries of what SQLite does not wait for."""

CACHE_KIB: Final = 16 * 1024
"""Pages kept in memory: keys are digests, and what is next is on any page of their index."""

LOAD_KIB: Final = 64 * 1024
"""While many items come in: with SQLite's own 2 MiB each page is written to the log five times."""

DIALECT: Final = Dialect(
    now="((julianday('now') - 2440587.5) * 86400.0)",
    ready="INDEXED BY item_ready",
    ready_of_model="INDEXED BY item_ready_of_model",
    held="INDEXED BY item_held",
    outgrown="INDEXED BY item_outgrown",
)

_TYPES: Final = {
    "serial": "INTEGER PRIMARY KEY",
    "integer": "INTEGER",
    "real": "REAL",
    "boolean": "INTEGER",
    "false": "0",
    "table": "STRICT",
    "keyed": "STRICT, WITHOUT ROWID",
}


class SqliteFile:
    """A connection that threads may share; each process opens its own.

    Parameters
    ----------
    path : Path
        Made if it is not there; its folder must exist.
    """

    dialect = DIALECT

    def __init__(self, path: Path, busy_s: float = BUSY_S) -> None:
        self.name = str(path)
        self.contact = Contact()
        self._lock = threading.RLock()
        self._durable: bool | None = None
        with self._errors():
            self._sql = sqlite3.connect(path, timeout=busy_s, isolation_level=None, check_same_thread=False)
        try:
            with self._errors():
                self._open(busy_s)
        except Error:
            self._sql.close()
            raise

    @contextmanager
    def write(self, *, durable: bool) -> Iterator[sqlite3.Connection]:
        """See Database; what is not durable may be undone by a power cut, never by a kill."""
        with self._lock, self._errors():
            if durable is not self._durable:
                self._sql.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
                self._durable = durable
            self._sql.execute("BEGIN IMMEDIATE")
            try:
                yield self._sql
                self._sql.execute("COMMIT")
            except BaseException:
                if self._sql.in_transaction:
                    self._sql.execute("ROLLBACK")
                raise

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """See Database."""
        with self._lock, self._errors():
            self._sql.execute("BEGIN")
            try:
                yield self._sql
            finally:
                self._sql.execute("ROLLBACK")

    def rows(self, query: str, parameters: Parameters = ()) -> list[Any]:
        """See Database."""
        with self._lock, self._errors():
            return self._sql.execute(query, parameters).fetchall()

    def add_items(self, items: Iterable[tuple[str, str, str, int]]) -> int:
        """See Database."""
        self._cache(LOAD_KIB)
        try:
            with self.write(durable=True) as sql:
                before = sql.total_changes
                sql.executemany(
                    "INSERT INTO item (key, model, workitem, bytes) VALUES (?, ?, ?, ?) ON CONFLICT (key) DO NOTHING",
                    items,
                )
                return sql.total_changes - before
        finally:
            self._cache(CACHE_KIB)

    def close(self) -> None:
        """See Database."""
        with self._lock, self._errors():
            self._sql.close()

    def end_stalled(self) -> None:
        """See Database: none can be ended; who stands still keeps the file locked."""

    def error(self, reason: str) -> LedgerError:
        """See Database."""
        return LedgerError(self.name, reason)

    def _cache(self, kib: int) -> None:
        """Keep so many KiB of pages, and no more."""
        with self._lock, self._errors():
            self._sql.execute(f"PRAGMA cache_size = -{kib}")
            self._sql.execute("PRAGMA shrink_memory")

    def _open(self, busy_s: float) -> None:
        self._cache(CACHE_KIB)
        self._sql.row_factory = sqlite3.Row
        self._sql.execute("PRAGMA foreign_keys = ON")
        (tables,) = self._sql.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        (application,) = self._sql.execute("PRAGMA application_id").fetchone()
        if tables and application != APPLICATION_ID:
            raise LedgerCorrupt(self.name, "a database, but not a ledger of this program")
        self._write_ahead(busy_s)
        if tables and self._sql.execute("SELECT max(version) FROM migration").fetchone()[0] == VERSION:
            # Nothing to write: who only looks waits for no driver and no disk.
            return
        with self.write(durable=True) as sql:
            sql.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            migrate(sql, DIALECT, _TYPES, self.name, __version__)

    def _write_ahead(self, busy_s: float) -> None:
        """Keep a write-ahead log from now on: where another process just begins to, SQLite itself does not wait."""
        deadline = time.monotonic() + busy_s
        while True:
            try:
                self._sql.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as exc:
                if exc.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(_AGAIN_S)
            else:
                return

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as exc:
            # Locked, disk full, read only, not to be opened: nothing was changed.
            raise LedgerUnavailable(self.name, str(exc)) from exc
        except sqlite3.IntegrityError as exc:
            raise self.error(str(exc)) from exc
        except sqlite3.ProgrammingError as exc:
            raise self.error(str(exc)) from exc
        except sqlite3.DatabaseError as exc:
            raise LedgerCorrupt(self.name, str(exc)) from exc
        self.contact.answer()
