"""One machine, no Ray: workitems from the ledger through this node's own pipeline."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from threading import Event
from time import monotonic, sleep

from ... import Error
from ...runners.pipeline import NodePipeline, PipelineSettings
from ...runners.workitem import Failure, Outcome
from ..ledger import LEASE_S, Lease, Ledger, LedgerError
from ..prices.rates import Price
from .idleness import Idleness
from .leasing import lease_some
from .stop import has_notice, loss_code

BEATS = 6
"""Heartbeats sent in the time for which leases hold."""

LOOK_S = 2.0
"""How often the ledger is asked for drivers that fell silent, also while there is no room for what they held."""

WAIT_S = 0.5
"""How long the loop sleeps at most before it looks at stop and heartbeat again."""


class NodeUnfit(Error):
    """The machine cannot go on, whatever the workitem: others are to have what it held."""

    code = "NODE_UNFIT"

    def __init__(self, node: str, failure: Failure) -> None:
        super().__init__(node, failure)

    def __str__(self) -> str:
        node, failure = self.args
        return f"{node}, {failure.stage}: {failure.message}; mend it, and the same command goes on"


@dataclass(frozen=True, slots=True)
class LocalCell:
    """A driver whose only node is this machine.

    Attributes
    ----------
    machine : str
        What it is, as the price table names it.
    owner : str
        This driver's name in the ledger, the same when it is begun again: what it had leased when
        it was killed is then taken back at once.
    drain_s : float
        How long a stop waits for what is in flight before that is given up.
    lease_s : float
        How long leases hold when this driver falls silent; for twice as long it stays for what other
        drivers hold: were one dead, its workitems would be back by then.
    idle_s : float or None
        For how long it stays with nothing to lease, where somebody begins it again once there is; None: see
        `Idleness`.
    label : str
        Of the machine, ``cell`` on the provider's bill; empty: none.
    price : Price or None
        Of the machine, where it is not the run's.
    """

    settings: PipelineSettings
    machine: str
    owner: str
    drain_s: float = math.inf
    lease_s: float = LEASE_S
    label: str = ""
    idle_s: float | None = None
    price: Price | None = None


def run_locally(
    ledger: Ledger,
    cell: LocalCell,
    *,
    may_lease: Callable[[int], bool],
    observe: Callable[[], None],
    stop: Event,
) -> None:
    """Work until nothing is left, or until `may_lease` says no and what is in flight has ended.

    Parameters
    ----------
    may_lease : callable
        Asked before each lease with the number in flight here and elsewhere: False when stopped or out of budget.
    observe : callable
        Called at least twice a second, and after each outcome.
    stop : threading.Event
        Set it to drain; a `Stop` tells whether the machine is about to be taken away.

    Raises
    ------
    NodeUnfit
        If this machine's disk is full, or a process on it does not end.
    """
    node = cell.settings.stages.node
    ledger.heartbeat(cell.owner, 0.0)
    ledger.expire()
    _note_up(ledger, cell)
    pipeline = NodePipeline(cell.settings)
    loop = _Loop(ledger, cell, pipeline, stop)
    try:
        loop.work(may_lease, observe)
    except LedgerError:
        pipeline.abort()
        raise
    except BaseException:
        loop.give_up("its driver left")
        raise
    finally:
        pipeline.close()
        ledger.node_down(node, cell.owner)


def _note_up(ledger: Ledger, cell: LocalCell) -> None:
    """Let the node cost money from now on."""
    ledger.node_up(cell.settings.stages.node, cell.machine, cell.owner, cell.label, cell.price)


class _Loop:
    """Leases, submits, finishes."""

    def __init__(self, ledger: Ledger, cell: LocalCell, pipeline: NodePipeline, stop: Event) -> None:
        self._ledger, self._cell, self._pipeline, self._stop = ledger, cell, pipeline, stop
        self._node = cell.settings.stages.node
        self._models = len(ledger.run().models)
        self._next: deque[Lease] = deque()
        self._flying: dict[Future[Outcome], Lease] = {}
        self._refused = False
        self._heeded = False

    def work(self, may_lease: Callable[[int], bool], observe: Callable[[], None]) -> None:
        beat = looked = monotonic()
        give_up = math.inf
        idleness = Idleness(self._ledger, self._cell.lease_s, self._cell.idle_s)
        while True:
            self._fill(may_lease)
            now = monotonic()
            if self._flying:
                idleness.ends()
                self._finish()
            else:
                if self._refused or idleness.is_over([(self._pipeline.memory, ())]) or not self._may_come():
                    return
                sleep(WAIT_S)
            if now - beat > self._cell.lease_s / BEATS:
                if not self._ledger.heartbeat(self._cell.owner, self._cell.lease_s):
                    _note_up(self._ledger, self._cell)
                beat = now
            if now - looked > LOOK_S:
                self._ledger.expire()
                looked = now
            if self._stop.is_set():
                self._give_back()
                self._heed()
                give_up = min(give_up, now + self._cell.drain_s)
            if now >= give_up:
                self.give_up("its driver was told to stop")
                return
            observe()

    def _fill(self, may_lease: Callable[[int], bool]) -> None:
        """Begin as much as keeps every lane busy."""
        while len(self._flying) < self._pipeline.depth and (self._next or self._lease(may_lease)):
            lease = self._next.popleft()
            if self._ledger.start(lease, self._node):
                self._flying[self._pipeline.submit(lease.workitem)] = lease

    def _lease(self, may_lease: Callable[[int], bool]) -> bool:
        """Lease more, all models of a series together: whoever has one of them reads it. Whether there was something.

        What is next may begin in the midst of a series, and so end in the midst of another one.
        """
        self._refused = not self._lease_up_to(self._models, may_lease)
        if self._next:
            series = [each.workitem.series_instance_uid for each in (*self._flying.values(), *self._next)]
            self._lease_up_to(self._models - series.count(series[-1]), may_lease)
        return bool(self._next)

    def _lease_up_to(self, number: int, may_lease: Callable[[int], bool]) -> bool:
        """Whether anything may be leased."""
        if number <= 0:
            return True
        flying = len(self._flying) + len(self._next)
        memory, lease_s = self._pipeline.memory, self._cell.lease_s
        leases = lease_some(self._ledger, self._cell.owner, number, flying, lease_s, may_lease, memory)
        self._next.extend(leases or ())
        return leases is not None

    def _give_back(self) -> None:
        """Let others have what was leased and not begun."""
        if self._next:
            self._ledger.give_back(tuple(self._next))
            self._next.clear()

    def _finish(self) -> None:
        """Record what has ended, waiting a little for the first."""
        unfit: Failure | None = None
        for future in wait(self._flying, timeout=WAIT_S, return_when=FIRST_COMPLETED).done:
            outcome = future.result()
            self._ledger.finish(self._flying.pop(future), outcome, self._node)
            if outcome.failure is not None and outcome.failure.of_the_machine:
                unfit = outcome.failure
        if unfit is not None:
            raise NodeUnfit(self._node, unfit)

    def _may_come(self) -> bool:
        """Whether there is, or may be, something to lease for a driver that holds nothing.

        What the ledger thinks it holds all the same was leased in an answer that was lost on its way.
        """
        return bool(self._ledger.release(self._cell.owner, "nothing in flight")) or self._ledger.counts().open > 0

    def _heed(self) -> None:
        """Tell the ledger, once, that this machine is about to be taken away: it may be gone before more is said."""
        if has_notice(self._stop) and not self._heeded:
            self._ledger.notice(self._cell.owner)
            self._heeded = True

    def give_up(self, reason: str) -> None:
        """Kill what is in flight, and let others have it."""
        try:
            self._give_back()
            self._ledger.lose(tuple(self._flying.values()), reason, self._node, loss_code(self._stop))
        finally:
            self._pipeline.abort()
