"""More workitems, if all drivers of a run together may hold them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...runners.node_memory import UNKNOWN_MEMORY, NodeMemory
from ..ledger import Lease, Ledger


def lease_some(  # noqa: PLR0913, PLR0917 - who asks, for how many, for how long, who says yes, for what node, what
    ledger: Ledger,
    owner: str,
    number: int,
    in_flight: int,
    ttl_s: float,
    may_lease: Callable[[int], bool],
    memory: NodeMemory = UNKNOWN_MEMORY,
    models: Sequence[str] = (),
) -> tuple[Lease, ...] | None:
    """Leases on the next workitems for nodes with this memory; empty where there is none now, None where none may be.

    As many as asked for where there may be so many, else one. What other drivers hold is counted with
    what this one has in flight. Two that ask at the same time both see room: so each looks again with the
    leases in hand, and gives them back where there is no room for them after all. The ledger knows of every
    lease before that look, so that however many ask, what they keep is no more than may be.

    Parameters
    ----------
    number : int
        Workitems for which `owner` has room.
    in_flight : int
        Workitems that `owner` is at work on.
    may_lease : callable
        Asked with the number in flight, everywhere: whether there may be one more.
    models : sequence of str
        Of which the workitems may be; empty: of all.
    """
    flying = in_flight + ledger.held_by_others(owner)
    if number > 1 and not may_lease(flying + number - 1):
        number = 1
    if number == 1 and not may_lease(flying):
        return None
    leases = ledger.lease(owner, number, ttl_s, memory, models)
    others = ledger.held_by_others(owner) if leases else 0
    if others and not may_lease(in_flight + others + len(leases) - 1):
        ledger.give_back(leases)
        return ()
    return leases
