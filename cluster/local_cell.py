"""One machine, no Ray: workitems from the ledger through this node's own pipeline."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from threading import Event
from time import monotonic

from ..runners.pipeline import NodePipeline
from ..runners.workitem import Outcome
from .ledger import Lease, Ledger

OWNER = "local"
"""Every driver on this machine has this name: the run's lock sees to it that there is one."""

TTL_S = 60.0
"""For how long a lease holds without a heartbeat."""

HEARTBEAT_S = 10.0
WAIT_S = 0.5
"""How long the loop sleeps at most before it looks at stop and heartbeat again."""


def run_locally(
    ledger: Ledger,
    pipeline: NodePipeline,
    node: str,
    *,
    may_lease: Callable[[int], bool],
    observe: Callable[[], None],
) -> None:
    """Work until nothing is left, or until `may_lease` says no and what is in flight has ended.

    Parameters
    ----------
    may_lease : callable
        Asked with the number in flight before each lease: False when stopped or out of budget.
    observe : callable
        Called at least twice a second, and after each outcome.
    """
    retake(ledger)
    flying: dict[Future[Outcome], Lease] = {}
    beat = monotonic()
    while True:
        while len(flying) < pipeline.depth and may_lease(len(flying)):
            leases = ledger.lease(OWNER, 1, TTL_S)
            for lease in leases:
                ledger.start(lease, node)
                flying[pipeline.submit(lease.workitem)] = lease
            if not leases:
                break
        if not flying:
            return
        for future in wait(flying, timeout=WAIT_S, return_when=FIRST_COMPLETED).done:
            ledger.finish(flying.pop(future), future.result(), node)
        if monotonic() - beat > HEARTBEAT_S:
            ledger.heartbeat(OWNER, TTL_S)
            beat = monotonic()
        observe()


def retake(ledger: Ledger) -> int:
    """Take back what a driver that was killed on this machine had leased; how many workitems."""
    ledger.heartbeat(OWNER, 0.0)
    return ledger.expire()


def stopper(stop: Event) -> Callable[[int], bool]:
    """A `may_lease` that says no once `stop` is set."""
    return lambda _: not stop.is_set()
