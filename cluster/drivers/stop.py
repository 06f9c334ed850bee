"""A driver told to stop: by its user, or since its machine is about to be taken away."""

from __future__ import annotations

import math
import signal
from threading import Event
from time import monotonic

from ..ledgers.attempt import LOST, PREEMPTED

ONE_NOTICE_S = 5.0
"""SIGTERM that comes again within this time is the same notice: Slurm tells the script and the program that it runs."""


class Stop(Event):
    """Set by a signal; SIGTERM is what clouds, Kubernetes and Slurm send before they take a machine away."""

    def __init__(self) -> None:
        super().__init__()
        self.notice = False
        self._noticed = -math.inf

    def told(self, number: int) -> bool:
        """Stop, by the signal of that number; whether it was told before, and is to stop at once."""
        again, now = self.is_set(), monotonic()
        if number == signal.SIGTERM:
            again = again and now - self._noticed > ONE_NOTICE_S
            self._noticed = self._noticed if self.notice else now
            self.notice = True
        self.set()
        return again


def has_notice(stop: Event) -> bool:
    """Whether the machine is about to be taken away."""
    return isinstance(stop, Stop) and stop.notice


def loss_code(stop: Event) -> str:
    """Code of the failure of what a driver that stops gives up."""
    return PREEMPTED if has_notice(stop) else LOST
