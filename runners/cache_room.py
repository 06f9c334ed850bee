"""Room in the local cache: how many bytes series in flight may take of a node's disk."""

from __future__ import annotations

import shutil
from pathlib import Path
from threading import Condition

FREE_SHARE = 0.5
"""Of what is free on the disk, that one more series may take: the rest is for those in flight, and for others."""

TIMES = 4
"""So many times its own size a series takes: as it was sent, as a volume, as a label map, as results."""

_LOOK_S = 1.0
"""How often the disk is looked at again, on which others may make room."""


class CacheRoom:
    """Lets a series in where there is room for it, and else once there is; one that is larger than all room goes alone.

    Who waits for room must hold none, so that those who hold some come to their end.

    Parameters
    ----------
    place : Path
        The local cache.
    most_bytes : int
        Of all series in it together; 0: as much as `FREE_SHARE` lets in.
    """

    def __init__(self, place: Path, most_bytes: int = 0) -> None:
        self._place, self._most_bytes = place, most_bytes
        self._held: dict[str, int] = {}
        self._changed = Condition()
        self._open = False

    @property
    def held_bytes(self) -> int:
        """What those in flight are taken to need together."""
        return sum(self._held.values())

    def enter(self, key: str, needed_bytes: int) -> None:
        """Wait until there is room for so many bytes, and hold them under this key."""
        with self._changed:
            while not self._has_room(needed_bytes):
                self._changed.wait(_LOOK_S)
            self._held[key] = needed_bytes

    def correct(self, key: str, needed_bytes: int) -> None:
        """Hold so many instead, now that it is known."""
        with self._changed:
            self._held[key] = needed_bytes
            self._changed.notify_all()

    def leave(self, key: str) -> None:
        """Hold nothing under this key any more."""
        with self._changed:
            self._held.pop(key, None)
            self._changed.notify_all()

    def open(self) -> None:
        """Let everybody in from now on: a node that is given up has nothing to wait for."""
        with self._changed:
            self._open = True
            self._changed.notify_all()

    def _has_room(self, needed_bytes: int) -> bool:
        if self._open or not self._held:
            return True
        if self._most_bytes:
            return self.held_bytes + needed_bytes <= self._most_bytes
        try:
            return needed_bytes <= FREE_SHARE * shutil.disk_usage(self._place).free
        except OSError:
            # Somebody removed it: the stage that is to write there says so.
            return True
