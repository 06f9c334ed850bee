"""A run's folder: its ledger, its lock, its pages."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .. import Error
from ..enrich.atomic import write_text

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class RunFolderError(Error):
    """A run's folder cannot be used."""

    code = "RUN_FOLDER"

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)

    def __str__(self) -> str:
        return f"{self.args[0]}: {self.args[1]}"


class RunBusy(RunFolderError):
    """Another driver works on this run now."""

    code = "RUN_BUSY"


class RunFolder:
    """Where one run keeps what is its own; made when first entered.

    Parameters
    ----------
    name : str
        A name (letters, digits, ``._-``), looked up under ``$VOXFLEET_RUNS`` or
        ``./voxfleet-runs``; or a path with a ``/`` in it.
    """

    def __init__(self, name: str) -> None:
        if "/" in name:
            self.path = Path(name).expanduser().resolve()
        elif _NAME.fullmatch(name):
            self.path = (Path(os.environ.get("VOXFLEET_RUNS", "voxfleet-runs")) / name).resolve()
        else:
            raise RunFolderError(name, "a run's name has letters, digits and ._- only")

    @property
    def name(self) -> str:
        """The run's name: the last part of its path."""
        return self.path.name

    @property
    def ledger(self) -> Path:
        """SQLite file with the truth of the run."""
        return self.path / "ledger.sqlite"

    @property
    def ledger_url(self) -> Path:
        """File with the URL of the ledger, where that is in a database that drivers share."""
        return self.path / "ledger.url"

    @property
    def results(self) -> Path:
        """Pages, tables and provenance, a folder a series."""
        return self.path / "series"

    @property
    def scratch(self) -> Path:
        """Local cache of the series in flight."""
        return self.path / "scratch"

    @property
    def report(self) -> Path:
        """Page of the run."""
        return self.path / "report.html"

    @property
    def plan(self) -> Path:
        """The plan that the run is held against, if one was recorded."""
        return self.path / "plan.json"

    def driver(self, node: str) -> str:
        """Name of this folder's driver in the ledger: the same when it begins again, and no other folder's anywhere.

        Machines that share a ledger may have folders of one path; who takes another's name takes back its work.
        Ask while the folder is `locked`.
        """
        token = self.path / "driver"
        if not token.is_file():
            write_text(token, secrets.token_hex(8))
        return f"{node}:{self.path}:{token.read_text(encoding='ascii')}"

    def must_exist(self) -> RunFolder:
        """The folder, if a run was begun in it; raises RunFolderError."""
        if not (self.ledger.is_file() or self.ledger_url.is_file()):
            raise RunFolderError(str(self.path), "no run was begun here; see `voxfleet enrich --help`")
        return self

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run for this process; the lock goes with the process, however it dies.

        Raises
        ------
        RunBusy
            If another process holds it.
        RunFolderError
            If the folder cannot be made or written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / "lock").open("w")
        except OSError as exc:
            raise RunFolderError(str(self.path), f"cannot be written: {exc.strerror}") from exc
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as exc:
                raise RunBusy(str(self.path), "another voxfleet works on this run now") from exc
            yield
