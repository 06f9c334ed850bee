"""What a dispatch is told, and what it says: events in, instructions out."""

from __future__ import annotations

from dataclasses import dataclass

from ...runners.node_memory import UNKNOWN_MEMORY, NodeMemory
from ..ledger import Lease
from .kinds import Kind


@dataclass(frozen=True, slots=True)
class AgentUp:
    """An agent is ready for `depth` workitems at a time, on a node with this memory."""

    agent: str
    depth: int
    memory: NodeMemory = UNKNOWN_MEMORY


@dataclass(frozen=True, slots=True)
class AgentDown:
    """An agent died, or never came up, with all it held.

    Attributes
    ----------
    preempted : bool
        Its machine had given notice.
    replaced : bool
        False: its machine cannot go on, and one that took its place would come to the same.
    """

    agent: str
    reason: str
    preempted: bool = False
    replaced: bool = True


@dataclass(frozen=True, slots=True)
class Leased:
    """The answer to LeaseMore: fewer than asked for, or none, where there is nothing more now."""

    leases: tuple[Lease, ...]
    memory: NodeMemory = UNKNOWN_MEMORY
    models: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Finished:
    """An agent has an outcome for a lease."""

    agent: str
    lease: Lease


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed; `open_items` workitems of the run are not settled, in this cell or elsewhere.

    Attributes
    ----------
    for_others : bool
        Some wait for an agent, or for the end of a pause, and none of these is for one that the cell has.
    """

    open_items: int
    for_others: bool = False


@dataclass(frozen=True, slots=True)
class Drain:
    """Begin nothing more; what is in flight is finished."""

    reason: str


Event = AgentUp | AgentDown | Leased | Finished | Tick | Drain


@dataclass(frozen=True, slots=True)
class StartAgent:
    """Start an agent of a kind under this name, not used before; answer with AgentUp or AgentDown."""

    agent: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class LeaseMore:
    """Lease up to `number` workitems of these models (empty: of all) for nodes with this memory.

    Answer with Leased, and with nothing leased also.
    """

    number: int
    memory: NodeMemory = UNKNOWN_MEMORY
    models: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Start:
    """Give a leased workitem to an agent; answer with Finished, or AgentDown."""

    agent: str
    lease: Lease


@dataclass(frozen=True, slots=True)
class Lose:
    """Tell the ledger that these leases died with their agent; `preempted`: its machine had given notice."""

    agent: str
    leases: tuple[Lease, ...]
    reason: str
    preempted: bool = False


@dataclass(frozen=True, slots=True)
class Return:
    """Tell the ledger that these leases were never begun."""

    leases: tuple[Lease, ...]


@dataclass(frozen=True, slots=True)
class StopAgent:
    """End an agent that has nothing to do any more."""

    agent: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Begin no agents of a kind any more, since they only die, and end those that there are: they hold nothing."""

    kind: Kind
    agents: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Done:
    """The cell is finished: `failure` says why it gave up, and is empty where it did not."""

    failure: str = ""


Instruction = StartAgent | LeaseMore | Start | Lose | Return | StopAgent | GiveUp | Done
