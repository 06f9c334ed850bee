"""Idleness: how long there was nothing to lease for a driver, and whether it is to leave what is left to others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from time import monotonic

from ...runners.node_memory import NodeMemory
from ..ledger import Ledger


class Idleness:
    """Of one driver.

    Parameters
    ----------
    lease_s : float
        How long leases hold. Unless told otherwise a driver stays for twice as long: were another one dead, what it
        held would be back by then; and it stays for what waits until the pause after an outage is over.
    idle_s : float or None
        For how long a driver stays that somebody begins again once there is something to lease; None: nobody does.
    """

    def __init__(self, ledger: Ledger, lease_s: float, idle_s: float | None) -> None:
        self._ledger, self._comes_back = ledger, idle_s is not None
        self.stays_s = 2 * lease_s if idle_s is None else idle_s
        self._since = monotonic()

    def ends(self) -> None:
        """There is something to do."""
        self._since = monotonic()

    def is_over(self, nodes: Iterable[tuple[NodeMemory | None, Sequence[str]]]) -> bool:
        """Whether a driver that holds nothing is to leave.

        Parameters
        ----------
        nodes : iterable of (NodeMemory or None, sequence of str)
            Memory of its nodes, and the models (empty: all) of which they take what fits; None: it is yet to come.
        """
        if monotonic() - self._since <= self.stays_s:
            return False
        # Asked again when as much time has passed.
        self._since = monotonic()
        if self._comes_back:
            return self._ledger.leasable() == 0
        return not any(
            self._ledger.counts().scheduled if memory is None else self._ledger.waiting(memory, models)
            for memory, models in nodes
        )
