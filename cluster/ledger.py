"""The Ledger protocol: what is to do, who does it, what became of it.

The ledger is the truth of a run and stands outside whatever executes it. A workitem is in one
of three states of PS3.4 CC.1.1 (SCHEDULED, IN PROGRESS, COMPLETED) or CANCELED; an owner (a
driver) leases workitems for as long as it sends heartbeats, and each lease has a fencing token,
one higher than the last: a driver that was thought dead and comes back cannot finish what
somebody else now holds.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Protocol

from .. import Error
from ..enrich.archives.archive import StoredObject
from ..runners.consumption import Consumption
from ..runners.workitem import Failure, Outcome, State, Workitem
from .rates import Price

MOST_FAILS = 2
"""Attempts that may fail by the item's own fault before it is CANCELED."""

LEASE_S = 60.0
"""How long leases hold without a heartbeat, unless said otherwise; send three in this time."""

MOST_LOSSES = 5
"""Attempts that may be lost to the infrastructure; more, and the item is taken to kill machines."""


class LedgerError(Error):
    """Base of what goes wrong with a ledger; names the ledger."""

    code = "LEDGER_ERROR"

    def __init__(self, ledger: str, reason: str) -> None:
        super().__init__(ledger, reason)

    def __str__(self) -> str:
        return f"{self.args[0]}: {self.args[1]}"


class LedgerUnavailable(LedgerError):
    """The ledger is busy, locked, or its disk is full: the same call may succeed later."""

    code = "LEDGER_UNAVAILABLE"
    retryable = True


class LedgerCorrupt(LedgerError):
    """The file is not a ledger, or not one that this version can read."""

    code = "LEDGER_CORRUPT"


class NoSuchRun(LedgerError):
    """The ledger holds no run yet."""

    code = "NO_SUCH_RUN"


class RunMismatch(LedgerError):
    """The ledger holds another run: other source, target, models or parameters."""

    code = "RUN_MISMATCH"


class AttemptClass(StrEnum):
    """How an attempt ended; the ledger's word for who is to blame."""

    COMPLETED = "completed"
    REFUSED = "refused"
    FAILED = "failed"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Run:
    """One command's work on one collection.

    Attributes
    ----------
    models : tuple of str
        ``name version``, as asked for.
    parameters : mapping of str to str
        Everything else that decides the results.
    budget_usd : Decimal or None
        Most that the run may cost; None: no cap.
    machine, region, market : str
        What the nodes are, as the price table names them; region and market empty: its first row.
    price : Price or None
        By which the run is governed and accounted for; None: of a run begun before prices were kept.
    """

    name: str
    source: str
    target: str
    models: tuple[str, ...]
    parameters: Mapping[str, str]
    platform_version: str
    machine: str
    created: datetime
    budget_usd: Decimal | None = None
    region: str = ""
    market: str = ""
    price: Price | None = None

    def same_work(self, other: Run) -> bool:
        """Whether both give the same results: budget, machine, price, version and date aside."""
        return not self.difference(other)

    def difference(self, other: Run) -> str:
        """In words, how the work of `other` is not this run's; empty if it is."""
        pairs = (
            ("name", self.name, other.name),
            ("source", self.source, other.source),
            ("target", self.target, other.target),
            ("models", ", ".join(self.models), ", ".join(other.models)),
            *(
                (f"parameters.{name}", self.parameters.get(name), other.parameters.get(name))
                for name in sorted({*self.parameters, *other.parameters})
            ),
        )
        return "; ".join(f"{what} is {mine}, not {theirs}" for what, mine, theirs in pairs if mine != theirs)


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


@dataclass(frozen=True, slots=True)
class Stored:
    """One object that a COMPLETED workitem left in the target archive."""

    key: str
    object: StoredObject


@dataclass(frozen=True, slots=True)
class Staged:
    """One object on its way from a staging store to the archive."""

    workitem: Workitem
    object: StoredObject


@dataclass(frozen=True, slots=True)
class Publication:
    """How many stored objects stand where on their way from a staging store to the archive."""

    waiting: int = 0
    published: int = 0
    rejected: int = 0


@dataclass(frozen=True, slots=True)
class Refusal:
    """A source object that never became a workitem, and the rule that it broke."""

    identifier: str
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Event:
    """Something about the run and not about one workitem: a stop, a lost node, a budget alarm."""

    at: datetime
    level: str
    kind: str
    detail: str


@dataclass(frozen=True, slots=True)
class Node:
    """One life of a node, from the second it costs money to the second it no longer does.

    Attributes
    ----------
    down : datetime or None
        None while it is up, and also after its driver was killed: see `last_seen`.
    last_seen : datetime
        Its end; or now, while any driver of the run sends heartbeats; or else its last sign
        of life, an attempt that began or ended on it.
    """

    node: str
    machine: str
    up: datetime
    down: datetime | None
    last_seen: datetime


@dataclass(frozen=True, slots=True)
class Usage:
    """What the ended attempts of one model with one outcome used together."""

    model: str
    outcome: AttemptClass
    attempts: int
    wall_s: float
    cpu_s: float
    gpu_s: float
    bytes_in: int
    bytes_out: int


@dataclass(frozen=True, slots=True)
class Recent:
    """Workitems settled (completed, refused, failed for good) in the last `span_s` seconds."""

    settled: int
    span_s: float

    @property
    def per_s(self) -> float:
        """Workitems settled per second; 0 where nothing was."""
        return self.settled / self.span_s if self.span_s > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Counts:
    """How many workitems stand where; `refused` and `failed` are both CANCELED."""

    scheduled: int = 0
    in_progress: int = 0
    completed: int = 0
    refused: int = 0
    failed: int = 0
    never_workitems: int = 0

    @property
    def total(self) -> int:
        """Workitems, refused source objects aside."""
        return self.scheduled + self.in_progress + self.completed + self.refused + self.failed

    @property
    def open(self) -> int:
        """Workitems that still need something done."""
        return self.scheduled + self.in_progress


class Ledger(Protocol):
    """Where a run's truth is kept. All times are the database's own clock.

    Every method raises LedgerUnavailable while the database cannot answer, and then has
    changed nothing. Threads may share one object; processes each open their own.
    """

    def create_run(self, run: Run) -> Run:
        """The ledger's run, made from `run` if there is none; raises RunMismatch for another one's work."""
        ...

    def run(self) -> Run:
        """The ledger's run; raises NoSuchRun."""
        ...

    def set_budget(self, budget_usd: Decimal | None) -> None:
        """Change the cap of the run, so that a stopped one can go on."""
        ...

    def set_price(self, price: Price) -> None:
        """Change the price of the run, and with it machine, region and market."""
        ...

    def add(self, workitems: Iterable[Workitem]) -> int:
        """Take workitems in as SCHEDULED; how many were new (a key that is there already is left as it is)."""
        ...

    def refuse(self, identifier: str, code: str, reason: str) -> bool:
        """Write down a source object that never became a workitem; False if it stood there already."""
        ...

    def lease(self, owner: str, limit: int, ttl_s: float = LEASE_S) -> tuple[Lease, ...]:
        """Up to `limit` SCHEDULED workitems for `owner`.

        Those tried least often come first (what kills its machine waits until all else was
        tried), of these the largest (so that the last to end are short), then in order of `add`.
        Also a heartbeat: the leases hold for `ttl_s` seconds from now. Items whose owner was
        silent for longer than its time are taken back first.
        """
        ...

    def heartbeat(self, owner: str, ttl_s: float = LEASE_S) -> None:
        """Hold all leases of `owner` for another `ttl_s` seconds."""
        ...

    def start(self, lease: Lease, node: str) -> bool:
        """Note that `node` begins the attempt, now; False if the lease is no longer held."""
        ...

    def finish(self, lease: Lease, outcome: Outcome, node: str = "") -> bool:
        """Record how the attempt ended, durably; False (and nothing changed) if the lease is no longer held."""
        ...

    def lose(self, leases: Sequence[Lease], reason: str, node: str = "") -> int:
        """Give back leases whose machine died: attempts are lost, items SCHEDULED again; how many were held."""
        ...

    def give_back(self, leases: Sequence[Lease]) -> int:
        """Give back leases that were never begun: no attempt, items SCHEDULED again; how many were held."""
        ...

    def release(self, owner: str, reason: str) -> int:
        """Give back all that `owner` holds, as never attempted, and forget the owner (a clean stop); how many."""
        ...

    def expire(self) -> int:
        """Take back the workitems of owners that fell silent: attempts are lost; how many."""
        ...

    def adopt(self, key: str, stored: Sequence[StoredObject]) -> bool:
        """Take a SCHEDULED item for COMPLETED, its objects being in the target; False if it stands elsewhere."""
        ...

    def retry_failed(self) -> int:
        """Put items that failed (not the refused) back to SCHEDULED with their counters at zero; how many."""
        ...

    def event(self, level: str, kind: str, detail: str) -> None:
        """Write down something about the run; `level` is ``info``, ``warning`` or ``error``."""
        ...

    def counts(self) -> Counts:
        """How many workitems stand where."""
        ...

    def held_by_others(self, owner: str) -> int:
        """How many workitems are IN PROGRESS with anybody but `owner`."""
        ...

    def node_up(self, node: str, machine: str, owner: str) -> None:
        """Note that a node of `owner` begins to cost money, now; a life of it that never ended ends when last seen."""
        ...

    def node_down(self, node: str, owner: str) -> None:
        """Note that the cost of a node of `owner` ends, now."""
        ...

    def nodes(self) -> tuple[Node, ...]:
        """All lives of all nodes, oldest first."""
        ...

    def usage(self) -> tuple[Usage, ...]:
        """What ended attempts used, summed over model and outcome."""
        ...

    def recent(self, window_s: float) -> Recent:
        """How many workitems were settled in the last `window_s` seconds."""
        ...

    def attempts(self) -> tuple[Attempt, ...]:
        """All attempts with what they consumed, oldest first."""
        ...

    def items(self) -> tuple[Item, ...]:
        """All workitems, in order of `add`."""
        ...

    def stored(self) -> tuple[Stored, ...]:
        """All objects that COMPLETED workitems left in the target."""
        ...

    def backlog(self, limit: int) -> tuple[Staged, ...]:
        """Up to `limit` stored objects that were neither published nor rejected, an item's SEG before its SR."""
        ...

    def published(self, staged: Staged, uri: str) -> None:
        """Note that an object is in the archive, at `uri`."""
        ...

    def rejected(self, staged: Staged, reason: str) -> None:
        """Note that the archive will not have an object."""
        ...

    def publication(self) -> Publication:
        """How far publishing has come."""
        ...

    def publish_again(self) -> int:
        """Let rejected objects be tried again; how many."""
        ...

    def refusals(self) -> tuple[Refusal, ...]:
        """All objects that never became workitems."""
        ...

    def events(self) -> tuple[Event, ...]:
        """All events, oldest first."""
        ...

    def now(self) -> datetime:
        """The database's clock, in UTC."""
        ...

    def close(self) -> None:
        """Let the database go."""
        ...


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


def owner_name() -> str:
    """A name for a driver that no other driver has, now or later: host, process, random."""
    return f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"
