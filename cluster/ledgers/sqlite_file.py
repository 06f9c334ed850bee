"""One SQLite file: opened, brought up to date, written in transactions, its errors made ours."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ... import Error, __version__
from ..ledger import LedgerCorrupt, LedgerError, LedgerUnavailable
from .sqlite_schema import APPLICATION_ID, MIGRATION_TABLE, MIGRATIONS

BUSY_S = 30.0
"""How long a call waits for another process's transaction before LedgerUnavailable."""

NOW = "((julianday('now') - 2440587.5) * 86400.0)"
"""SQL for Unix seconds by the database's clock (to the millisecond)."""

DURABLE, QUICK = "FULL", "NORMAL"
"""Whether a commit is on the disk when it returns, or may be undone by a power cut (never by a kill)."""


class SqliteFile:
    """A connection that threads may share; each process opens its own.

    Parameters
    ----------
    path : Path
        Made if it is not there; its folder must exist.
    """

    def __init__(self, path: Path, busy_s: float = BUSY_S) -> None:
        self.path = path
        self._lock = threading.RLock()
        with self._errors():
            self._sql = sqlite3.connect(path, timeout=busy_s, isolation_level=None, check_same_thread=False)
        try:
            with self._errors():
                self._open()
        except Error:
            self._sql.close()
            raise

    @contextmanager
    def write(self, durability: str) -> Iterator[sqlite3.Connection]:
        """All of the block or, if it raises, nothing of it."""
        with self._lock, self._errors():
            self._sql.execute(f"PRAGMA synchronous = {durability}")
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
        """Several queries of the block on one state of the file."""
        with self._lock, self._errors():
            self._sql.execute("BEGIN")
            try:
                yield self._sql
            finally:
                self._sql.execute("ROLLBACK")

    def rows(self, query: str, parameters: Mapping[str, object] | tuple[object, ...] = ()) -> list[sqlite3.Row]:
        """All rows that one query gives."""
        with self._lock, self._errors():
            return self._sql.execute(query, parameters).fetchall()

    def close(self) -> None:
        """Let the file go."""
        with self._lock, self._errors():
            self._sql.close()

    def error(self, reason: str) -> LedgerError:
        """An error that names this file."""
        return LedgerError(str(self.path), reason)

    def _open(self) -> None:
        self._sql.row_factory = sqlite3.Row
        self._sql.execute("PRAGMA foreign_keys = ON")
        (tables,) = self._sql.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        (application,) = self._sql.execute("PRAGMA application_id").fetchone()
        if tables and application != APPLICATION_ID:
            raise LedgerCorrupt(str(self.path), "a database, but not a ledger of this program")
        self._sql.execute("PRAGMA journal_mode = WAL")
        with self.write(DURABLE) as sql:
            sql.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            sql.execute(MIGRATION_TABLE)
            (version,) = sql.execute("SELECT coalesce(max(version), 0) FROM migration").fetchone()
            if version > len(MIGRATIONS):
                raise LedgerCorrupt(
                    str(self.path), f"schema {version} is newer than {len(MIGRATIONS)}; use a newer voxfleet"
                )
            for number, statements in enumerate(MIGRATIONS[version:], start=version + 1):
                for statement in statements:
                    sql.execute(statement)
                sql.execute(f"INSERT INTO migration VALUES (?, {NOW}, ?)", (number, __version__))  # noqa: S608

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as exc:
            # Locked, disk full, read only, not to be opened: nothing was changed.
            raise LedgerUnavailable(str(self.path), str(exc)) from exc
        except sqlite3.IntegrityError as exc:
            raise self.error(str(exc)) from exc
        except sqlite3.ProgrammingError as exc:
            raise self.error(str(exc)) from exc
        except sqlite3.DatabaseError as exc:
            raise LedgerCorrupt(str(self.path), str(exc)) from exc
