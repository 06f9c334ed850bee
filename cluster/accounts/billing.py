"""Billing: from a run's ledger and prices to its bill."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

from ..ledger import Attempt, AttemptClass, Item, Ledger, Node
from ..prices.price import Charge, Price
from .bill import HEAD, MACHINE, OVERHEAD, Bill, BillLine
from .billed import PARTS
from .cost import cost_of
from .costs import AttemptCost, Costs
from .parts import parts_of
from .spent import priced_nodes, spent_on_nodes
from .traffic import Charged, Use, amounts_of, prices_of, uses_of


def bill_of(ledger: Ledger, price: Price, charges: Sequence[Charge] = (), charged: Charged | None = None) -> Bill:
    """The bill of a run as of now, every node at its own price or else at `price`, and all that is charged beside."""
    read = _Read(ledger, price)
    charged = charged or Charged(frozenset())
    prices = prices_of(charges, charged.kinds, price)
    stored = ledger.stored()
    uses = uses_of(read.attempts, read.items, stored, charged, prices)
    used = [each for attempt in read.attempts for each in attempt.consumption]
    wall_s = sum(each.wall_s for each in used)
    lines = (*_lines(read), *_traffic_lines(read, uses), *_overheads(read))
    # The first lives are those of the nodes that the ledger names; others are at work.
    is_head = [node.head for node in read.nodes] + [False] * (len(read.costs.nodes) - len(read.nodes))
    lives = [(node.price, 1, node.lifetime_s) for node in read.costs.nodes]
    return Bill(
        run=ledger.run().name,
        price=price,
        lines=lines,
        node_usd=read.costs.total,
        nodes=priced_nodes(life for life, head in zip(lives, is_head, strict=True) if not head),
        heads=priced_nodes(life for life, head in zip(lives, is_head, strict=True) if head),
        traffic=amounts_of(read.attempts, read.items, stored, charged, prices),
        completed=len({line.series_instance_uid for line in lines if line.outcome == AttemptClass.COMPLETED.value}),
        hours=_hours(read.nodes),
        most_nodes=_most_at_once(read.nodes),
        gpu_share=min(1.0, sum(each.gpu_s for each in used) / wall_s) if wall_s else 0.0,
    )


class _Read:
    """What a bill is made of, as of one moment."""

    def __init__(self, ledger: Ledger, price: Price) -> None:
        self.now, self.price = ledger.now(), price
        self.attempts: Sequence[Attempt] = ledger.attempts()
        self.nodes: Sequence[Node] = ledger.nodes()
        self.items: Sequence[Item] = ledger.items()
        self.costs: Costs = cost_of(self.attempts, self.nodes, price, self.now)
        self.loading = self.costs.loading
        self.machines = {node.node: node.machine for node in self.nodes}
        self.workitems = {item.workitem.key: item.workitem for item in self.items}

    def line(self, attempt: Attempt, share: AttemptCost, stage: str, charge: str, usd: Decimal) -> BillLine:
        """One line that an attempt bears."""
        work = self.workitems[attempt.key]
        return BillLine(
            node=attempt.node,
            machine=self.machines.get(attempt.node, self.price.machine),
            price=share.prices[0] if share.prices else self.price,
            day=attempt.started.astimezone(UTC).date(),
            series_instance_uid=work.series_instance_uid,
            model=f"{work.model} {work.model_version}",
            attempt=attempt.fence,
            outcome=share.outcome,
            stage=stage,
            charge=charge,
            usd=usd,
            loaded_usd=usd * self.loading if charge == MACHINE else usd,
        )


def node_usd_by_day(nodes: Sequence[Node], price: Price) -> dict[date, Decimal]:
    """What nodes cost on each day of UTC: a life that goes over midnight is cut there."""
    days: defaultdict[date, Decimal] = defaultdict(Decimal)
    for node in nodes:
        begin, end = node.up.astimezone(UTC), (node.down or node.last_seen).astimezone(UTC)
        while begin < end:
            midnight = datetime.combine(begin.date() + timedelta(days=1), time(), UTC)
            until = min(midnight, end)
            days[begin.date()] += (node.price or price).usd_of((until - begin).total_seconds())
            begin = until
    return dict(sorted(days.items()))


def node_usd_by_cell(nodes: Sequence[Node], price: Price) -> dict[str, Decimal]:
    """What the nodes of each cell cost; empty name: of those without one."""
    cells = {node.cell for node in nodes}
    return {cell: spent_on_nodes([node for node in nodes if node.cell == cell], price) for cell in sorted(cells)}


def node_shares(nodes: Sequence[Node], price: Price) -> dict[str, float]:
    """Shares of what all nodes cost: of their GPUs, cores and memory; of `price` where there are none."""
    rows = priced_nodes((node.price or price, 1, node.lifetime_s) for node in nodes)
    total = float(sum(row.usd for row in rows))
    weighed = [(parts_of(row.price), float(row.usd) / total) for row in rows] if total else [(parts_of(price), 1.0)]
    return {name: sum(getattr(parts, name) * weight for parts, weight in weighed) for name in PARTS}


def _lines(read: _Read) -> Iterator[BillLine]:
    for attempt, share in zip(read.attempts, read.costs.attempts, strict=True):
        for stage, usd in share.stages:
            yield read.line(attempt, share, stage, MACHINE, usd)


def _traffic_lines(read: _Read, uses: Iterable[Use]) -> Iterator[BillLine]:
    """Lines of what has a price; an attempt that is in flight has moved nothing that is known of."""
    tries = {(attempt.key, attempt.fence): attempt for attempt in read.attempts}
    shares = {(share.key, share.fence): share for share in read.costs.attempts}
    for use in uses:
        if use.usd:
            of = (use.key, use.fence)
            yield read.line(tries[of], shares[of], use.stage, use.kind, use.usd)


def _overheads(read: _Read) -> Iterator[BillLine]:
    """Lines of start-up, idle time, drain and heads of cells; none for a part that cost nothing."""
    for number, cost in enumerate(read.costs.nodes):
        life = read.nodes[number] if number < len(read.nodes) else None
        day = (life.up if life else read.now).astimezone(UTC).date()
        machine = life.machine if life else read.price.machine
        parts = (
            ("start-up", cost.start_up),
            ("idle", cost.idle),
            ("gpu idle", cost.gpu_idle),
            ("drain", cost.drain),
            (HEAD, cost.head),
        )
        for stage, usd in parts:
            if usd:
                yield BillLine(
                    cost.node, machine, cost.price, day, "", "", 0, OVERHEAD, stage, MACHINE, usd, loaded_usd=Decimal(0)
                )


def _hours(nodes: Sequence[Node]) -> float:
    if not nodes:
        return 0.0
    ends = [node.down or node.last_seen for node in nodes]
    return max(0.0, (max(ends) - min(node.up for node in nodes)).total_seconds() / 3600)


def _most_at_once(nodes: Sequence[Node]) -> int:
    """How many nodes that take work were up at once; one that goes as another comes makes way for it."""
    at_work = [node for node in nodes if not node.head]
    changes = [(node.up, 1) for node in at_work] + [(node.down or node.last_seen, -1) for node in at_work]
    up = most = 0
    for _, change in sorted(changes):
        up += change
        most = max(most, up)
    return most
