"""One machine, no Ray: workitems from the ledger through this node's own pipeline."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from threading import Event
from time import monotonic, sleep

from ..runners.pipeline import NodePipeline
from ..runners.workitem import Outcome
from .ledger import Lease, Ledger

TTL_S = 60.0
"""For how long a lease holds without a heartbeat."""

IDLE_S = 2 * TTL_S
"""How long to stay for what other drivers hold: were one dead, its workitems would be back by then."""

HEARTBEAT_S = 10.0
WAIT_S = 0.5
"""How long the loop sleeps at most before it looks at stop and heartbeat again."""


def run_locally(
    ledger: Ledger,
    pipeline: NodePipeline,
    node: str,
    owner: str,
    *,
    may_lease: Callable[[int], bool],
    observe: Callable[[], None],
) -> None:
    """Work until nothing is left, or until `may_lease` says no and what is in flight has ended.

    Parameters
    ----------
    owner : str
        This driver's name, the same when it is begun again: see `retake`.
    may_lease : callable
        Asked with the number in flight before each lease: False when stopped or out of budget.
    observe : callable
        Called at least twice a second, and after each outcome.
    """
    flying: dict[Future[Outcome], Lease] = {}
    idle = 0.0
    beat = monotonic()
    while True:
        while len(flying) < pipeline.depth and may_lease(len(flying)):
            leases = ledger.lease(owner, 1, TTL_S)
            for lease in leases:
                if not ledger.start(lease, node):
                    continue
                flying[pipeline.submit(lease.workitem)] = lease
            if not leases:
                break
        if not flying:
            if not may_lease(0) or idle > IDLE_S or not _left(ledger, owner):
                return
            sleep(WAIT_S)
            idle += WAIT_S
            observe()
            continue
        idle = 0.0
        for future in wait(flying, timeout=WAIT_S, return_when=FIRST_COMPLETED).done:
            ledger.finish(flying.pop(future), future.result(), node)
        if monotonic() - beat > HEARTBEAT_S:
            ledger.heartbeat(owner, TTL_S)
            beat = monotonic()
        observe()


def _left(ledger: Ledger, owner: str) -> bool:
    """Whether there is, or may come, something to lease for a driver that holds nothing.

    What the ledger thinks it holds all the same was leased in an answer that was lost on its way.
    """
    return bool(ledger.release(owner, "nothing in flight")) or ledger.counts().open > 0


def retake(ledger: Ledger, owner: str) -> int:
    """Take back what a killed driver of this name had leased, and end its node's life; how many workitems."""
    ledger.heartbeat(owner, 0.0)
    return ledger.expire()


def stopper(stop: Event) -> Callable[[int], bool]:
    """A `may_lease` that says no once `stop` is set."""
    return lambda _: not stop.is_set()
