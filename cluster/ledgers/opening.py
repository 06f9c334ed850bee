"""A run's ledger, wherever it is kept: by what stands in the run's folder, or by its URL."""

from __future__ import annotations

from ..ledger import Ledger, LedgerError
from ..run_folder import RunFolder
from .sqlite import SqliteLedger


class NoDriver(LedgerError):
    """The package that speaks to PostgreSQL is not installed."""

    code = "NOT_INSTALLED"


def open_ledger(folder: RunFolder) -> Ledger:
    """The ledger of a run: in PostgreSQL where the folder's ``ledger.url`` says so, else SQLite in the folder.

    Raises
    ------
    LedgerError
        If it cannot be opened; see the ledgers.
    """
    if folder.ledger_url.is_file():
        return open_shared_ledger(folder.ledger_url.read_text(encoding="utf-8").strip(), folder.name)
    return SqliteLedger(folder.ledger)


def open_shared_ledger(url: str, run: str) -> Ledger:
    """The ledger of the run `run` in the PostgreSQL database at `url`; see `PostgresLedger`."""
    # psycopg is an extra, and takes time to import that --on local does not have.
    try:
        from .postgres import PostgresLedger
    except ImportError as exc:
        raise NoDriver(run, "a ledger in PostgreSQL needs psycopg: pip install 'voxfleet[postgres]'") from exc
    return PostgresLedger(url, run)


def keep_in(folder: RunFolder, url: str) -> None:
    """Let the run's ledger be in the PostgreSQL database at `url` from now on.

    Raises
    ------
    LedgerError
        If the run has a ledger elsewhere, or `url` is none or holds a password.
    """
    if folder.ledger.is_file():
        raise LedgerError(str(folder.ledger), "this run's ledger is this file; begin a new run for --ledger")
    if folder.ledger_url.is_file() and folder.ledger_url.read_text(encoding="utf-8").strip() != url:
        raise LedgerError(str(folder.ledger_url), "this run's ledger is in another database")
    open_shared_ledger(url, folder.name).close()
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.ledger_url.write_text(f"{url}\n", encoding="utf-8")
