"""One cell on Ray: its agents are fed from the ledger, as `dispatch` says. Only the three `ray_` files import Ray.

Ray starts processes, and says when they died; everything else (what is leased, tried again,
counted) is the ledger's and `dispatch`'s. Actors are not restarted and their calls not
retried by Ray: a dead agent's workitems are lost, noted, leased again, and a new agent starts.

A cluster's nodes need this package installed in the same version (an image with the wheel, or
``runtime_env={"py_modules": [WHEEL]}``); its token authentication is left as Ray has it.
"""

from __future__ import annotations

import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from threading import Event as Stop

import ray

from ...runners.heartbeat import BEATS
from ...runners.workitem import Outcome
from ..kubernetes.cell import HEAD, machine_group
from ..ledger import Lease, Ledger, owner_name
from ..ledgers.attempt import LOST, PREEMPTED
from ..ledgers.run_record import LEFT
from .agent import CellEvent, CellFailed, CellSettings
from .dispatch import Dispatch
from .idleness import Idleness
from .instructions import (
    AgentDown,
    AgentUp,
    Done,
    Drain,
    Event,
    Finished,
    GiveUp,
    Instruction,
    Leased,
    LeaseMore,
    Lose,
    Return,
    Start,
    StartAgent,
    StopAgent,
    Tick,
)
from .leasing import lease_some
from .ray_agents import WAIT_S, Agents, Came, Died, Ended
from .ray_cluster import connect, nodes_alive
from .stop import has_notice, loss_code

__all__ = ["CellEvent", "CellFailed", "CellSettings", "run_on_ray"]

TICK_S = 2.0
"""How often the ledger is asked what is left, and for items that others lost."""


def run_on_ray(
    ledger: Ledger,
    settings: CellSettings,
    *,
    may_lease: Callable[[int], bool],
    on_event: Callable[[CellEvent], None],
    stop: Stop,
) -> None:
    """Work until nothing is left in the ledger, or until stopped and what is in flight has ended.

    Parameters
    ----------
    may_lease : callable
        Asked before each lease with the number in flight here and elsewhere: False while there is no money for one
        more. False with none in flight ends the cell.
    stop : threading.Event
        Set it to drain.

    Raises
    ------
    CellFailed
        If there is no cluster, or its agents die before they finish anything.
    """
    cell = _Cell(ledger, settings, may_lease, on_event, stop)
    if settings.address is None:
        # This machine costs from now on: that Ray takes seconds to start is start-up.
        cell.node_up(socket.gethostname())
    elif machine_group() == HEAD and HEAD in settings.prices:
        # This machine is there for the cell alone; others are free, or paid for by what else they do.
        cell.node_up(socket.gethostname(), HEAD)
    started_here = False
    # Ray prints to standard output when a process dies, also when told to log nothing; that is the caller's.
    with redirect_stdout(sys.stderr):
        try:
            started_here = connect(settings)
            cell.work()
        finally:
            try:
                cell.close()
            finally:
                if started_here:
                    ray.shutdown()


class _Cell:
    """Carries out the instructions of `dispatch` on Ray and the ledger, and feeds it what comes of them."""

    def __init__(
        self,
        ledger: Ledger,
        settings: CellSettings,
        may_lease: Callable[[int], bool],
        on_event: Callable[[CellEvent], None],
        stop: Stop,
    ) -> None:
        self._ledger = ledger
        self._stop = stop
        self._settings = settings
        self._may_lease = may_lease
        self._on_event = on_event
        self._owner = owner_name()
        self._dispatch = Dispatch(settings.kinds)
        self._agents = Agents(settings)
        self._nodes: dict[str, str] = {}
        self._unfit: set[str] = set()
        self._on_hand = 0
        self._idleness = Idleness(ledger, settings.lease_s, settings.idle_s)
        self._failure = ""

    def node_up(self, node: str, group: str = "") -> None:
        """Note that a node costs money, by the price of its group if that has one, unless that is known."""
        if node not in self._nodes:
            self._nodes[node] = group
            self._note_up(node)

    def _note_up(self, node: str) -> None:
        group = self._nodes[node]
        price = self._settings.prices.get(group)
        machine = price.machine if price else self._settings.machine
        note = self._ledger.head_up if group == HEAD else self._ledger.node_up
        note(node, machine, self._owner, self._settings.label, price)

    def work(self) -> None:
        """Loop until the dispatch is done."""
        self._ledger.heartbeat(self._owner, self._settings.lease_s)
        beat = tick = time.monotonic()
        beat_s = min(self._settings.lease_s / 4, self._settings.silence_s / BEATS)
        deadline = float("inf")
        self._feed(Tick(self._ledger.counts().open))
        while not self._dispatch.done:
            now = time.monotonic()
            if self._stop.is_set() and deadline == float("inf"):
                deadline = now + self._settings.drain_s
                if has_notice(self._stop):
                    self._ledger.notice(self._owner)
                self._drain("stopped")
            if now > deadline:
                return
            if now - beat > beat_s:
                self._beat(now)
                beat = now
            if now - tick > TICK_S:
                self._look()
                tick = now
            self._collect()
        if self._failure:
            raise CellFailed(self._failure)

    def _beat(self, now: float) -> None:
        """Show the ledger and the agents a sign of life, and hear of theirs."""
        if not self._ledger.heartbeat(self._owner, self._settings.lease_s):
            for node in self._nodes:
                self._note_up(node)
        for died in self._agents.listen(now):
            self._bury(died)

    def close(self) -> None:
        """End the agents, also while the ledger is away; what they were at work on is lost, the rest given back."""
        try:
            try:
                self._ledger.lose(self._agents.flying, "the cell ended", code=loss_code(self._stop))
            finally:
                self._agents.close()
        finally:
            for node in self._nodes:
                self._ledger.node_down(node, self._owner)
            self._ledger.release(self._owner, "the cell ended")

    def _look(self) -> None:
        """Take back what others lost, and see what is left."""
        self._ledger.expire()
        left = self._ledger.counts().open
        if self._dispatch.in_flight:
            self._idleness.ends()
        elif left:
            # What the ledger thinks it holds all the same was leased in an answer that was lost on its way.
            self._ledger.release(self._owner, "nothing in flight")
            self._ledger.heartbeat(self._owner, self._settings.lease_s)
            if not self._may_lease(self._ledger.held_by_others(self._owner)):
                # Also a cell whose agents never come up keeps to its deadline.
                self._feed(Drain("no more may be leased"))
            elif not self._for_others() and self._idleness.is_over(self._agents.nodes):
                stayed_s = self._idleness.stays_s
                self._drain(f"{self._settings.label or self._owner}: nothing to lease for {stayed_s:.0f} s", LEFT)
        self._feed(Tick(left, self._for_others()))
        self._tell("tick", "")

    def _for_others(self) -> bool:
        """Whether all that waits is for agents of a kind that was given up."""
        if not self._dispatch.given_up or self._dispatch.in_flight or not self._ledger.counts().scheduled:
            return False
        nodes = self._agents.nodes
        return not any(memory is None or self._ledger.waiting(memory, models) for memory, models in nodes)

    def _collect(self) -> None:
        """Wait for calls to end, and feed what they gave."""
        if not self._agents.busy:
            self._stop.wait(WAIT_S)
            return
        answers = self._agents.answers()
        # What was done before an agent died is recorded before the agent's leases are lost.
        self._record([each for each in answers if not isinstance(each, Died)])
        for each in answers:
            if isinstance(each, Died):
                self._bury(each)

    def _record(self, answers: Sequence[Came | Ended]) -> None:
        """Agents came up, and workitems ended: all of these at once."""
        events: list[Event] = []
        for came in answers:
            if isinstance(came, Came):
                self.node_up(came.host, came.group)
                self._tell("agent_up", f"{came.agent} is process {came.pid} on {came.host}")
                events.append(AgentUp(came.agent, self._agents.depth_of(came.agent), came.memory))
        done = [each for each in answers if isinstance(each, Ended)]
        told = [(each.lease, each.outcome, self._agents.node_of(each.agent)) for each in done]
        held = self._ledger.finish_all(told) if told else ()
        self._agents.settled(answers)
        unfit: dict[str, str] = {}
        for each, kept in zip(done, held, strict=True):
            self._tell("finished" if kept else "fenced", each.lease.workitem.key, each.lease, each.outcome)
            failure = each.outcome.failure
            if failure is not None and failure.of_the_machine:
                unfit[each.agent] = f"unfit: {failure.message}"
            else:
                events.append(Finished(each.agent, each.lease))
        if events:
            self._feed(*events)
        for agent, reason in unfit.items():
            host = self._agents.node_of(agent)
            self._bury(Died(agent, reason, replaced=host not in self._unfit))
            self._unfit.add(host)

    def _bury(self, died: Died) -> None:
        """An agent is dead: forget its calls, tell the ledger and the dispatch."""
        if died.agent not in self._agents:
            return
        self._agents.abandon(died.agent)
        where = self._agents.node_of(died.agent) or "no node yet"
        self._ledger.event("warning", "agent_down", f"{died.agent} on {where}: {died.reason}")
        self._tell("agent_down", f"{died.agent}: {died.reason}")
        self._feed(AgentDown(died.agent, died.reason, died.preempted, died.replaced))
        self._agents.bury(died.agent)
        self._nodes_gone()

    def _give_up(self, agents: Sequence[str], reason: str) -> None:
        """End agents of a kind that was given up."""
        self._ledger.event("error", "given_up", reason)
        self._tell("given_up", reason)
        for agent in agents:
            self._agents.abandon(agent)
            self._agents.bury(agent)

    def _nodes_gone(self) -> None:
        """End the lives of nodes that Ray has taken for dead."""
        alive = nodes_alive()
        for node in [each for each, group in self._nodes.items() if each not in alive and group != HEAD]:
            self._ledger.node_down(node, self._owner)
            del self._nodes[node]

    def _drain(self, reason: str, kind: str = "draining") -> None:
        self._ledger.event("info", kind, reason)
        self._tell(kind, reason)
        self._feed(Drain(reason))

    def _feed(self, *events: Event) -> None:
        """Give events to the dispatch and carry out what it says, until it says no more."""
        moments = deque([events])
        while moments:
            instructions = self._dispatch.handle(*moments.popleft())
            if late := self._begin([each for each in instructions if isinstance(each, Start)]):
                moments.append(late)
            for instruction in instructions:
                # What was leased in this moment counts as in flight, though no agent holds it yet.
                self._on_hand = sum(len(e.leases) for moment in moments for e in moment if isinstance(e, Leased))
                moments.extend((event,) for event in self._carry_out(instruction))

    def _carry_out(self, instruction: Instruction) -> tuple[Event, ...]:
        match instruction:
            case StartAgent(agent, kind):
                self._agents.start(agent, kind)
            case LeaseMore():
                return self._lease(instruction)
            case Lose(agent, leases, reason, preempted):
                self._ledger.lose(leases, reason, self._agents.node_of(agent), PREEMPTED if preempted else LOST)
            case Return(leases):
                self._ledger.give_back(leases)
            case StopAgent(agent):
                self._agents.stop(agent)
            case GiveUp(kind, agents, reason):
                self._give_up(agents, f"{kind.name}: {reason}; none of these is begun any more, others go on")
            case Done(failure):
                self._failure = failure
        return ()

    def _lease(self, more: LeaseMore) -> tuple[Event, ...]:
        """Lease what is asked for, as long as it may be."""
        leases: list[Lease] = []
        while len(leases) < more.number:
            flying = self._dispatch.in_flight + self._on_hand + len(leases)
            new = lease_some(
                self._ledger,
                self._owner,
                more.number - len(leases),
                flying,
                self._settings.lease_s,
                self._may_lease,
                more.memory,
                more.models,
            )
            if new is None:
                drain = (Drain("no more may be leased"),) if flying == 0 else ()
                return (Leased(tuple(leases), more.memory, more.models), *drain)
            if not new:
                break
            self._idleness.ends()
            leases.extend(new)
        return (Leased(tuple(leases), more.memory, more.models),)

    def _begin(self, starts: Sequence[Start]) -> tuple[Event, ...]:
        """Give leased workitems to their agents; those that are no longer held are as good as finished."""
        if not starts:
            return ()
        late: list[Event] = []
        begun = self._ledger.start_all([(each.lease, self._agents.node_of(each.agent)) for each in starts])
        for each, held in zip(starts, begun, strict=True):
            if not held:
                late.append(Finished(each.agent, each.lease))
                continue
            self._agents.begin(each.agent, each.lease)
            self._tell("begun", each.lease.workitem.key, each.lease)
        return tuple(late)

    def _tell(self, kind: str, detail: str, lease: Lease | None = None, outcome: Outcome | None = None) -> None:
        self._on_event(CellEvent(kind, detail, lease, outcome))
