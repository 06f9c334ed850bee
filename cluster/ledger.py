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
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from .. import Error
from ..enrich.archives.archive import StoredObject
from ..runners.node_memory import UNKNOWN_MEMORY, NodeMemory
from ..runners.workitem import Outcome, Workitem
from .ledgers.attempt import (
    LOST,
    MOST_FAILS,
    MOST_LOSSES,
    Attempt,
    AttemptClass,
    Item,
    Lease,
    attempt_class,
    state_after,
)
from .ledgers.run_record import Event, Lived, Node, Refusal, Run
from .ledgers.standing import Counts, Publication, Recent, Staged, Stored, Trouble, Usage
from .prices.rates import Price

__all__ = [
    "LEASE_S",
    "MOST_FAILS",
    "MOST_LOSSES",
    "Attempt",
    "AttemptClass",
    "Counts",
    "Event",
    "Item",
    "Lease",
    "Ledger",
    "LedgerCorrupt",
    "LedgerError",
    "LedgerUnavailable",
    "Lived",
    "NoSuchRun",
    "Node",
    "Publication",
    "Recent",
    "Refusal",
    "Run",
    "RunMismatch",
    "Staged",
    "Stored",
    "Trouble",
    "Usage",
    "attempt_class",
    "owner_name",
    "state_after",
]

LEASE_S = 60.0
"""How long leases hold without a heartbeat, unless said otherwise; send three in this time."""


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

    def set_prices(self, prices: Mapping[str, Price]) -> None:
        """Change the prices of groups of machines; lives of nodes that began keep theirs."""
        ...

    def add(self, workitems: Iterable[Workitem]) -> int:
        """Take workitems in as SCHEDULED; how many were new (a key that is there already is left as it is)."""
        ...

    def refuse(self, identifier: str, code: str, reason: str) -> bool:
        """Write down a source object that never became a workitem; False if it stood there already."""
        ...

    def lease(
        self,
        owner: str,
        limit: int,
        ttl_s: float = LEASE_S,
        memory: NodeMemory = UNKNOWN_MEMORY,
        models: Sequence[str] = (),
    ) -> tuple[Lease, ...]:
        """Up to `limit` SCHEDULED workitems for a node of `owner` with `memory`.

        Of `models`, which are some of a run's several; of all, where none is named.

        Those tried least often come first (what kills its machine waits until all else was
        tried), of these the largest (so that the last to end are short), then in order of `add`.
        Also a heartbeat: the leases hold for `ttl_s` seconds from now. Items whose owner was
        silent for longer than its time are taken back first.

        An item that ran out of memory goes only where there is more of the host's or of the GPU's, and less
        of neither. Once nothing but such items is left and no node of the run has more than they had, they are
        CANCELED; not while nodes could not ask, since the ledger was away. An item that met an outage is leased, or
        given up, once its pause (`PAUSES_S`) is over.
        """
        ...

    def heartbeat(self, owner: str, ttl_s: float = LEASE_S) -> bool:
        """Hold all leases of `owner` for another `ttl_s` seconds; whether a node of it is known to be up.

        The nodes of an owner that was taken for dead are not: one that is still there notes them up again.
        """
        ...

    def start(self, lease: Lease, node: str) -> bool:
        """Note that `node` begins the attempt, now; False if the lease is no longer held."""
        ...

    def start_all(self, begun: Sequence[tuple[Lease, str]]) -> tuple[bool, ...]:
        """As `start`, for attempts that begin together, each on its node; all or, with an error, nothing."""
        ...

    def finish(self, lease: Lease, outcome: Outcome, node: str = "") -> bool:
        """Record how the attempt ended, durably; False (and nothing changed) if the lease is no longer held."""
        ...

    def finish_all(self, ended: Sequence[tuple[Lease, Outcome, str]]) -> tuple[bool, ...]:
        """As `finish`, for attempts that ended by now: the disk is waited for once; all or, with an error, nothing."""
        ...

    def lose(self, leases: Sequence[Lease], reason: str, node: str = "", code: str = LOST) -> int:
        """Give back leases whose machine died: attempts are lost, items SCHEDULED again; how many were held.

        `code` is `attempt.PREEMPTED` where the machine had given notice.
        """
        ...

    def give_back(self, leases: Sequence[Lease]) -> int:
        """Give back leases that were never begun: no attempt, items SCHEDULED again; how many were held."""
        ...

    def notice(self, owner: str) -> None:
        """Note that the machine of `owner` is about to be taken away: what it still loses was preempted."""
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

    def waiting(self, memory: NodeMemory, models: Sequence[str] = ()) -> int:
        """How many SCHEDULED workitems a node with this memory may take, now or when their pause is over.

        Those of `models`, or of all where none is named.
        """
        ...

    def leasable(self) -> int:
        """How many SCHEDULED workitems wait for nothing but a node.

        One that ran out of memory does so once nothing but such items is left: some node has to find out for it.
        """
        ...

    def held_by_others(self, owner: str) -> int:
        """How many workitems are IN PROGRESS with anybody but `owner`."""
        ...

    def node_up(self, node: str, machine: str, owner: str, cell: str = "", price: Price | None = None) -> None:
        """Note that a node of `owner` begins to cost money, now; a life of it that never ended ends when last seen.

        `cell` is the label by which the provider's bill names its part of the run; empty: none. `price` is the
        machine's; None: the run's.
        """
        ...

    def head_up(self, node: str, machine: str, owner: str, cell: str = "", price: Price | None = None) -> None:
        """As `node_up`, of one that drives a cell and takes no work."""
        ...

    def node_down(self, node: str, owner: str) -> None:
        """Note that the cost of a node of `owner` ends, now."""
        ...

    def nodes(self) -> tuple[Node, ...]:
        """All lives of all nodes, oldest first."""
        ...

    def lived(self) -> tuple[Lived, ...]:
        """All lives of all nodes, summed by their prices: quick also where thousands have ended."""
        ...

    def usage(self) -> tuple[Usage, ...]:
        """What ended attempts used, summed over model and outcome."""
        ...

    def recent(self, window_s: float) -> Recent:
        """How many workitems were settled in the last `window_s` seconds."""
        ...

    def troubles(self) -> tuple[Trouble, ...]:
        """Why workitems and source objects were refused or failed, the most frequent first."""
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

    def backlog(self, limit: int, after: Staged | None = None) -> tuple[Staged, ...]:
        """Up to `limit` stored objects that were neither published nor rejected, an item's SEG before its SR.

        With `after` those that follow it: so all of them are gone through, in one order.
        """
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


def owner_name() -> str:
    """A name for a driver that no other driver has, now or later: host, process, random."""
    return f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"
