"""A ledger of an older version brought up to date, unless drivers of that version are at work on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from ..ledger import LedgerCorrupt, LedgerError
from .database import Dialect, Row, Transaction
from .records import moment
from .schema import VERSION, migration_table, steps_from

MOST_NAMED: Final = 3
"""Drivers at work that an error names."""

_LEASES_SAY_HOW_LONG: Final = 8
"""Version from which an owner's row has the time for which its leases hold."""


class LedgerInUse(LedgerError):
    """Drivers of an older version are at work on the ledger: its tables are not changed under them."""

    code = "LEDGER_IN_USE"
    retryable = True


def migrate(sql: Transaction, words: Dialect, types: Mapping[str, str], name: str, platform_version: str) -> None:
    """Bring the tables of the ledger `name` up to date, in a transaction of which no other driver sees a part.

    Parameters
    ----------
    types : mapping of str to str
        The database's own words for what the schema leaves open.
    platform_version : str
        Written down with each step.

    Raises
    ------
    LedgerCorrupt
        If the tables are of a newer version.
    LedgerInUse
        If they are of an older one and a driver's lease holds.
    """
    sql.execute(migration_table(types))
    version = sql.execute("SELECT coalesce(max(version), 0) AS version FROM migration").fetchone()["version"]
    if version > VERSION:
        raise LedgerCorrupt(name, f"schema {version} is newer than {VERSION}; use a newer voxfleet")
    if 0 < version < VERSION and (found := _at_work(sql, words, version)):
        raise LedgerInUse(name, _told(version, found))
    for number, statements in steps_from(version, types):
        for statement in statements:
            sql.execute(statement)
        sql.execute(
            f"INSERT INTO migration VALUES (?, {words.now}, ?)",  # noqa: S608
            (number, platform_version),
        )


def _at_work(sql: Transaction, words: Dialect, version: int) -> Sequence[Row]:
    """Owners whose leases hold, with when that ends; none begins or goes on before the transaction ends."""
    if words.alone:
        sql.execute(words.alone)
    # As for whoever takes them for dead: while the database was away they could not be heard.
    until, back = "lease_until", f"{words.up} + lease_s"
    if version >= _LEASES_SAY_HOW_LONG:
        until = f"CASE WHEN lease_s > 0 AND {back} > lease_until THEN {back} ELSE lease_until END"
    return sql.execute(
        f"SELECT owner, until FROM (SELECT owner, {until} AS until FROM owner) AS told "  # noqa: S608
        f"WHERE until > {words.now} ORDER BY until DESC, owner"
    ).fetchall()


def _told(version: int, found: Sequence[Row]) -> str:
    named = ", ".join(
        f"{row['owner']} until {moment(row['until']):%Y-%m-%d %H:%M:%S} UTC" for row in found[:MOST_NAMED]
    )
    more = f" and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
    return (
        f"it is of version {version}, this voxfleet needs {VERSION}, and drivers of the older one hold leases: "
        f"{named}{more}; end them, or wait until their leases have ended, and try again"
    )
