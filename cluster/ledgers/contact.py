"""Since when a process has been in contact with its ledger's database: whose silence it is that it finds."""

from __future__ import annotations

import math
import time
from typing import Final

BREAK_S: Final = 15.0
"""Without an answer for so long, drivers may have missed heartbeats; one that is at work asks every two seconds."""

_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""It goes on while the machine sleeps, where there is such a clock."""


class Contact:
    """A process's contact with one database, from its first heartbeat on.

    Who was cut off itself, stood still or slept cannot tell drivers that died from drivers that were not heard
    either. Once it is back it takes nobody for dead until each had the time for a heartbeat.
    """

    def __init__(self) -> None:
        self._answered, self._since = math.inf, -math.inf

    @property
    def lasts_s(self) -> float:
        """Seconds since the last break ended: infinite where there was none, 0 while one lasts."""
        return 0.0 if self._broken else _now() - self._since

    def begin(self) -> None:
        """Note that a driver is about to be heard: before that it may be silent, while it starts a cluster say."""
        self._answered = min(self._answered, _now())

    def answer(self) -> None:
        """Note that the database answered."""
        if self._broken:
            self._since = _now()
        if self._answered < math.inf:
            self._answered = _now()

    @property
    def _broken(self) -> bool:
        return _now() - self._answered > BREAK_S


def _now() -> float:
    return time.clock_gettime(_CLOCK)
