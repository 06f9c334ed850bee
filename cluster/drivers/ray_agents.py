"""The agents of a cell as Ray's actors: begun, given work, heard, buried. Neither ledger nor dispatch is known here.

Actors are not restarted and their calls not retried by Ray: a dead agent stays dead, and another gets its work.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError

from ... import Error
from ...runners.node_memory import NodeMemory
from ...runners.workitem import Failure, Outcome, State
from ..ledgers.attempt import Lease
from .agent import Agent, CellSettings
from .kinds import Kind
from .ray_cluster import line_of, was_taken_away

WAIT_S = 0.5
"""Longest wait for Ray before the loop looks at the clock again."""

CLOSE_S = 20.0
"""How long agents may take to let go of what they hold before they are killed."""


@dataclass(frozen=True, slots=True)
class Came:
    """An agent is up: the process `pid` on `host`, where a stage may take so much memory, of a group of machines."""

    call: Any
    agent: str
    host: str
    pid: int
    memory: NodeMemory
    group: str = ""


@dataclass(frozen=True, slots=True)
class Ended:
    """An agent has an outcome for a lease."""

    call: Any
    agent: str
    lease: Lease
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Died:
    """An agent died, never came up, or is silent; see `AgentDown`."""

    agent: str
    reason: str
    preempted: bool = False
    replaced: bool = True


@dataclass(slots=True)
class Handle:
    """An actor and its kind, the node it turned out to be on, its call that closes it, the sign of life asked of it."""

    actor: Any
    kind: Kind
    node: str = ""
    memory: NodeMemory | None = None
    closing: Any = None
    hearing: Any = None
    asked: float = 0.0


class Agents:
    """The actors of one cell, by name, and their calls that have not been answered for."""

    def __init__(self, settings: CellSettings) -> None:
        self._settings = settings
        self._handles: dict[str, Handle] = {}
        self._calls: dict[Any, tuple[str, Lease | None]] = {}

    def __contains__(self, agent: str) -> bool:
        return agent in self._handles

    @property
    def busy(self) -> bool:
        """Whether there is a call to wait for."""
        return bool(self._calls)

    @property
    def flying(self) -> list[Lease]:
        """What agents work on."""
        return [lease for _, lease in self._calls.values() if lease is not None]

    @property
    def nodes(self) -> set[tuple[NodeMemory | None, tuple[str, ...]]]:
        """What a stage may take on the nodes of its agents, by models; None stands for those that have not come up."""
        return {
            (choice.counted(handle.memory) if handle.memory else None, choice.models)
            for handle in self._handles.values()
            for choice in handle.kind.choices
        }

    def node_of(self, agent: str) -> str:
        """Host name of an agent's node; empty until it came up."""
        return self._handles[agent].node

    def depth_of(self, agent: str) -> int:
        """Workitems that an agent may have in flight."""
        return self._handles[agent].kind.depth

    def start(self, agent: str, kind: Kind) -> None:
        """Begin an actor, and ask where it is."""
        handle = self._handles[agent] = Handle(self._actor(kind), kind)
        self._calls[handle.actor.where.remote()] = (agent, None)

    def begin(self, agent: str, lease: Lease) -> None:
        """Give an agent a workitem."""
        self._calls[self._handles[agent].actor.process.remote(lease.workitem)] = (agent, lease)

    def answers(self) -> list[Came | Ended | Died]:
        """Wait a little for calls, and tell what came of them; they stay until they are `settled`."""
        ready, _ = ray.wait(list(self._calls), num_returns=len(self._calls), timeout=0)
        if not ready:
            ready, _ = ray.wait(list(self._calls), num_returns=1, timeout=WAIT_S)
        return [self._answer(call) for call in ready]

    def settled(self, answers: Iterable[Came | Ended]) -> None:
        """Forget calls whose answers were taken in."""
        for answer in answers:
            del self._calls[answer.call]
            if isinstance(answer, Came):
                self._handles[answer.agent].node = answer.host
                self._handles[answer.agent].memory = answer.memory

    def listen(self, now: float) -> list[Died]:
        """Ask every agent for a sign of life; one that owes it for as long as leases hold is dead.

        Ray says when a process is dead, and nothing of one that is stopped or hangs.
        """
        silent = []
        for agent, handle in self._handles.items():
            if not handle.node:
                continue
            if handle.hearing is not None:
                owed_s = now - handle.asked
                late = owed_s > self._settings.lease_s
                # Were it this process that stood still, the answer is there and only not yet taken in.
                answered, _ = ray.wait([handle.hearing], timeout=WAIT_S if late else 0)
                if not answered:
                    if late:
                        silent.append(Died(agent, f"no sign of life for {owed_s:.0f} s"))
                    continue
                try:
                    ray.get(handle.hearing)
                except RayError as exc:
                    silent.append(Died(agent, line_of(exc), was_taken_away(exc)))
                    continue
            handle.hearing, handle.asked = handle.actor.hear.remote(), now
        return silent

    def abandon(self, agent: str) -> None:
        """Forget what a dead agent was asked."""
        self._calls = {call: asked for call, asked in self._calls.items() if asked[0] != agent}

    def bury(self, agent: str) -> None:
        """Let a dead agent go; one that only seems dead is killed."""
        ray.kill(self._handles.pop(agent).actor)

    def stop(self, agent: str) -> None:
        """Let an agent end once it has nothing in flight."""
        handle = self._handles[agent]
        handle.closing = handle.actor.close.remote() if handle.node else None

    def close(self) -> None:
        """Wait for agents that were told to stop, and kill them all."""
        closing = [handle.closing for handle in self._handles.values() if handle.closing is not None]
        if closing:
            ray.wait(closing, num_returns=len(closing), timeout=CLOSE_S)
        for handle in self._handles.values():
            ray.kill(handle.actor)

    def _actor(self, kind: Kind) -> Any:
        options: dict[str, Any] = {
            "num_cpus": kind.cpus,
            "num_gpus": kind.gpus,
            "resources": dict(kind.resources),
            "max_restarts": 0,
            "max_task_retries": 0,
            # Three more than it works on: to ask where it is, to be heard, and to close it.
            "max_concurrency": kind.depth + 3,
            "runtime_env": {"env_vars": dict(self._settings.environment)},
        }
        actor: Any = ray.remote(Agent)
        return actor.options(**options).remote(self._settings.factory, kind.settings, self._settings.silence_s)

    def _answer(self, call: Any) -> Came | Ended | Died:
        agent, lease = self._calls[call]
        try:
            answer = ray.get(call)
        except RayActorError as exc:
            return Died(agent, line_of(exc), was_taken_away(exc))
        except (RayError, Error, OSError, RuntimeError) as exc:
            if lease is None:
                return Died(agent, line_of(exc))
            # The agent lives, its call did not: recorded, so that it is not tried for ever.
            failure = Failure("agent", "AGENT_ERROR", line_of(exc), retryable=True)
            return Ended(call, agent, lease, Outcome(lease.workitem.key, State.CANCELED, failure=failure))
        return Came(call, agent, *answer) if lease is None else Ended(call, agent, lease, answer)
