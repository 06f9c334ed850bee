"""A driver told to stop: by its user, or since its machine is about to be taken away."""

from __future__ import annotations

import signal
from threading import Event

from ..ledgers.attempt import LOST, PREEMPTED


class Stop(Event):
    """Set by a signal; SIGTERM is what clouds, Kubernetes and Slurm send before they take a machine away."""

    def __init__(self) -> None:
        super().__init__()
        self.notice = False

    def told(self, number: int) -> None:
        """Stop, by the signal of that number."""
        self.notice = self.notice or number == signal.SIGTERM
        self.set()


def has_notice(stop: Event) -> bool:
    """Whether the machine is about to be taken away."""
    return isinstance(stop, Stop) and stop.notice


def loss_code(stop: Event) -> str:
    """Code of the failure of what a driver that stops gives up."""
    return PREEMPTED if has_notice(stop) else LOST
