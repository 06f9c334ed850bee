"""One cell on Ray: agents as actors, fed from the ledger. The only file that imports Ray.

Ray starts processes, and says when they died; everything else (what is leased, tried again,
counted) is the ledger's and `dispatch`'s. Actors are not restarted and their calls not
retried by Ray: a dead agent's workitems are lost, noted, leased again, and a new agent starts.

A cluster's nodes need this package installed in the same version (an image with the wheel, or
``runtime_env={"py_modules": [WHEEL]}``); its token authentication is left as Ray has it.
"""

from __future__ import annotations

import logging
import re
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass
from threading import Event as Stop
from typing import Any

import ray
from ray._private import ray_constants
from ray.exceptions import RayActorError, RayError

from .. import Error
from ..runners.heartbeat import BEATS
from ..runners.node_memory import NodeMemory
from ..runners.workitem import Failure, Outcome, State
from .agent import Agent, CellEvent, CellFailed, CellSettings
from .attempt import LOST, PREEMPTED
from .dispatch import (
    AgentDown,
    AgentUp,
    Dispatch,
    Done,
    Drain,
    Event,
    Finished,
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
from .ledger import Lease, Ledger, owner_name
from .stop import has_notice, loss_code

__all__ = ["CellEvent", "CellFailed", "CellSettings", "run_on_ray"]

WAIT_S = 0.5
"""Longest wait for Ray before the loop looks at the clock again."""

TICK_S = 2.0
"""How often the ledger is asked what is left, and for items that others lost."""

LOOPBACK = "127.0.0.1"

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")

CLOSE_S = 20.0
"""How long agents may take to let go of what they hold before they are killed."""

TAKEN_AWAY = "terminated expectedly"
"""What Ray says of an agent whose node was told to end (SIGTERM), and did; for one drained before it has a flag."""

OBJECT_STORE_BYTES = 80 * 2**20
"""Shared memory of a cluster on this machine: outcomes are a few kB, pixels never travel."""


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
    started_here = False
    # Ray prints to standard output when a process dies, also when told to log nothing; that is the caller's.
    with redirect_stdout(sys.stderr):
        try:
            started_here = _connect(settings)
            cell.work()
        finally:
            cell.close()
            if started_here:
                ray.shutdown()


def _connect(settings: CellSettings) -> bool:
    """Connect to the cluster, or start one on this machine; whether it is ours to end."""
    if ray.is_initialized():
        return False
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING}
    if settings.address is None:
        options |= {
            # Not None: that would follow $RAY_ADDRESS to some other cluster.
            "address": "local",
            "num_cpus": max(1, round(settings.agents * settings.cpus)),
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE_BYTES,
            "_node_ip_address": LOOPBACK,
        }
        if settings.gpus:
            options["num_gpus"] = max(1, round(settings.agents * settings.gpus))
    else:
        options["address"] = settings.address
    try:
        with _loopback_only() if settings.address is None else nullcontext():
            ray.init(**options)
    except (RayError, ConnectionError, RuntimeError, ValueError) as exc:
        raise CellFailed(f"no Ray cluster at {settings.address or 'this machine'}: {exc}") from exc
    return True


@contextmanager
def _loopback_only() -> Iterator[None]:
    """Let nothing of a cluster for one machine listen beyond this machine.

    Asked for 127.0.0.1, Ray takes the outward address instead and listens on all interfaces,
    unless this is set (as it is on macOS): `services.resolve_ip_for_localhost`, Ray 2.60.
    """
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


@dataclass(slots=True)
class _Handle:
    """An actor, the node it turned out to be on, its call that closes it, and the sign of life asked of it when."""

    actor: Any
    node: str = ""
    closing: Any = None
    hearing: Any = None
    asked: float = 0.0


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
        self._dispatch = Dispatch(settings.agents)
        self._agents: dict[str, _Handle] = {}
        self._calls: dict[Any, tuple[str, Lease | None]] = {}
        self._nodes: set[str] = set()
        self._failure = ""

    def node_up(self, node: str) -> None:
        """Note that a node costs money, unless that is known."""
        if node not in self._nodes:
            self._nodes.add(node)
            self._ledger.node_up(node, self._settings.machine, self._owner, self._settings.label)

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
                self._ledger.heartbeat(self._owner, self._settings.lease_s)
                self._listen(now)
                beat = now
            if now - tick > TICK_S:
                self._ledger.expire()
                self._feed(Tick(self._ledger.counts().open))
                self._tell("tick", "")
                tick = now
            self._collect()
        if self._failure:
            raise CellFailed(self._failure)

    def close(self) -> None:
        """End the agents; what they were at work on is lost, and what was not begun given back."""
        try:
            flying = [lease for _, lease in self._calls.values() if lease is not None]
            self._ledger.lose(flying, "the cell ended", code=loss_code(self._stop))
            closing = [handle.closing for handle in self._agents.values() if handle.closing is not None]
            if closing:
                ray.wait(closing, num_returns=len(closing), timeout=CLOSE_S)
            for handle in self._agents.values():
                ray.kill(handle.actor)
        finally:
            for node in self._nodes:
                self._ledger.node_down(node, self._owner)
            self._ledger.release(self._owner, "the cell ended")

    def _collect(self) -> None:
        """Wait for calls to end, and feed what they gave."""
        if not self._calls:
            # `ray.wait` refuses an empty list.
            self._stop.wait(WAIT_S)
            return
        ready, _ = ray.wait(list(self._calls), num_returns=len(self._calls), timeout=0)
        if not ready:
            ready, _ = ray.wait(list(self._calls), num_returns=1, timeout=WAIT_S)
        ended: list[tuple[Any, Outcome]] = []
        dead: list[tuple[str, str, bool]] = []
        for ref in ready:
            name, lease = self._calls[ref]
            try:
                answer = ray.get(ref)
            except RayActorError as exc:
                dead.append((name, _line(exc), _taken_away(exc)))
                continue
            except (RayError, Error, OSError, RuntimeError) as exc:
                # The agent lives, its call did not: recorded, so that it is not tried for ever.
                if lease is None:
                    dead.append((name, _line(exc), False))
                    continue
                failure = Failure("agent", "AGENT_ERROR", _line(exc), retryable=True)
                answer = Outcome(lease.workitem.key, State.CANCELED, failure=failure)
            ended.append((ref, answer))
        # What was done before an agent died is recorded before the agent's leases are lost.
        self._record(ended)
        for each in dead:
            self._buried(*each)

    def _record(self, ended: Sequence[tuple[Any, Any]]) -> None:
        """Calls have given their answers: of agents that came up, and of workitems that ended, all of these at once."""
        done: list[tuple[str, Lease, Outcome]] = []
        events: list[Event] = []
        for ref, answer in ended:
            name, lease = self._calls[ref]
            if lease is not None:
                done.append((name, lease, answer))
                continue
            host, pid, memory = answer
            self._agents[name].node = host
            self.node_up(host)
            self._tell("agent_up", f"{name} is process {pid} on {host}")
            events.append(AgentUp(name, self._settings.depth, memory))
        told = [(lease, outcome, self._agents[name].node) for name, lease, outcome in done]
        held = self._ledger.finish_all(told) if told else ()
        for ref, _ in ended:
            del self._calls[ref]
        for (name, lease, outcome), kept in zip(done, held, strict=True):
            self._tell("finished" if kept else "fenced", lease.workitem.key, lease, outcome)
            events.append(Finished(name, lease))
        if events:
            self._feed(*events)

    def _listen(self, now: float) -> None:
        """Ask every agent for a sign of life; one that owes it for as long as leases hold is given up.

        Ray says when a process is dead, and nothing of one that is stopped or hangs.
        """
        for name, handle in list(self._agents.items()):
            if not handle.node:
                continue
            if handle.hearing is not None:
                owed_s = now - handle.asked
                late = owed_s > self._settings.lease_s
                # Were it this process that stood still, the answer is there and only not yet taken in.
                answered, _ = ray.wait([handle.hearing], timeout=WAIT_S if late else 0)
                if not answered:
                    if late:
                        self._buried(name, f"no sign of life for {owed_s:.0f} s")
                    continue
                try:
                    ray.get(handle.hearing)
                except RayError as exc:
                    self._buried(name, _line(exc), _taken_away(exc))
                    continue
            handle.hearing, handle.asked = handle.actor.hear.remote(), now

    def _buried(self, name: str, reason: str, preempted: bool = False) -> None:
        """An agent is dead: forget its calls, tell the ledger and the dispatch."""
        if name not in self._agents:
            return
        self._calls = {ref: call for ref, call in self._calls.items() if call[0] != name}
        handle = self._agents[name]
        node = handle.node
        self._ledger.event("warning", "agent_down", f"{name} on {node or 'no node yet'}: {reason}")
        self._tell("agent_down", f"{name}: {reason}")
        self._feed(AgentDown(name, reason, preempted))
        ray.kill(handle.actor)
        del self._agents[name]
        self._nodes_gone()

    def _nodes_gone(self) -> None:
        """End the lives of nodes that Ray has taken for dead."""
        alive = {node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"]}
        for node in self._nodes - alive:
            self._ledger.node_down(node, self._owner)
        self._nodes &= alive

    def _drain(self, reason: str) -> None:
        self._ledger.event("info", "draining", reason)
        self._tell("draining", reason)
        self._feed(Drain(reason))

    def _feed(self, *events: Event) -> None:
        """Give events to the dispatch and carry out what it says, until it says no more."""
        moments = deque([events])
        while moments:
            instructions = self._dispatch.handle(*moments.popleft())
            if late := self._begin([each for each in instructions if isinstance(each, Start)]):
                moments.append(late)
            for instruction in instructions:
                moments.extend((event,) for event in self._carry_out(instruction))

    def _carry_out(self, instruction: Instruction) -> tuple[Event, ...]:
        match instruction:
            case StartAgent(agent):
                self._start_agent(agent)
            case LeaseMore(number, memory):
                return self._lease(number, memory)
            case Lose(agent, leases, reason, preempted):
                self._ledger.lose(leases, reason, self._agents[agent].node, PREEMPTED if preempted else LOST)
            case Return(leases):
                self._ledger.give_back(leases)
            case StopAgent(agent):
                handle = self._agents[agent]
                handle.closing = handle.actor.close.remote() if handle.node else None
            case Done(failure):
                self._failure = failure
        return ()

    def _lease(self, number: int, memory: NodeMemory) -> tuple[Event, ...]:
        """Lease for nodes with this memory, as long as it may be."""
        leases: list[Lease] = []
        while len(leases) < number:
            flying = self._dispatch.in_flight + len(leases)
            new = lease_some(
                self._ledger,
                self._owner,
                number - len(leases),
                flying,
                self._settings.lease_s,
                self._may_lease,
                memory,
            )
            if new is None:
                return (Leased(tuple(leases), memory), *((Drain("no more may be leased"),) if flying == 0 else ()))
            if not new:
                break
            leases.extend(new)
        return (Leased(tuple(leases), memory),)

    def _begin(self, starts: Sequence[Start]) -> tuple[Event, ...]:
        """Give leased workitems to their agents; those that are no longer held are as good as finished."""
        if not starts:
            return ()
        late: list[Event] = []
        begun = self._ledger.start_all([(each.lease, self._agents[each.agent].node) for each in starts])
        for each, held in zip(starts, begun, strict=True):
            if not held:
                late.append(Finished(each.agent, each.lease))
                continue
            self._calls[self._agents[each.agent].actor.process.remote(each.lease.workitem)] = (each.agent, each.lease)
            self._tell("begun", each.lease.workitem.key, each.lease)
        return tuple(late)

    def _start_agent(self, name: str) -> None:
        options: dict[str, Any] = {
            "num_cpus": self._settings.cpus,
            "num_gpus": self._settings.gpus,
            "max_restarts": 0,
            "max_task_retries": 0,
            # Three more than it works on: to ask where it is, to be heard, and to close it.
            "max_concurrency": self._settings.depth + 3,
            "runtime_env": {"env_vars": dict(self._settings.environment)},
        }
        kind: Any = ray.remote(Agent)
        actor = kind.options(**options).remote(
            self._settings.factory, self._settings.settings, self._settings.silence_s
        )
        self._agents[name] = _Handle(actor)
        self._calls[actor.where.remote()] = (name, None)

    def _tell(self, kind: str, detail: str, lease: Lease | None = None, outcome: Outcome | None = None) -> None:
        self._on_event(CellEvent(kind, detail, lease, outcome))


def _taken_away(error: RayError) -> bool:
    """Whether an agent went with its node after the node was told to go."""
    return isinstance(error, RayActorError) and (error.preempted or TAKEN_AWAY in str(error))


def _line(error: Exception) -> str:
    """The first line and the last of what Ray says: what happened, and the cause."""
    lines = [" ".join(line.split()) for line in _COLOUR.sub("", str(error)).strip().splitlines()] or [
        type(error).__name__
    ]
    return lines[0] if len(lines) == 1 else f"{lines[0]} {lines[-1][:300]}"
