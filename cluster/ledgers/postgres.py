"""The ledger in PostgreSQL: for many drivers on many machines (``FOR UPDATE SKIP LOCKED``).

Each run has a schema (PostgreSQL's namespace) of its own in the database, named after the run:
many runs share a server, none sees another's rows, and `DROP SCHEMA` forgets one.
"""

from __future__ import annotations

from .postgres_database import PostgresDatabase
from .sql_ledger import SqlLedger


class PostgresLedger(SqlLedger):
    """The ledger of the run `run` in the database at `url`, made if it is not there.

    Raises
    ------
    LedgerCorrupt
        If it was made by a newer version.
    LedgerInUse
        If drivers of an older version are at work on it.
    LedgerError
        If `url` is none, or holds a password.
    LedgerUnavailable
        If the server does not answer, or may not be written.
    """

    def __init__(self, url: str, run: str) -> None:
        super().__init__(PostgresDatabase(url, run))
