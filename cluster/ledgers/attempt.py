"""An attempt at a workitem: leased, begun, ended; and where the workitem goes by how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from ...runners.consumption import Consumption
from ...runners.node_memory import UNKNOWN_MEMORY, NodeMemory
from ...runners.workitem import Failure, Outcome, State, Workitem

MOST_FAILS = 2
"""Attempts that may fail by the item's own fault before it is CANCELED."""

MOST_LOSSES = 5
"""Attempts that may be lost to the infrastructure; more, and the item is taken to kill machines."""

PAUSES_S = (15.0, 60.0, 240.0, 960.0)
"""After an item's first, second, ... loss to an archive that did not answer, before it is tried again."""

OUT_OF_MEMORY = "OUT_OF_MEMORY"
"""Code of the failure after which an item goes to a node with more memory, and nowhere else."""

LOST = "LOST"
"""Code of the failure of an attempt whose machine died."""

PREEMPTED = "PREEMPTED"
"""Code of the failure of an attempt that was lost, too, but whose machine had given notice."""


class AttemptClass(StrEnum):
    """How an attempt ended; the ledger's word for who is to blame."""

    COMPLETED = "completed"
    REFUSED = "refused"
    FAILED = "failed"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Lease:
    """A workitem that an owner holds until its heartbeat stops.

    Attributes
    ----------
    fence : int
        One higher than at the item's last lease; finishing needs the newest.
    attempt : int
        From 1: which attempt at this item this is.
    """

    workitem: Workitem
    owner: str
    fence: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at one workitem: open while `ended` is None.

    Attributes
    ----------
    memory : NodeMemory
        Class of the node that it was leased for.
    """

    key: str
    fence: int
    owner: str
    node: str
    started: datetime
    ended: datetime | None
    outcome: AttemptClass | None
    failure: Failure | None = None
    consumption: tuple[Consumption, ...] = ()
    memory: NodeMemory = UNKNOWN_MEMORY

    @property
    def preempted(self) -> bool:
        """Whether it was lost with a machine that was taken away after a notice."""
        return self.outcome is AttemptClass.LOST and self.failure is not None and self.failure.code == PREEMPTED


@dataclass(frozen=True, slots=True)
class Item:
    """A workitem and where it stands."""

    workitem: Workitem
    state: State
    fails: int
    losses: int
    failure: Failure | None = None
    repairs: tuple[str, ...] = ()
    failed_features: tuple[str, ...] = ()


def attempt_class(outcome: Outcome) -> AttemptClass:
    """What an attempt counts as: completed, or whose fault it was."""
    if outcome.state is State.COMPLETED:
        return AttemptClass.COMPLETED
    if outcome.failure is not None and outcome.failure.lost:
        return AttemptClass.LOST
    if outcome.failure is not None and outcome.failure.refused:
        return AttemptClass.REFUSED
    return AttemptClass.FAILED


def state_after(kind: AttemptClass, *, fails: int, losses: int, failure: Failure | None) -> State:
    """Where a workitem goes after an attempt.

    Parameters
    ----------
    kind : AttemptClass
        How the attempt ended.
    fails, losses : int
        The item's counters, this attempt included.
    failure : Failure or None
        Why it did not complete.
    """
    if kind is AttemptClass.COMPLETED:
        return State.COMPLETED
    if kind is AttemptClass.REFUSED:
        return State.CANCELED
    if kind is AttemptClass.LOST:
        return State.SCHEDULED if losses < MOST_LOSSES else State.CANCELED
    if failure is not None and failure.code == OUT_OF_MEMORY:
        # Where there is more: with each attempt it grows, and so this ends.
        return State.SCHEDULED
    return State.SCHEDULED if failure is not None and failure.retryable and fails < MOST_FAILS else State.CANCELED


def pause_s(failure: Failure | None, losses: int) -> float:
    """Seconds before an item is tried again after its `losses`-th loss."""
    return PAUSES_S[min(losses, len(PAUSES_S)) - 1] if failure is not None and failure.outage else 0.0
