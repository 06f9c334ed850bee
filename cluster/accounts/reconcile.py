"""Reconciliation: what a provider billed for a run against what the ledger reckons."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import TypeVar

from ..prices.rates import CHARGES
from .bill import MACHINE
from .billed import PARTS, WHOLE, BilledLine

NO_CELL = "no cell"
"""Of what has no label ``cell``."""

_Key = TypeVar("_Key", str, tuple[str, str])


@dataclass(frozen=True, slots=True)
class Reckoned:
    """What a ledger reckons of a run, in dollars.

    Attributes
    ----------
    days : mapping of date to Decimal
        All nodes on each day of UTC.
    charges : mapping of str to Decimal
        Each kind of charge beside them.
    cells : mapping of str to Decimal
        All nodes of each cell; empty name: of none.
    shares : mapping of str to float
        Of what all nodes cost: of their GPUs, cores and memory.
    """

    days: Mapping[date, Decimal]
    charges: Mapping[str, Decimal] = field(default_factory=dict)
    cells: Mapping[str, Decimal] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=dict)

    @property
    def machines(self) -> Decimal:
        """All nodes on all days."""
        return sum(self.days.values(), Decimal(0))

    def part(self, name: str) -> Decimal | None:
        """Of all nodes what is for a part of them, or the whole; None where the parts are not known."""
        if name == WHOLE:
            return self.machines
        return self.machines * Decimal(repr(self.shares[name])) if name in self.shares else None

    def cell(self, name: str) -> Decimal | None:
        """Of a cell; None where the ledger names none at all."""
        return self.cells.get(name, Decimal(0)) if name in self.cells or any(self.cells) else None


@dataclass(frozen=True, slots=True)
class Variance:
    """One line of a reconciliation.

    Attributes
    ----------
    reckoned : Decimal or None
        By the ledger; None for what it does not reckon.
    """

    what: str
    billed: Decimal
    credits: Decimal
    reckoned: Decimal | None

    @property
    def difference(self) -> Decimal | None:
        """Billed before credits, less reckoned."""
        return None if self.reckoned is None else self.billed - self.reckoned

    @property
    def relative(self) -> Decimal | None:
        """The difference over what was reckoned; None where that is nothing."""
        return None if not self.reckoned or self.difference is None else self.difference / self.reckoned


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """A run's dollars, billed against reckoned: machines by day and by cell, charges beside them, every billed line.

    Attributes
    ----------
    total : Variance
        Of machines.
    charges : tuple of Variance
        Of each kind that was billed or reckoned.
    skus : tuple of Variance
        Lines of one SKU. Those that bill the same thing (a machine's cores on spot and on demand) share what
        is reckoned of it as they were billed; a part of machines that nobody billed is a line of its own.
    cells : tuple of Variance
        Machines by the label ``cell``.
    others : int
        Lines of the file that bear another run's label, or none.
    """

    run: str
    days: tuple[Variance, ...]
    charges: tuple[Variance, ...]
    skus: tuple[Variance, ...]
    cells: tuple[Variance, ...]
    total: Variance
    others: int


def reconcile(run: str, billed: Iterable[BilledLine], reckoned: Reckoned) -> Reconciliation:
    """Compare lines that bear the label ``run`` with what the ledger reckons."""
    lines = list(billed)
    mine = [line for line in lines if line.run == run]
    machines = [line for line in mine if line.kind == MACHINE]
    days = {day: [line for line in machines if line.day == day] for day in {*reckoned.days, *(m.day for m in machines)}}
    cells = {cell: [line for line in machines if line.cell == cell] for cell in _cells(machines, reckoned)}
    return Reconciliation(
        run=run,
        days=tuple(_variance(day.isoformat(), days[day], reckoned.days.get(day, Decimal(0))) for day in sorted(days)),
        charges=tuple(
            _variance(kind, ours, reckoned.charges.get(kind))
            for kind in CHARGES
            if (ours := [line for line in mine if line.kind == kind]) or kind in reckoned.charges
        ),
        skus=tuple(_skus(mine, reckoned)),
        cells=tuple(_variance(cell or NO_CELL, cells[cell], reckoned.cell(cell)) for cell in sorted(cells)),
        total=_variance("machines", machines, reckoned.machines),
        others=len(lines) - len(mine),
    )


def _variance(what: str, lines: Iterable[BilledLine], reckoned: Decimal | None) -> Variance:
    found = list(lines)
    return Variance(
        what,
        sum((line.usd for line in found), Decimal(0)),
        sum((line.credits_usd for line in found), Decimal(0)),
        reckoned,
    )


def _cells(machines: Iterable[BilledLine], reckoned: Reckoned) -> set[str]:
    """Cells of the bill, and those of the ledger that cost something."""
    return {line.cell for line in machines} | {cell for cell, usd in reckoned.cells.items() if usd}


def _skus(mine: Iterable[BilledLine], reckoned: Reckoned) -> Iterator[Variance]:
    """Every billed line, those of one SKU together, against its part of what is reckoned of its kind."""
    kinds = _groups(mine, lambda line: (line.kind, line.part if line.kind == MACHINE else ""))
    rows = []
    for (kind, part), alike in kinds.items():
        whole = reckoned.part(part) if kind == MACHINE else reckoned.charges.get(kind)
        usd = sum((line.usd for line in alike), Decimal(0))
        for name, lines in _groups(alike, lambda line: f"{line.service}: {line.sku}").items():
            share = sum((line.usd for line in lines), Decimal(0)) / usd if usd else Decimal(0)
            rows.append(_variance(name, lines, None if whole is None or not usd else whole * share))
    yield from sorted(rows, key=lambda row: row.what)
    billed = {part for kind, part in kinds if kind == MACHINE}
    for part in PARTS:
        missing = reckoned.part(part)
        if missing and billed & set(PARTS) and part not in billed:
            yield _variance(f"{part} of machines, not billed", (), missing)


def _groups(lines: Iterable[BilledLine], key: Callable[[BilledLine], _Key]) -> dict[_Key, list[BilledLine]]:
    groups: defaultdict[_Key, list[BilledLine]] = defaultdict(list)
    for line in lines:
        groups[key(line)].append(line)
    return dict(groups)
