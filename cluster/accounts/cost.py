"""Cost: what each second of each node was for, in dollars.

A node costs its price (its own, or else the run's) for every second from `up` to `down`. The price has three
parts (`parts_of`): GPUs, cores and memory. In a second in which stages run, whosever they are,

- a GPU's part goes to the stage that held a GPU (`Consumption.gpu_s`), each GPU once; the part of GPUs
  that nobody held is idle, `gpu_idle`;
- the cores' part goes to the stages in the ratio of the cores that they kept busy (`cpu_s` over
  `wall_s`), in equal parts where none kept any;
- the memory's part goes to them in equal parts: the peak that is metered is a process's, not a stage's.

A second in which none runs is start-up (before the node's first stage), idle (between), or drain
(after its last). An attempt that left no record of stages (its machine died, or it is in flight)
counts as one stage, ``unknown``, from its start to its end, which held whatever GPU no other did.
Seconds outside the life of a node cost nothing. The head of a cell takes no work: what no attempt bears of it is
its own part, ``head``. So, for every node,

    price x lifetime = start-up + idle + idle GPUs + drain + head + the sum over its attempts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from itertools import pairwise

from ..ledger import Attempt, Node
from ..prices.price import Price
from .costs import PREEMPTED, AttemptCost, Costs, NodeCost
from .parts import Parts, parts_of

UNKNOWN_STAGE = "unknown"
"""Stage of an attempt that ended without saying what it did."""

LEAST_CORES = 1e-6
"""Stages that together keep less than this busy share the cores' part equally."""

IN_FLIGHT = "in flight"
"""What an attempt that has not ended counts as."""


@dataclass(frozen=True, slots=True)
class _Stage:
    """One stage on one node, in seconds since the node came up.

    Attributes
    ----------
    cores : float
        That it kept busy, on average.
    gpus : float
        That it held, on average.
    known : bool
        Whether there is a record of these.
    """

    begin: float
    end: float
    attempt: int
    name: str
    cores: float
    gpus: float
    known: bool


@dataclass(slots=True)
class _Borne:
    """What one attempt bears so far, by stage, and the prices of the lives of nodes that it is of."""

    stages: defaultdict[str, Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    prices: list[Price] = field(default_factory=list)

    def add(self, stage: str, price: Price, usd: Decimal) -> None:
        """Bear some more, at a price."""
        self.stages[stage] += usd
        if price not in self.prices:
            self.prices.append(price)


def cost_of(attempts: Sequence[Attempt], nodes: Sequence[Node], price: Price, now: datetime) -> Costs:
    """What each attempt and each node cost, by the rule above; what is in flight counts up to `now`.

    Parameters
    ----------
    nodes : sequence of Node
        Lives of nodes. An attempt on a node that none of them names has its node's life taken
        from the attempts on it.
    price : Price
        Of every node that has none of its own.
    """
    lives = (*nodes, *_lives_of_others(attempts, nodes, now))
    borne = [_Borne() for _ in attempts]
    on_node: defaultdict[str, list[tuple[int, Attempt]]] = defaultdict(list)
    for i, attempt in enumerate(attempts):
        on_node[attempt.node].append((i, attempt))
    costs = tuple(_node_cost(node, list(_stages_on(node, on_node[node.node], now)), borne, price) for node in lives)
    shares = tuple(
        AttemptCost(
            key=attempt.key,
            fence=attempt.fence,
            node=attempt.node,
            outcome=_outcome(attempt),
            stages=tuple(borne[i].stages.items()),
            prices=tuple(borne[i].prices),
        )
        for i, attempt in enumerate(attempts)
    )
    spent: defaultdict[str, Decimal] = defaultdict(Decimal)
    for share in shares:
        spent[share.outcome] += share.usd
    return Costs(shares, costs, tuple(spent.items()))


def _outcome(attempt: Attempt) -> str:
    if attempt.outcome is None:
        return IN_FLIGHT
    return PREEMPTED if attempt.preempted else attempt.outcome.value


def _lives_of_others(attempts: Sequence[Attempt], nodes: Sequence[Node], now: datetime) -> Iterator[Node]:
    """Lives of nodes that nobody declared, from the first start to the last end of their attempts."""
    known = {node.node for node in nodes}
    ends: dict[str, tuple[datetime, datetime]] = {}
    for attempt in attempts:
        # What was leased and never begun was on no node.
        if attempt.node and attempt.node not in known:
            up, down = attempt.started, max(attempt.started, attempt.ended or now)
            first, last = ends.get(attempt.node, (up, down))
            ends[attempt.node] = (min(first, up), max(last, down))
    for name, (up, down) in ends.items():
        yield Node(name, "", up, down, down)


def _node_cost(node: Node, stages: Sequence[_Stage], borne: Sequence[_Borne], price: Price) -> NodeCost:
    """What this life of a node cost; what attempts bear of it is added to `borne`."""
    price = node.price or price
    lifetime, parts = node.lifetime_s, parts_of(price)
    seconds: defaultdict[tuple[int, str], float] = defaultdict(float)
    edges = sorted({edge for stage in stages for edge in (stage.begin, stage.end)})
    starting: defaultdict[float, list[_Stage]] = defaultdict(list)
    for stage in stages:
        starting[stage.begin].append(stage)
    running: list[_Stage] = []
    idle = gpu_idle = 0.0
    for begin, end in pairwise(edges):
        running = [stage for stage in running if stage.end > begin] + starting[begin]
        if not running:
            idle += end - begin
            continue
        shares, unheld = _shares(running, parts)
        for stage, share in zip(running, shares, strict=True):
            seconds[stage.attempt, stage.name] += (end - begin) * share
        gpu_idle += (end - begin) * unheld
    for (attempt, name), used in seconds.items():
        borne[attempt].add(name, price, price.usd_of(used))
    first, last = (edges[0], edges[-1]) if edges else (lifetime, lifetime)
    cost = NodeCost(
        node=node.node,
        price=price,
        lifetime_s=lifetime,
        start_up=price.usd_of(first),
        idle=price.usd_of(idle),
        drain=price.usd_of(lifetime - last),
        gpu_idle=price.usd_of(gpu_idle),
    )
    if not node.head:
        return cost
    return NodeCost(node.node, price, lifetime, Decimal(0), Decimal(0), Decimal(0), head=cost.overhead)


def _shares(running: Sequence[_Stage], parts: Parts) -> tuple[list[float], float]:
    """Each stage's share of a second of the node, and the share of GPUs that nobody held; together 1."""
    known = [stage for stage in running if stage.known]
    unknown = len(running) - len(known)
    held, busy = sum(stage.gpus for stage in known), sum(stage.cores for stage in known)
    free = max(0.0, parts.gpus - held)
    a_gpu = parts.gpu / max(parts.gpus, held) if parts.gpus else 0.0
    idling = busy < LEAST_CORES
    # Of whom nothing is known is taken to keep as many cores busy as the others do.
    typical = 1.0 if idling else busy / len(known)
    cores = [stage.cores if stage.known and not idling else typical for stage in running]
    shares = [
        a_gpu * (stage.gpus if stage.known else free / unknown)
        + parts.cores * kept / sum(cores)
        + parts.memory / len(running)
        for stage, kept in zip(running, cores, strict=True)
    ]
    return shares, 0.0 if unknown else a_gpu * free


def _stages_on(node: Node, attempts: Iterable[tuple[int, Attempt]], now: datetime) -> Iterator[_Stage]:
    """Stages that ran on a node while it lived; none that took no time."""
    up, lifetime = node.up.timestamp(), node.lifetime_s
    for i, attempt in attempts:
        spans = [
            (c.stage, c.started, c.started + c.wall_s, max(0.0, c.cpu_s), max(0.0, c.gpu_s))
            for c in attempt.consumption
        ]
        known = bool(spans)
        if not known:
            spans = [(UNKNOWN_STAGE, attempt.started.timestamp(), (attempt.ended or now).timestamp(), 0.0, 0.0)]
        for name, started, ended, cpu_s, gpu_s in spans:
            begin, end = max(0.0, started - up), min(lifetime, ended - up)
            if begin < end:
                wall_s = ended - started
                yield _Stage(begin, end, i, name, cpu_s / wall_s, gpu_s / wall_s, known)
