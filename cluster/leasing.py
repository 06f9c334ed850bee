"""One more workitem, if all drivers of a run together may hold it."""

from __future__ import annotations

from collections.abc import Callable

from ..runners.node_memory import UNKNOWN_MEMORY, NodeMemory
from .ledger import Lease, Ledger


def lease_one(
    ledger: Ledger,
    owner: str,
    in_flight: int,
    ttl_s: float,
    may_lease: Callable[[int], bool],
    memory: NodeMemory = UNKNOWN_MEMORY,
) -> tuple[Lease, ...] | None:
    """A lease on the next workitem for a node with this memory; empty where there is none now, None where none may be.

    What other drivers hold is counted with what this one has in flight. Two that ask at the same
    time both see room for one: so each looks again with the lease in hand, and gives it back
    where there is no room for it after all. The ledger knows of every lease before that look, so
    that however many ask, what they keep is no more than may be.

    Parameters
    ----------
    in_flight : int
        Workitems that `owner` is at work on.
    may_lease : callable
        Asked with the number in flight, everywhere: whether there may be one more.
    """
    if not may_lease(in_flight + ledger.held_by_others(owner)):
        return None
    leases = ledger.lease(owner, 1, ttl_s, memory)
    others = ledger.held_by_others(owner) if leases else 0
    if others and not may_lease(in_flight + others):
        ledger.give_back(leases)
        return ()
    return leases
