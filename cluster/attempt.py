"""An attempt at a workitem: leased, begun, ended; and where the workitem goes by how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from ..runners.consumption import Consumption
from ..runners.workitem import Failure, Outcome, State, Workitem

MOST_FAILS = 2
"""Attempts that may fail by the item's own fault before it is CANCELED."""

MOST_LOSSES = 5
"""Attempts that may be lost to the infrastructure; more, and the item is taken to kill machines."""


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
    """One attempt at one workitem: open while `ended` is None."""

    key: str
    fence: int
    owner: str
    node: str
    started: datetime
    ended: datetime | None
    outcome: AttemptClass | None
    failure: Failure | None = None
    consumption: tuple[Consumption, ...] = ()

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


def state_after(kind: AttemptClass, *, fails: int, losses: int, retryable: bool) -> State:
    """Where a workitem goes after an attempt.

    Parameters
    ----------
    kind : AttemptClass
        How the attempt ended.
    fails, losses : int
        The item's counters, this attempt included.
    retryable : bool
        Whether a failed attempt may succeed when tried again.
    """
    if kind is AttemptClass.COMPLETED:
        return State.COMPLETED
    if kind is AttemptClass.REFUSED:
        return State.CANCELED
    if kind is AttemptClass.LOST:
        return State.SCHEDULED if losses < MOST_LOSSES else State.CANCELED
    return State.SCHEDULED if retryable and fails < MOST_FAILS else State.CANCELED
