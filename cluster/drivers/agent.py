"""One agent of a cell, and how a cell is made up: what a cell knows before it knows Ray."""

from __future__ import annotations

import importlib
import os
import socket
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

from ... import Error
from ...runners.heartbeat import SILENCE_S, Switch, end_process
from ...runners.node_memory import NodeMemory
from ...runners.workitem import Outcome, Workitem
from ..kubernetes.cell import machine_group
from ..ledger import LEASE_S, Lease
from ..prices.rates import Price
from .kinds import Kind

NODE_PIPELINE = "voxfleet.runners.pipeline:NodePipeline"
"""What an agent runs, unless a test says otherwise."""


class CellFailed(Error):
    """The cell gave up: its agents do not come up, or there is no cluster."""

    code = "CELL_FAILED"
    retryable = True

    def __init__(self, reason: str) -> None:
        super().__init__(reason)


class Pipeline(Protocol):
    """What an agent wraps: `runners.pipeline.NodePipeline`."""

    @property
    def memory(self) -> NodeMemory:
        """What a stage may take here."""
        ...

    def submit(self, workitem: Workitem) -> Future[Outcome]:
        """Future outcome of one workitem."""
        ...

    def close(self) -> None:
        """Wait for what is in flight, and let everything go."""
        ...


@dataclass(frozen=True, slots=True)
class CellSettings:
    """How a cell is made up.

    Attributes
    ----------
    kinds : tuple of Kind
        Its agents.
    factory : str
        ``module:callable`` that makes their pipelines, imported on the node.
    address : str or None
        ``auto``, ``ray://HOST:10001``, ``HOST:PORT``; None: a cluster on this machine, for this run.
    machine : str
        What a node is, for the ledger.
    lease_s : float
        How long leases hold when this driver falls silent.
    drain_s : float
        How long a stop waits for what is in flight before it is given back.
    environment : mapping of str to str
        Environment variables of the agents.
    silence_s : float
        An agent ends itself when the driver falls silent for so long.
    idle_s : float or None
        For how long it stays with nothing to lease, where somebody begins it again once there is; None: see
        `Idleness`.
    label : str
        Of the machines, ``cell`` on the provider's bill; empty: none.
    prices : mapping of str to Price
        Of nodes that are not the run's own machine, by the group that their agents tell; others have the run's.
    """

    kinds: tuple[Kind, ...]
    factory: str = NODE_PIPELINE
    address: str | None = None
    machine: str = "local"
    lease_s: float = LEASE_S
    drain_s: float = 600.0
    environment: Mapping[str, str] = field(default_factory=dict)
    silence_s: float = SILENCE_S
    label: str = ""
    idle_s: float | None = None
    prices: Mapping[str, Price] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CellEvent:
    """Something that happened in the cell, for a progress bar or a log.

    Attributes
    ----------
    kind : str
        ``agent_up``, ``agent_down``, ``given_up``, ``begun``, ``finished``, ``fenced``, ``draining``, ``left``, or
        ``tick`` every two seconds.
    """

    kind: str
    detail: str
    lease: Lease | None = None
    outcome: Outcome | None = None


class Agent:
    """A node pipeline behind an actor's calls; lives in a process of its own."""

    def __init__(self, factory: str, settings: object, silence_s: float = SILENCE_S) -> None:
        module, _, name = factory.partition(":")
        self._pipeline: Pipeline = getattr(importlib.import_module(module), name)(settings)
        self._switch = Switch(silence_s, end_process)

    def where(self) -> tuple[str, int, NodeMemory, str]:
        """Host name of the machine, process id of this agent on it, what a stage may take there, and its group."""
        return socket.gethostname(), os.getpid(), self._pipeline.memory, machine_group()

    def process(self, workitem: Workitem) -> Outcome:
        """The outcome of one workitem; called by up to `depth` threads at a time."""
        return self._pipeline.submit(workitem).result()

    def hear(self) -> None:
        """A sign of the driver."""
        self._switch.hear()

    def close(self) -> None:
        """Wait for what is in flight, and let everything go."""
        self._pipeline.close()
