"""Kinds of agents in a cell: those with GPUs, and those beside them that have none; which models each takes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from ...models.model import ModelCard
from ...runners.node_memory import NodeMemory, classes
from ...runners.pipeline import PipelineSettings
from ..kubernetes.cell import BadCell

CPU_RESOURCE = "voxfleet_cpu"
"""Ray's name for a place on a machine that is there for models that need no GPU; one on each."""

Wanted: TypeAlias = tuple[NodeMemory, tuple[str, ...]]
"""What agents have room for: workitems for a class of nodes, of these models; of all, where none is named."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Workitems that an agent takes.

    Attributes
    ----------
    models : tuple of str
        Of these models; empty: of all.
    gpu : bool
        Whether a GPU's memory counts for what fits.
    """

    models: tuple[str, ...] = ()
    gpu: bool = True

    def counted(self, memory: NodeMemory) -> NodeMemory:
        """A node's memory, as far as it counts."""
        return memory if self.gpu else NodeMemory(memory.host_bytes)


@dataclass(frozen=True, slots=True)
class Kind:
    """Agents of one kind; each is one actor, one node pipeline.

    Attributes
    ----------
    number : int
        Kept up.
    depth : int
        Workitems in flight at each.
    settings : object
        Given to the factory of their pipelines; picklable (PipelineSettings).
    choices : tuple of Choice
        What they take: of each only while there is nothing of those before it.
    cpus, gpus : float
        Of the cluster's, reserved for each.
    resources : mapping of str to float
        Of the cluster's own, reserved for each.
    """

    number: int
    depth: int = 1
    settings: object = None
    choices: tuple[Choice, ...] = (Choice(),)
    cpus: float = 1.0
    gpus: float = 0.0
    resources: Mapping[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What people call them."""
        return "agents with GPUs" if self.gpus else "agents without GPUs"


def wants_of(agents: Sequence[tuple[Kind, NodeMemory]]) -> list[tuple[Wanted, ...]]:
    """What each of a cell's agents wants, on nodes with these memories: by its choices, in their order.

    Nodes that differ by a little are one class: what is leased for it fits on the least of them. So are nodes
    that differ in their GPUs alone, where no GPU matters.
    """
    memories: dict[Choice, set[NodeMemory]] = defaultdict(set)
    for kind, memory in agents:
        for choice in kind.choices:
            memories[choice].add(choice.counted(memory))
    found = {choice: classes(each) for choice, each in memories.items()}
    return [
        tuple((found[choice][choice.counted(memory)], choice.models) for choice in kind.choices)
        for kind, memory in agents
    ]


def wants_gpu(card: ModelCard) -> bool:
    """Whether a model wants a GPU: trained networks do."""
    return card.gpu_bytes > 0 or card.algorithm_family == "AI"


def split(cell: str, cards: Sequence[ModelCard]) -> tuple[list[ModelCard], list[ModelCard]]:
    """The models that want a GPU, and the others: what a cell with two kinds of machines is for.

    Raises
    ------
    BadCell
        If there are none of one sort: one kind of machines would have nothing to do.
    """
    on_gpu, others = [each for each in cards if wants_gpu(each)], [each for each in cards if not wants_gpu(each)]
    if not on_gpu:
        raise BadCell(cell, "no model of the run needs a GPU, and all workers are without: give --workers alone")
    if not others:
        raise BadCell(cell, "every model of the run needs a GPU: leave --cpu-workers out")
    return on_gpu, others


def kinds_of(settings: PipelineSettings, agents: int, cpu_agents: int, cards: Sequence[ModelCard]) -> tuple[Kind, ...]:
    """Kinds of the agents of a cell.

    Agents with GPUs take other models, too, while there is nothing for a GPU: nobody waits for the few
    machines beside them, and a run whose CPU machines are not to be had goes on.

    Parameters
    ----------
    settings : PipelineSettings
        Of those that have the devices.
    cpu_agents : int
        Beside them; 0: one kind takes all models.

    Raises
    ------
    BadCell
        If one of two kinds would have nothing to do, or no device is a GPU.
    """
    gpus = sum(device.startswith("cuda") for device in settings.devices)
    if not cpu_agents:
        return (Kind(agents, settings.depth, settings, gpus=gpus),)
    on_gpu, others = (tuple(card.name for card in part) for part in split("--cpu-workers", cards))
    if not gpus:
        raise BadCell("--cpu-workers", "are beside workers with GPUs, which need --device cuda:0")
    beside = replace(settings, devices=("cpu",))
    return (
        Kind(agents, settings.depth, settings, (Choice(on_gpu), Choice(others, gpu=False)), gpus=gpus),
        Kind(cpu_agents, beside.depth, beside, (Choice(others, gpu=False),), resources={CPU_RESOURCE: 1.0}),
    )
