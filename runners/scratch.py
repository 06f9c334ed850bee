"""The local cache of one node, and what nodes that were killed left beside it."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import tempfile
from contextlib import suppress
from glob import escape
from pathlib import Path


class Scratch:
    """A folder of a node's own in a place that several nodes of a machine may share; gone once it is closed.

    A node that is killed removes nothing. The next one of its machine to begin in that place does: a folder is
    in use for as long as it is locked, and the kernel takes a lock away with the process that holds it.

    Parameters
    ----------
    place : Path
        Made if it is not there.
    """

    def __init__(self, place: Path) -> None:
        place.mkdir(parents=True, exist_ok=True)
        door = _opened(place)
        try:
            # Another node that begins now must not see a folder of ours that is not yet locked.
            with suppress(OSError):
                fcntl.flock(door, fcntl.LOCK_EX)
            # Of this machine alone: on a file system that machines share, locks of folders hold on one of them.
            mine = f"node-{socket.gethostname()}@"
            for left in place.glob(f"{escape(mine)}*"):
                _remove_unless_locked(left)
            self.path = Path(tempfile.mkdtemp(prefix=mine, dir=place))
            self._lock = _opened(self.path)
            with suppress(OSError):
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(door)

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _opened(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY)


def _remove_unless_locked(folder: Path) -> None:
    """Remove a folder that no living process has locked; where that cannot be told, leave it."""
    try:
        handle = _opened(folder)
    except OSError:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except OSError:
        return
    finally:
        os.close(handle)
