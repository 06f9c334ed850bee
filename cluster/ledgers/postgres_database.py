"""One PostgreSQL schema: connected, brought up to date, written in transactions, its errors made ours."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import psycopg
from psycopg import conninfo, errors, sql
from psycopg.rows import dict_row

from ... import Error, __version__
from ..ledger import LedgerError, LedgerUnavailable
from .contact import Contact
from .database import Dialect, Parameters, Rows, Transaction
from .migrating import migrate

DIALECT: Final = Dialect(
    now="extract(epoch FROM statement_timestamp())::float8",
    up="extract(epoch FROM pg_postmaster_start_time())::float8",
    lock="FOR UPDATE",
    locked="ORDER BY item.key FOR UPDATE OF item",
    take="FOR UPDATE SKIP LOCKED",
    alone="LOCK TABLE owner IN EXCLUSIVE MODE",
)

_TYPES: Final = {
    "serial": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
    "integer": "BIGINT",
    "real": "DOUBLE PRECISION",
    "boolean": "BOOLEAN",
    "false": "false",
    "table": "",
    "keyed": "",
}

CONNECT_S = 10
"""How long to wait for the server to accept a connection."""

STATEMENT_S = 30
"""How long one statement may run before LedgerUnavailable."""

LOCK_S = 12
"""How long one may wait for a lock: less than a break of the contact, and longer than `STILL_S`."""

STILL_S = 10.0
"""How long a driver may say nothing in a transaction that others may wait for."""

_END_STALLED: Final = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()
    AND application_name = current_setting('application_name')
    AND backend_xid IS NOT NULL AND wait_event IN ('ClientRead', 'ClientWrite') AND query NOT LIKE 'COPY %%'
    AND state_change < clock_timestamp() - make_interval(secs => %s)"""
"""Not who only reads, nor who sends new items: they have locked nothing that others wait for."""

LONGEST_NAME = 63
"""Bytes that PostgreSQL keeps of a name."""

_SETTINGS: Final = {
    "application_name": "voxfleet",
    "connect_timeout": CONNECT_S,
    # A server that is cut off answers nothing: without these the driver would wait for hours.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": STATEMENT_S * 1000,
    # Nor does a driver whose machine is gone: until the server gives it up, it keeps what it had locked.
    # One that stands still is ended by others: idle_in_transaction_session_timeout sees none in a pipeline.
    "options": f"-c statement_timeout={STATEMENT_S}s -c lock_timeout={LOCK_S}s"
    " -c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3 -c tcp_user_timeout=25000",
}


class PostgresDatabase:
    """A connection that threads may share, made anew after it broke.

    Parameters
    ----------
    url : str
        ``postgresql://[USER@]HOST[:PORT]/DATABASE`` or any libpq connection string without a
        password: that comes from ``PGPASSWORD``, ``PGPASSFILE`` or a certificate.
    schema : str
        PostgreSQL's namespace with the tables of this one run; made if it is not there.

    Raises
    ------
    LedgerError
        If the URL is none, or holds a password.
    LedgerUnavailable
        If the server does not answer.
    """

    dialect = DIALECT

    def __init__(self, url: str, schema: str) -> None:
        self._settings = _checked(url)
        if len(schema.encode()) > LONGEST_NAME:
            raise LedgerError(schema, f"a run in PostgreSQL has a name of at most {LONGEST_NAME} bytes")
        self._schema = schema
        host = self._settings.get("host", "")
        self.name = f"postgresql://{host}/{self._settings.get('dbname', '')}#{schema}"
        self.contact = Contact()
        self._lock = threading.RLock()
        self._open: psycopg.Connection[dict[str, Any]] | None = None
        try:
            with self._errors():
                self._migrate(self._connection())
        except Error:
            self.close()
            raise

    @contextmanager
    def write(self, *, durable: bool) -> Iterator[Transaction]:
        """See Database."""
        with self._lock, self._errors():
            connection = self._connection()
            # Statements whose results nobody reads wait for none: nine journeys to the server for a workitem, not 29.
            with connection.pipeline() as pipeline, connection.transaction():
                connection.execute("SET LOCAL synchronous_commit = " + ("on" if durable else "off"))
                yield _Transaction(connection, pipeline)

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """See Database."""
        with self._lock, self._errors():
            connection = self._connection()
            with connection.transaction():
                connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                yield _Transaction(connection)

    def rows(self, query: str, parameters: Parameters = ()) -> list[Any]:
        """See Database."""
        with self._lock, self._errors():
            return _Transaction(self._connection()).execute(query, parameters).fetchall()

    def add_items(self, items: Iterable[tuple[str, str, str, int]]) -> int:
        """See Database."""
        # Not in a pipeline: psycopg 3.3's `Pipeline.sync` waits for ever where megabytes are yet to be sent.
        with self._lock, self._errors():
            connection = self._connection()
            with connection.transaction(), connection.cursor() as cursor:
                cursor.execute(
                    """CREATE TEMPORARY TABLE incoming
                    (n BIGINT GENERATED ALWAYS AS IDENTITY, key TEXT, model TEXT, workitem TEXT, bytes BIGINT)
                    ON COMMIT DROP"""
                )
                with cursor.copy("COPY incoming (key, model, workitem, bytes) FROM STDIN") as copy:
                    for item in items:
                        copy.write_row(item)
                cursor.execute(
                    """INSERT INTO item (key, model, workitem, bytes)
                    SELECT key, model, workitem, bytes FROM incoming ORDER BY n ON CONFLICT (key) DO NOTHING"""
                )
                return cursor.rowcount

    def end_stalled(self) -> None:
        """See Database; a driver whose transaction was ended has LedgerUnavailable when it goes on."""
        with self._lock, self._errors():
            self._connection().execute(_END_STALLED, (STILL_S,))

    def error(self, reason: str) -> LedgerError:
        """See Database."""
        return LedgerError(self.name, reason)

    def close(self) -> None:
        """See Database."""
        with self._lock:
            if self._open is not None:
                self._open.close()

    def _connection(self) -> psycopg.Connection[dict[str, Any]]:
        if self._open is None or self._open.closed:
            new = psycopg.connect(**self._settings, autocommit=True, row_factory=dict_row)
            try:
                new.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(self._schema)))
            except psycopg.Error:
                # Kept, it would look for this run's tables where they are not.
                new.close()
                raise
            self._open = new
        return self._open

    def _migrate(self, connection: psycopg.Connection[dict[str, Any]]) -> None:
        with connection.transaction():
            # Two cells that begin at once must not both make the tables.
            connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (self._schema,))
            connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(self._schema)))
            migrate(_Transaction(connection), DIALECT, _TYPES, self.name, __version__)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except errors.LockNotAvailable as exc:
            with suppress(LedgerError):
                self.end_stalled()
            raise LedgerUnavailable(self.name, _line(exc)) from exc
        except (errors.DeadlockDetected, errors.SerializationFailure, errors.QueryCanceled) as exc:
            raise LedgerUnavailable(self.name, _line(exc)) from exc
        except (psycopg.IntegrityError, psycopg.DataError, psycopg.ProgrammingError) as exc:
            raise self.error(_line(exc)) from exc
        except psycopg.Error as exc:
            # The server is away, restarting, out of disk, or the network is cut: nothing was changed.
            raise LedgerUnavailable(self.name, _line(exc)) from exc
        self.contact.answer()


class _Transaction:
    """Statements on a connection, with SQLite's ``?`` for each parameter."""

    def __init__(
        self, connection: psycopg.Connection[dict[str, Any]], pipeline: psycopg.Pipeline | None = None
    ) -> None:
        self._connection, self._pipeline = connection, pipeline

    def execute(self, statement: str, parameters: Parameters = (), /) -> Rows:
        """See Transaction."""
        cursor = self._connection.execute(statement.replace("?", "%s").encode(), parameters)
        return cursor if self._pipeline is None else _Awaited(cursor, self._pipeline)

    def executemany(self, statement: str, parameters: Iterable[Parameters], /) -> None:
        """See Transaction."""
        with self._connection.cursor() as cursor:
            cursor.executemany(statement.replace("?", "%s").encode(), parameters)


class _Awaited:
    """Rows that are on their way until somebody asks for them."""

    def __init__(self, cursor: psycopg.Cursor[dict[str, Any]], pipeline: psycopg.Pipeline) -> None:
        self._cursor, self._pipeline = cursor, pipeline

    @property
    def rowcount(self) -> int:
        """See Rows."""
        self._pipeline.sync()
        return self._cursor.rowcount

    def fetchone(self) -> Any:
        """See Rows."""
        return self._cursor.fetchone()

    def fetchall(self) -> list[Any]:
        """See Rows."""
        return self._cursor.fetchall()


def _checked(url: str) -> dict[str, Any]:
    """The connection's settings; raises LedgerError for what is no URL or holds a secret."""
    try:
        settings = conninfo.conninfo_to_dict(url)
    except psycopg.ProgrammingError as exc:
        raise LedgerError("--ledger", f"not a PostgreSQL URL: {_line(exc)}") from None
    if "password" in settings:
        host = settings.get("host", "")
        raise LedgerError(f"postgresql://{host}", "holds a password; put it into PGPASSWORD or ~/.pgpass")
    return {**_SETTINGS, **settings}


def _line(error: psycopg.Error) -> str:
    return " ".join(str(error).split()) or type(error).__name__
