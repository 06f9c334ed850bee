"""A PostgreSQL of its own on a socket in a folder: nothing listens on any network, nothing stays."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from ... import Error

INSTALLED = Path("/usr/lib/postgresql")
"""Where Debian and its kin put the programs of each version."""
START_S = 120
"""Until it is up, or has ended: on a machine that is busy with something else."""


class NoPostgres(Error):
    """PostgreSQL is not installed, or one of its programs fails."""

    code = "NO_POSTGRES"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)


@dataclass(frozen=True)
class Postgres:
    """A PostgreSQL in `folder`, started and stopped by hand."""

    folder: Path
    programs: Path

    @property
    def url(self) -> str:
        """For `PostgresLedger`."""
        return f"postgresql://postgres@/postgres?host={self.folder}"

    def make(self) -> None:
        """Make the server's files."""
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres")
        self._run("initdb", "--auth=trust", "--username=postgres", "--no-sync")

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = f"--options=-k {self.folder} -h ''"
        self._run("pg_ctl", "start", "--wait", f"--timeout={START_S}", f"--log={self.folder}/log", options)

    def stop(self, mode: str = "immediate") -> None:
        """Stop it: ``immediate`` is as if it had been killed."""
        self._run("pg_ctl", "stop", f"--mode={mode}", check=False)

    def freeze(self) -> None:
        """Let it stand still, with all its processes: who asks waits, and nobody is told."""
        for process in self._processes():
            process.suspend()

    def thaw(self) -> None:
        """Let it go on."""
        for process in self._processes():
            process.resume()

    def _processes(self) -> list[psutil.Process]:
        """The first one, which makes the others, and these."""
        first = psutil.Process(int((self.folder / "data" / "postmaster.pid").read_text().split()[0]))
        return [first, *first.children()]

    def _run(self, program: str, *options: str, check: bool = True) -> None:
        # The server must not run as root.
        become = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
        command = [*become, str(self.programs / program), f"--pgdata={self.folder}/data", *options]
        done = subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, timeout=2 * START_S, check=False
        )
        if check and done.returncode:
            raise NoPostgres(f"{program}: {done.stdout}{done.stderr}")


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """An empty server while the block runs; raises NoPostgres."""
    programs = sorted(INSTALLED.glob("*/bin/pg_ctl"))
    if not programs:
        raise NoPostgres("PostgreSQL is not there: apt-get install postgresql")
    # A socket's path has at most 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    server = Postgres(folder, programs[-1].parent)
    try:
        server.make()
        server.start()
        yield server
    finally:
        try:
            server.stop()
        finally:
            shutil.rmtree(folder, ignore_errors=True)
