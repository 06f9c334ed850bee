"""A run's own bill: every dollar of every node in one line, and sums over the lines.

Each line is what one stage of one attempt cost, or one node's start-up, idle time or drain. All
lines together are what the nodes cost: price times lifetime.
"""

from __future__ import annotations

import csv
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from ..ledger import AttemptClass, Ledger, Node
from ..planning.plan import GPU_SPEED
from ..price import Price
from .cost import Costs, cost_of

OVERHEAD = "overhead"
"""Outcome of a line that no attempt bears."""

PURPOSE = {
    AttemptClass.COMPLETED.value: "useful",
    AttemptClass.FAILED.value: "wasted",
    AttemptClass.LOST.value: "wasted",
    AttemptClass.REFUSED.value: "refused",
}
"""What an attempt's dollars were for, by its outcome; others are their own purpose."""


@dataclass(frozen=True, slots=True)
class BillLine:
    """What one stage of one attempt cost, or one part of a node's life that no attempt bears.

    Attributes
    ----------
    day : date
        In UTC, on which the attempt began; of an overhead, on which the node came up.
    series_instance_uid, model : str
        Empty for an overhead.
    outcome : str
        ``completed``, ``refused``, ``failed``, ``lost``, ``in flight`` or ``overhead``.
    stage : str
        Of the pipeline; or ``start-up``, ``idle``, ``drain``.
    """

    node: str
    machine: str
    day: date
    series_instance_uid: str
    model: str
    attempt: int
    outcome: str
    stage: str
    usd: Decimal

    @property
    def purpose(self) -> str:
        """``useful``, ``wasted``, ``refused``, ``in flight``, ``start-up``, ``idle`` or ``drain``."""
        return self.stage if self.outcome == OVERHEAD else PURPOSE.get(self.outcome, self.outcome)


@dataclass(frozen=True, slots=True)
class BillSum:
    """What all lines of one name cost together, and what for."""

    name: str
    series: int
    useful: Decimal
    wasted: Decimal
    other: Decimal

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
    node_usd : Decimal
        Price times lifetime of all nodes, reckoned apart from the lines.
    completed : int
        Series with a result.
    gpu_share : float
        Part of the stages' seconds during which a GPU was held.
    """

    run: str
    price: Price
    lines: tuple[BillLine, ...]
    node_usd: Decimal
    completed: int
    gpu_share: float

    @property
    def total(self) -> Decimal:
        """Sum of the lines."""
        return sum((line.usd for line in self.lines), Decimal(0))

    @property
    def identity_error(self) -> Decimal:
        """How far the lines' sum is from price times lifetime, relatively."""
        return abs(self.total - self.node_usd) / self.node_usd if self.node_usd else abs(self.total)

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

    def of_series(self) -> dict[str, Decimal]:
        """Direct dollars of each completed series, all its attempts and models together."""
        done = {line.series_instance_uid for line in self.lines if line.outcome == AttemptClass.COMPLETED.value}
        spent: defaultdict[str, Decimal] = defaultdict(Decimal)
        for line in self.lines:
            if line.series_instance_uid in done:
                spent[line.series_instance_uid] += line.usd
        return dict(spent)

    def elsewhere(self, prices: Iterable[Price]) -> tuple[Elsewhere, ...]:
        """The same seconds at other prices, the cheapest first; machines without a GPU only for a run without one.

        GPU seconds are scaled by the assumed speeds of `plan.GPU_SPEED` where both GPUs are in it.
        """
        hours = self.total / self.price.usd_per_hour if self.price.usd_per_hour else Decimal(0)
        able = [price for price in prices if bool(price.gpus) >= (self.gpu_share > 0)]
        found = [Elsewhere(price, hours * price.usd_per_hour * self._scale(price)) for price in able]
        return tuple(sorted(found, key=lambda each: each.usd))

    def _scale(self, price: Price) -> Decimal:
        if self.price.gpu not in GPU_SPEED or price.gpu not in GPU_SPEED:
            return Decimal(1)
        return Decimal(1 - self.gpu_share + self.gpu_share * GPU_SPEED[self.price.gpu] / GPU_SPEED[price.gpu])


def bill_of(ledger: Ledger, price: Price) -> Bill:
    """The bill of a run as of now, every node at `price`."""
    now, attempts, nodes = ledger.now(), ledger.attempts(), ledger.nodes()
    items = {item.workitem.key: item.workitem for item in ledger.items()}
    costs = cost_of(attempts, nodes, price, now)
    machine = {node.node: node.machine for node in nodes}
    lines = [
        BillLine(
            node=share.node,
            machine=machine.get(share.node, price.machine),
            day=attempt.started.astimezone(UTC).date(),
            series_instance_uid=items[share.key].series_instance_uid,
            model=f"{items[share.key].model} {items[share.key].model_version}",
            attempt=share.fence,
            outcome=share.outcome,
            stage=stage,
            usd=usd,
        )
        for attempt, share in zip(attempts, costs.attempts, strict=True)
        for stage, usd in share.stages
    ]
    used = [each for attempt in attempts for each in attempt.consumption]
    wall_s = sum(each.wall_s for each in used)
    return Bill(
        run=ledger.run().name,
        price=price,
        lines=(*lines, *_overheads(costs, nodes, price, now)),
        node_usd=costs.total,
        completed=len({line.series_instance_uid for line in lines if line.outcome == AttemptClass.COMPLETED.value}),
        gpu_share=min(1.0, sum(each.gpu_s for each in used) / wall_s) if wall_s else 0.0,
    )


def node_usd_by_day(nodes: Sequence[Node], price: Price) -> dict[date, Decimal]:
    """What nodes cost on each day of UTC: a life that goes over midnight is cut there."""
    days: defaultdict[date, Decimal] = defaultdict(Decimal)
    for node in nodes:
        begin, end = node.up.astimezone(UTC), (node.down or node.last_seen).astimezone(UTC)
        while begin < end:
            midnight = datetime.combine(begin.date() + timedelta(days=1), time(), UTC)
            until = min(midnight, end)
            days[begin.date()] += Decimal(repr((until - begin).total_seconds())) * price.usd_per_s
            begin = until
    return dict(sorted(days.items()))


def to_csv(bill: Bill, path: Path) -> None:
    """Write the lines, whole or not at all."""
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        names = [field.name for field in fields(BillLine) if field.name != "usd"]
        writer.writerow([*names, "purpose", "usd"])
        writer.writerows(
            [*(getattr(line, name) for name in names), line.purpose, f"{line.usd:.15f}"] for line in bill.lines
        )
    os.replace(temporary, path)  # noqa: PTH105 - as atomic as it gets


def to_parquet(bill: Bill, path: Path) -> None:
    """Write the lines, whole or not at all."""
    # 0.1 s to import, and only this needs it.
    import pyarrow as pa
    from pyarrow import parquet

    types: dict[str, Any] = {"attempt": pa.int64(), "day": pa.date32(), "usd": pa.decimal128(28, 15)}
    columns = {
        name: pa.array([_cell(getattr(line, name)) for line in bill.lines], types.get(name, pa.string()))
        for name in (field.name for field in fields(BillLine))
    }
    columns["purpose"] = pa.array([line.purpose for line in bill.lines], pa.string())
    temporary = path.with_suffix(".tmp")
    parquet.write_table(pa.table(columns), temporary)
    os.replace(temporary, path)  # noqa: PTH105 - as atomic as it gets


def _cell(value: object) -> object:
    return round(value, 15) if isinstance(value, Decimal) else value


def _overheads(costs: Costs, nodes: Sequence[Node], price: Price, now: datetime) -> Iterator[BillLine]:
    """Lines of start-up, idle time and drain; none for a part that cost nothing."""
    for number, cost in enumerate(costs.nodes):
        life = nodes[number] if number < len(nodes) else None
        day = (life.up if life else now).astimezone(UTC).date()
        machine = life.machine if life else price.machine
        for stage, usd in (("start-up", cost.start_up), ("idle", cost.idle), ("drain", cost.drain)):
            if usd:
                yield BillLine(cost.node, machine, day, "", "", 0, OVERHEAD, stage, usd)


def _sum(name: str, lines: Sequence[BillLine]) -> BillSum:
    spent: defaultdict[str, Decimal] = defaultdict(Decimal)
    for line in lines:
        spent[line.purpose] += line.usd
    useful, wasted = spent.pop("useful", Decimal(0)), spent.pop("wasted", Decimal(0))
    series = {line.series_instance_uid for line in lines if line.series_instance_uid}
    return BillSum(name, len(series), useful, wasted, sum(spent.values(), Decimal(0)))
