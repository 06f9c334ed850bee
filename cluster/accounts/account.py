"""Account: everything that is said of a run's cost, gathered once for terminal, JSON and page."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from ..ledger import Ledger
from ..prices.price import Charge, NoPrice, Price, own_prices_path, stale_note
from ..prices.price_file import PriceTable
from ..prices.rates import CHARGES
from ..prices.run_price import price_for
from ..run_folder import RunFolder
from .bill import Bill, BillLine, BillSum, Elsewhere
from .billing import bill_of
from .planned import BadPlan, PlanCheck, check_plan, read_plan
from .scores import ScorePerDollar, read_scores, scores_per_dollar
from .traffic import charged_by

DIMENSIONS: dict[str, Callable[[BillLine], str]] = {
    "purpose": lambda line: line.purpose,
    "charge": lambda line: line.charge,
    "model": lambda line: line.model or "no model",
    "stage": lambda line: line.stage,
    "node": lambda line: f"{line.node} ({line.machine})",
    "machine": lambda line: line.priced,
    "region": lambda line: line.price.region or "no region",
    "day": lambda line: line.day.isoformat(),
}
"""What dollars are summed by: name, and from a line to its value."""

ALIKE = ("machine", "charge")
"""Of these, what is of one kind alone is not worth a table."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a user asks of a run's cost.

    Attributes
    ----------
    region, market : str
        Of the price; empty: those of the run.
    prices, plan, scores : Path or None
        Files.
    charge : tuple of str
        Kinds that are charged wherever the archives are.
    """

    region: str = ""
    market: str = ""
    prices: Path | None = None
    plan: Path | None = None
    scores: Path | None = None
    metric: str = "dice"
    charge: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Account:
    """A run's bill and what it is held against.

    Attributes
    ----------
    tables : tuple of (str, tuple of BillSum)
        Name of each dimension and the sums by it.
    """

    bill: Bill
    tables: tuple[tuple[str, tuple[BillSum, ...]], ...]
    series: tuple[BillSum, ...]
    elsewhere: tuple[Elsewhere, ...]
    plan: PlanCheck | None
    scores: tuple[ScorePerDollar, ...]
    warnings: tuple[str, ...]
    assumptions: tuple[str, ...]

    @property
    def shown(self) -> tuple[tuple[str, tuple[BillSum, ...]], ...]:
        """The tables that people look at: where all machines or charges are of one kind, the others say it all."""
        return tuple((name, sums) for name, sums in self.tables if name not in ALIKE or len(sums) > 1)


def account_of(ledger: Ledger, folder: RunFolder, known: PriceTable, asked: Asked, today: date) -> Account:
    """All of it, as of now.

    Raises
    ------
    NoPrice, BadPrice
        If there is no price for the run's machine, or for what is charged on request.
    BadPlan, BadScores
        If such a file cannot be read, or does not fit the run.
    """
    run = ledger.run()
    price = price_for(run, "", asked.region, asked.market, asked.prices)
    charged = charged_by(run, price).also(asked.charge)
    bill = bill_of(ledger, price, known.charges, charged)
    missing = [kind for kind in asked.charge if kind not in bill.traffic.charges]
    if missing:
        where = f"{price.provider} {price.region}".strip() or price.machine
        raise NoPrice(
            f"{missing[0]} of {where}",
            f"no price known; add a [[charge]] with its source and date to {asked.prices or own_prices_path()}",
        )
    plan, misfit = _plan(folder, bill, asked)
    scores = read_scores(asked.scores, asked.metric) if asked.scores else ()
    per_dollar = scores_per_dollar(scores, bill, asked.metric)
    strangers = f"0 of {len(scores)} scores are of series of this run" if scores and not per_dollar else ""
    machines = (each.price for each in (*bill.nodes, *bill.heads))
    used: list[Price | Charge] = [price, *machines, *bill.traffic.charges.values()]
    return Account(
        bill=bill,
        tables=tuple((name, bill.by(key)) for name, key in DIMENSIONS.items()),
        series=bill.by_series(),
        elsewhere=bill.elsewhere(known.prices),
        plan=plan,
        scores=per_dollar,
        warnings=tuple(filter(None, (misfit, strangers, *_unpriced(bill), stale_note(used, today)))),
        assumptions=tuple(_assumptions(bill)),
    )


def _plan(folder: RunFolder, bill: Bill, asked: Asked) -> tuple[PlanCheck | None, str]:
    """The plan that is asked for; or the one kept with the run, and why it says nothing if it does not fit."""
    file = asked.plan or folder.plan
    if asked.plan is None and not file.is_file():
        return None, ""
    try:
        return check_plan(read_plan(file), bill, str(file)), ""
    except BadPlan as exc:
        if asked.plan is not None:
            raise
        return None, f"the plan kept with the run: {exc}"


def _unpriced(bill: Bill) -> Iterable[str]:
    """What was used and has no price: said, so that nobody takes it for free."""
    for kind in bill.traffic.unpriced:
        amount = bill.traffic.amount[kind]
        where = f"{bill.price.provider} {bill.price.region}".strip()
        yield f"{amount:.4g} {CHARGES[kind]} of {kind} are in no sum: no [[charge]] known for {where}"


def _assumptions(bill: Bill) -> Iterable[str]:
    """What the figures rest on and was not measured."""
    if bill.gpu_share > 0:
        yield "other machines: the same seconds; GPU seconds scaled, by assumed speeds, between T4, L4 and A100 only"
    else:
        yield "other machines: the same seconds, which is true for cores of the same speed, and was not measured"
    if len(bill.nodes) > 1:
        yield "machines of several prices: on other machines the seconds of all of them, as if they were alike"
    if bill.heads:
        yield "other machines: beside the same heads of cells"
    if bill.traffic.charges:
        yield "first tier of each charge, without free tier; storage: one month of what is new; requests: one an object"
