"""What a run cost so far, attempt by attempt and node by node; `cost` makes it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from decimal import Decimal

from ..ledger import AttemptClass
from ..prices.price import Price

PREEMPTED = "preempted"
"""What an attempt counts as that was lost with a machine that was taken away after a notice."""


@dataclass(frozen=True, slots=True)
class AttemptCost:
    """What one attempt cost.

    Attributes
    ----------
    outcome : str
        ``completed``, ``refused``, ``failed``, ``lost``, ``preempted`` or ``in flight``.
    stages : tuple of (str, Decimal)
        Dollars per stage, in the order in which the stages first ran.
    prices : tuple of Price
        Of the lives of nodes that it bears a part of.
    """

    key: str
    fence: int
    node: str
    outcome: str
    stages: tuple[tuple[str, Decimal], ...]
    prices: tuple[Price, ...] = ()

    @property
    def usd(self) -> Decimal:
        """Dollars of all its stages."""
        return sum((usd for _, usd in self.stages), Decimal(0))


@dataclass(frozen=True, slots=True)
class NodeCost:
    """What one life of a node cost, and the part of it that no attempt bears.

    Attributes
    ----------
    price : Price
        Its own, or the run's.
    lifetime_s : float
        Seconds that it was paid for.
    idle : Decimal
        Between stages.
    gpu_idle : Decimal
        Of GPUs that nobody held while stages ran.
    head : Decimal
        All of this, where the node drives a cell and takes no work; the others are then nothing.
    """

    node: str
    price: Price
    lifetime_s: float
    start_up: Decimal
    idle: Decimal
    drain: Decimal
    gpu_idle: Decimal = Decimal(0)
    head: Decimal = Decimal(0)

    @property
    def total(self) -> Decimal:
        """Its price for all of its life."""
        return self.price.usd_of(self.lifetime_s)

    @property
    def overhead(self) -> Decimal:
        """All that no attempt bears."""
        return self.start_up + self.idle + self.gpu_idle + self.drain + self.head


@dataclass(frozen=True, slots=True)
class Costs:
    """What a run cost so far, in US dollars, and what for."""

    attempts: tuple[AttemptCost, ...]
    nodes: tuple[NodeCost, ...]
    by_outcome: tuple[tuple[str, Decimal], ...] = field(default=())

    @property
    def total(self) -> Decimal:
        """What all nodes cost."""
        return sum((node.total for node in self.nodes), Decimal(0))

    @property
    def overhead(self) -> Decimal:
        """Start-up, idle time and drain of all nodes, and the heads of cells."""
        return sum((node.overhead for node in self.nodes), Decimal(0))

    @property
    def useful(self) -> Decimal:
        """Spent on attempts that completed."""
        return dict(self.by_outcome).get(AttemptClass.COMPLETED.value, Decimal(0))

    @property
    def wasted(self) -> Decimal:
        """Spent on attempts that failed, or were lost, to whatever cause."""
        spent = dict(self.by_outcome)
        outcomes = (AttemptClass.FAILED.value, AttemptClass.LOST.value, PREEMPTED)
        return sum((spent.get(outcome, Decimal(0)) for outcome in outcomes), Decimal(0))

    def by_key(self) -> dict[str, Decimal]:
        """Dollars per workitem, over all its attempts: the direct cost."""
        spent: defaultdict[str, Decimal] = defaultdict(Decimal)
        for attempt in self.attempts:
            spent[attempt.key] += attempt.usd
        return dict(spent)

    def by_stage(self) -> dict[str, Decimal]:
        """Dollars per stage, over all attempts."""
        spent: defaultdict[str, Decimal] = defaultdict(Decimal)
        for attempt in self.attempts:
            for stage, usd in attempt.stages:
                spent[stage] += usd
        return dict(spent)

    @property
    def loading(self) -> Decimal:
        """Factor from direct to fully loaded cost: overhead spread in proportion; 1 where nothing ran."""
        direct = sum((usd for _, usd in self.by_outcome), Decimal(0))
        return self.total / direct if direct else Decimal(1)
