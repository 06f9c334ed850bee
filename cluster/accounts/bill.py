"""A run's own bill: every dollar of every node, byte and request in one line, and sums over the lines.

Each line is what one stage of one attempt cost on its node, or one node's start-up, idle time or
drain, or what an attempt moved or stored. The lines of machines together are price times lifetime of
the nodes; the others together are the run's bytes, requests and objects times their prices.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from ..ledger import AttemptClass
from ..planning.plan import GPU_SPEED
from ..prices.price import Price
from .costs import PREEMPTED
from .spent import PricedNodes
from .traffic import Amounts

OVERHEAD = "overhead"
"""Outcome of a line that no attempt bears."""

HEAD = "head"
"""Stage of a line that is for the head of a cell: all of its life."""

MACHINE = "machine"
"""Charge of a line that is for the time of a machine; others are kinds of `rates.CHARGES`."""

PURPOSE = {
    AttemptClass.COMPLETED.value: "useful",
    AttemptClass.FAILED.value: "failed",
    AttemptClass.LOST.value: "lost",
    PREEMPTED: "preempted",
    AttemptClass.REFUSED.value: "refused",
}
"""What an attempt's dollars were for, by its outcome; others are their own purpose."""

WASTED = ("failed", "lost", "preempted", "idle", "gpu idle")
"""Purposes of which nothing came."""


@dataclass(frozen=True, slots=True)
class BillLine:
    """What one stage of one attempt cost, or one part of a node's life that no attempt bears.

    Attributes
    ----------
    price : Price
        Of the node.
    day : date
        In UTC, on which the attempt began; of an overhead, on which the node came up.
    series_instance_uid, model : str
        Empty for an overhead.
    outcome : str
        ``completed``, ``refused``, ``failed``, ``lost``, ``preempted``, ``in flight`` or ``overhead``.
    stage : str
        Of the pipeline; or ``start-up``, ``idle``, ``gpu idle``, ``drain``, ``head``.
    charge : str
        ``machine``, ``egress``, ``nat``, ``storage`` (of one month), ``write-requests`` or ``read-requests``.
    usd : Decimal
        Direct.
    loaded_usd : Decimal
        With its part of start-up, idle time, drain and heads of cells, in proportion to its direct dollars of
        machines; 0 for these themselves.
    """

    node: str
    machine: str
    price: Price
    day: date
    series_instance_uid: str
    model: str
    attempt: int
    outcome: str
    stage: str
    charge: str
    usd: Decimal
    loaded_usd: Decimal

    @property
    def priced(self) -> str:
        """Its machine, and what an hour of it costs."""
        where = " ".join(part for part in (self.machine, self.price.region, self.price.market) if part)
        return f"{where} ${self.price.usd_per_hour}/h"

    @property
    def purpose(self) -> str:
        """``useful``, ``failed``, ``lost``, ``preempted``, ``refused``, ``in flight``; or an overhead's stage."""
        return self.stage if self.outcome == OVERHEAD else PURPOSE.get(self.outcome, self.outcome)


@dataclass(frozen=True, slots=True)
class BillSum:
    """What all lines of one name cost together, and what for."""

    name: str
    series: int
    useful: Decimal
    wasted: Decimal
    other: Decimal
    loaded: Decimal

    @property
    def usd(self) -> Decimal:
        """All of it."""
        return self.useful + self.wasted + self.other


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """What the same run would have cost on another machine, at these assumed seconds."""

    price: Price
    usd: Decimal


@dataclass(frozen=True, slots=True)
class Bill:
    """A run's lines.

    Attributes
    ----------
    price : Price
        The run's; nodes may have others.
    node_usd : Decimal
        Price times lifetime of all nodes, reckoned apart from the lines.
    nodes, heads : tuple of PricedNodes
        All nodes by their prices: those that take work, and the heads of cells.
    traffic : Amounts
        Bytes, requests and storage of the whole run and their prices, counted apart from the lines.
    completed : int
        Series with a result.
    hours : float
        From the first node's coming up to the last one's end.
    most_nodes : int
        Nodes that were up at once, heads of cells apart.
    gpu_share : float
        Part of the stages' seconds during which a GPU was held.
    """

    run: str
    price: Price
    lines: tuple[BillLine, ...]
    node_usd: Decimal
    nodes: tuple[PricedNodes, ...]
    traffic: Amounts
    completed: int
    hours: float
    most_nodes: int
    gpu_share: float
    heads: tuple[PricedNodes, ...] = ()

    @property
    def total(self) -> Decimal:
        """Sum of the lines."""
        return sum((line.usd for line in self.lines), Decimal(0))

    @property
    def identity_error(self) -> Decimal:
        """How far the lines' sum is from price times lifetime and from amounts times prices, relatively."""
        reckoned = self.node_usd + self.traffic.usd
        return abs(self.total - reckoned) / reckoned if reckoned else abs(self.total)

    @property
    def per_series(self) -> Decimal | None:
        """Dollars for each completed series, all overheads in them; None while there is none."""
        return self.total / self.completed if self.completed else None

    def by(self, name: Callable[[BillLine], str]) -> tuple[BillSum, ...]:
        """Sums over the lines of one name, in the order in which the names first come."""
        groups: defaultdict[str, list[BillLine]] = defaultdict(list)
        for line in self.lines:
            groups[name(line)].append(line)
        return tuple(_sum(key, lines) for key, lines in groups.items())

    def by_series(self) -> tuple[BillSum, ...]:
        """Sums of each series, all its attempts and models together, the dearest first."""
        mine = [line for line in self.lines if line.series_instance_uid]
        groups: defaultdict[str, list[BillLine]] = defaultdict(list)
        for line in mine:
            groups[line.series_instance_uid].append(line)
        return tuple(sorted((_sum(key, lines) for key, lines in groups.items()), key=lambda row: -row.usd))

    def of_series(self) -> dict[str, Decimal]:
        """Direct dollars of each completed series, all its attempts and models together."""
        done = {line.series_instance_uid for line in self.lines if line.outcome == AttemptClass.COMPLETED.value}
        return {row.name: row.usd for row in self.by_series() if row.name in done}

    def elsewhere(self, prices: Iterable[Price]) -> tuple[Elsewhere, ...]:
        """The same seconds at other prices, the cheapest first; machines without a GPU only for a run without one.

        GPU seconds are scaled by the assumed speeds of `plan.GPU_SPEED` where both GPUs are in it. A
        machine, region and market that comes twice counts with its first price. Heads of cells stay as they are.
        """
        hours = Decimal(repr(sum(each.hours for each in self.nodes)))
        able: dict[tuple[str, str, str], Price] = {}
        for price in prices:
            if bool(price.gpus) >= (self.gpu_share > 0):
                able.setdefault((price.machine, price.region, price.market), price)
        heads = sum((each.usd for each in self.heads), Decimal(0))
        found = [Elsewhere(price, hours * price.usd_per_hour * self._scale(price) + heads) for price in able.values()]
        return tuple(sorted(found, key=lambda each: each.usd))

    def _scale(self, price: Price) -> Decimal:
        if self.price.gpu not in GPU_SPEED or price.gpu not in GPU_SPEED:
            return Decimal(1)
        return Decimal(1 - self.gpu_share + self.gpu_share * GPU_SPEED[self.price.gpu] / GPU_SPEED[price.gpu])


def _sum(name: str, lines: Sequence[BillLine]) -> BillSum:
    spent: defaultdict[str, Decimal] = defaultdict(Decimal)
    for line in lines:
        spent[line.purpose] += line.usd
    useful = spent.pop("useful", Decimal(0))
    wasted = sum((spent.pop(purpose, Decimal(0)) for purpose in WASTED), Decimal(0))
    series = {line.series_instance_uid for line in lines if line.series_instance_uid}
    loaded = sum((line.loaded_usd for line in lines), Decimal(0))
    return BillSum(name, len(series), useful, wasted, sum(spent.values(), Decimal(0)), loaded)
