"""The ledger in one SQLite file: the default, for one driver or a few on one machine.

Write-ahead log. Not for network file systems: the log needs shared memory.
"""

from __future__ import annotations

from pathlib import Path

from .sql_ledger import SqlLedger
from .sqlite_file import BUSY_S, SqliteFile


class SqliteLedger(SqlLedger):
    """A ledger in the file `path`, made if it is not there.

    Raises
    ------
    LedgerCorrupt
        If the file is no ledger, or was made by a newer version.
    LedgerInUse
        If drivers of an older version are at work on it.
    LedgerUnavailable
        If it cannot be opened or written.
    """

    def __init__(self, path: Path, busy_s: float = BUSY_S) -> None:
        super().__init__(SqliteFile(path, busy_s))
