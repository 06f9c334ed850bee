"""What a folder archive or a bucket holds, remembered on this machine so that no file's header is read twice.

The index is a cache and nothing more: one SQLite file for each folder under
``$VOXFLEET_CACHE/folders`` (else ``$XDG_CACHE_HOME/voxfleet/folders``, ``~/.cache/voxfleet/folders``),
written by a search and read by `retrieve`, also in other processes. A file counts as known while its
size and modification time are the same. It may be removed at any time; where it cannot be written,
it is kept in memory and every process reads the headers once.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..header import Header
from ..uids import ObjectUids

_SCHEMA_VERSION = 2
_BUSY_S = 60.0
"""How long one process waits while another writes the same index."""
_SCHEMA: Final = (
    """
    CREATE TABLE files (
        folder BLOB NOT NULL, name BLOB NOT NULL, bytes INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
        study TEXT NOT NULL, series TEXT NOT NULL, instance TEXT NOT NULL, class TEXT NOT NULL,
        modality TEXT NOT NULL, code TEXT NOT NULL, reason TEXT NOT NULL,
        PRIMARY KEY (folder, name)) WITHOUT ROWID
    """,
    "CREATE INDEX by_series ON files (series, instance)",
    "CREATE INDEX by_instance ON files (instance)",
)


@dataclass(frozen=True, slots=True)
class FoundFile:
    """One file of the tree and what its header said; `path` is relative to the archive's folder.

    For objects of a bucket, `mtime_ns` is a number made of the ETag: another content has another.
    """

    path: str
    bytes: int
    mtime_ns: int
    header: Header


class FolderIndex:
    """Files of one folder archive, by folder, series and instance."""

    def __init__(self, root: Path) -> None:
        self._connection = _open(root)

    def known(self, folder: str) -> dict[str, FoundFile]:
        """Name -> file, for all files that the index has directly in one folder."""
        rows = self._connection.execute("SELECT * FROM files WHERE folder = ?", (os.fsencode(folder),))
        return {os.fsdecode(row[1]): _file(row) for row in rows}

    def replace(self, folder: str, gone: list[str], found: list[FoundFile]) -> None:
        """Forget the files named in `gone` and remember those `found` in one folder."""
        forgotten = [(os.fsencode(folder), os.fsencode(name)) for name in gone]
        self._change("DELETE FROM files WHERE folder = ? AND name = ?", forgotten)
        self._change(
            "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", [_row(each) for each in found]
        )

    def keep_folders(self, folders: set[str]) -> None:
        """Forget the files of all other folders."""
        known = self._connection.execute("SELECT DISTINCT folder FROM files").fetchall()
        gone = [row for row in known if os.fsdecode(row[0]) not in folders]
        self._change("DELETE FROM files WHERE folder = ?", gone)

    def times_ns(self) -> set[int]:
        """Modification times of all files."""
        return {row[0] for row in self._connection.execute("SELECT DISTINCT mtime_ns FROM files")}

    def refused(self) -> Iterator[FoundFile]:
        """Files that are no usable instance, by path."""
        rows = self._connection.execute("SELECT * FROM files WHERE code <> '' ORDER BY folder, name")
        return (_file(row) for row in rows.fetchall())

    def series(self) -> list[str]:
        """Series Instance UIDs, each once, in order."""
        rows = self._connection.execute("SELECT DISTINCT series FROM files WHERE code = '' ORDER BY series")
        return [row[0] for row in rows]

    def files_of(self, series_instance_uid: str) -> list[FoundFile]:
        """Files of one series, by SOP Instance UID and path."""
        rows = self._connection.execute(
            "SELECT * FROM files WHERE code = '' AND series = ? ORDER BY instance, folder, name", (series_instance_uid,)
        )
        return [_file(row) for row in rows]

    def doubled(self) -> list[list[FoundFile]]:
        """Files grouped where several bear one SOP Instance UID, in whichever series."""
        rows = self._connection.execute(
            "SELECT * FROM files WHERE code = '' AND instance IN (SELECT instance FROM files WHERE code = '' "
            "GROUP BY instance HAVING COUNT(*) > 1) ORDER BY instance, folder, name"
        )
        groups: dict[str, list[FoundFile]] = {}
        for row in rows:
            groups.setdefault(row[6], []).append(_file(row))
        return list(groups.values())

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _change(self, statement: str, rows: Sequence[tuple[bytes | str | int, ...]]) -> None:
        """Write rows; from the moment that the disk takes no more, into memory."""
        try:
            with self._connection:
                self._connection.executemany(statement, rows)
        except sqlite3.OperationalError:
            on_disk, self._connection = self._connection, _prepared(":memory:")
            on_disk.backup(self._connection)
            on_disk.close()
            with self._connection:
                self._connection.executemany(statement, rows)


def _row(found: FoundFile) -> tuple[bytes | str | int, ...]:
    folder, name = os.path.split(os.fsencode(found.path))
    uids = found.header.uids or ObjectUids("", "", "", "")
    identity = (uids.study_instance_uid, uids.series_instance_uid, uids.sop_instance_uid, uids.sop_class_uid)
    said = (found.header.modality, found.header.code, found.header.reason)
    return (folder, name, found.bytes, found.mtime_ns, *identity, *said)


def _file(row: tuple[bytes, bytes, int, int, str, str, str, str, str, str, str]) -> FoundFile:
    folder, name, size, mtime_ns, study, series, instance, sop_class, modality, code, reason = row
    uids = None if code else ObjectUids(study, series, instance, sop_class)
    path = os.fsdecode(os.path.join(folder, name))  # noqa: PTH118 - bytes, as the file system has them
    return FoundFile(path, size, mtime_ns, Header(uids, modality, code, reason))


def _open(root: Path) -> sqlite3.Connection:
    name = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:32]
    path = _cache_folder() / f"{name}.sqlite"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            return _prepared(str(path))
        except sqlite3.DatabaseError as exc:
            if isinstance(exc, sqlite3.OperationalError):
                raise
            path.unlink()
            return _prepared(str(path))
    except (OSError, sqlite3.OperationalError):
        return _prepared(":memory:")


def _prepared(path: str) -> sqlite3.Connection:
    """Connection to an index with our tables; of several processes that make it at once, one does."""
    connection = sqlite3.connect(path, timeout=_BUSY_S, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        if connection.execute("PRAGMA user_version").fetchone()[0] != _SCHEMA_VERSION:
            connection.execute("DROP TABLE IF EXISTS files")
            for statement in _SCHEMA:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
    return connection


def _cache_folder() -> Path:
    if own := os.environ.get("VOXFLEET_CACHE"):
        return Path(own) / "folders"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "voxfleet" / "folders"
