"""What a run cost, on a terminal and as JSON."""

from __future__ import annotations

import json
from decimal import Decimal
from statistics import quantiles

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from ..planning.option import PUBLISHED_USD_PER_SERIES
from ..prices.rates import CHARGES, Price
from .account import Account
from .bill import Bill, BillSum
from .planned import PlanCheck, Planned
from .scores import ScorePerDollar
from .spent import PricedNodes

MOST_ELSEWHERE = 8
"""Other machines that a terminal shows."""

MOST_SERIES = 5
"""Series that a terminal shows: the dearest."""


LEAST_PLACES = 5
"""Decimals that an amount of a table may have, in a large run too."""

MOST_ROWS = 15
"""Rows of a table on a terminal: the dearest; a page, CSV and parquet have more."""


def print_account(console: Console, account: Account) -> None:
    """Print it for people."""
    bill = account.bill
    each = "" if bill.per_series is None else f", {bill.per_series * 100:.5f} cents each"
    console.print(f"[bold]{bill.run}[/bold]  ${bill.total:.6f} for {bill.completed} completed series{each}")
    published = f"{PUBLISHED_USD_PER_SERIES * 100:.2f} cents"
    console.print(f"published for comparison: {published} (TotalSegmentator, 28 features and SR, all of NLST)")
    for line in _prices(bill):
        console.print(line)
    off = f"{bill.identity_error:.1e} of it" if bill.identity_error else "0"
    console.print(f"prices x (lifetimes, bytes, requests) less the sum of all lines: {off}")
    if account.plan is not None:
        console.print(f"plan of {account.plan.series} series on {account.plan.option}:")
        console.print(_plan_table(account.plan), soft_wrap=False)
    for name, sums in account.shown:
        console.print(_table(name, sums, bill), soft_wrap=False)
        if len(sums) > MOST_ROWS:
            console.print(f"{MOST_ROWS} of {len(sums)}, the dearest; all of them with --json and --csv")
    _print_series(console, account)
    for row in account.scores:
        console.print(_score(row))
    table = narrow_table("the same seconds on", "US$/h", "US$")
    for other in account.elsewhere[:MOST_ELSEWHERE]:
        table.add_row(other.price.where, f"{other.price.usd_per_hour:.4f}", _dollars(other.usd))
    console.print(table, soft_wrap=False)
    for text in account.assumptions:
        console.print(f"- {text}")
    for text in account.warnings:
        console.print(f"[yellow]warning[/yellow] {escape(text)}")


def to_json(account: Account) -> str:
    """The account as one JSON document; amounts as strings with all their digits."""
    bill = account.bill
    document = {
        "run": bill.run,
        "usd": str(bill.total),
        "completed": bill.completed,
        "usd_per_series": None if bill.per_series is None else str(bill.per_series),
        "published_usd_per_series": str(PUBLISHED_USD_PER_SERIES),
        "identity_error": str(bill.identity_error),
        "hours": bill.hours,
        "most_nodes": bill.most_nodes,
        "usd_per_hour": str(bill.price.usd_per_hour),
        "price_source": bill.price.source,
        "price_dated": bill.price.dated.isoformat(),
        "nodes": [_priced_record(row) for row in bill.nodes],
        "heads": [_priced_record(row) for row in bill.heads],
        "charges": [
            {
                "kind": kind,
                "amount": str(bill.traffic.amount[kind]),
                "unit": charge.unit,
                "usd_per_unit": str(charge.usd),
                "source": charge.source,
                "dated": charge.dated.isoformat(),
            }
            for kind, charge in bill.traffic.charges.items()
        ],
        "plan": account.plan and _plan_record(account.plan),
        **{f"by_{name}": [_record(row) for row in sums] for name, sums in account.tables},
        "by_series": [_record(row) for row in account.series],
        "scores": [
            {
                "model": row.model,
                "metric": row.metric,
                "series": row.series,
                "mean": row.mean,
                "usd_per_series": str(row.usd_per_series),
            }
            for row in account.scores
        ],
        "elsewhere": [
            {
                "machine": each.price.machine,
                "region": each.price.region,
                "market": each.price.market,
                "usd": str(each.usd),
            }
            for each in account.elsewhere
        ],
        "assumptions": account.assumptions,
        "warnings": account.warnings,
    }
    return json.dumps(document, indent=2)


def _prices(bill: Bill) -> list[str]:
    lines = [_price_line(bill.price)]
    if bill.heads or any(row.price != bill.price for row in bill.nodes):
        rows = [("nodes", row) for row in bill.nodes] + [("heads of cells", row) for row in bill.heads]
        lines = [
            f"${row.usd:.6f} for {row.hours:.4f} h of {what} ({row.lives}) {_price_line(row.price)}"
            for what, row in rows
        ]
    for kind, charge in bill.traffic.charges.items():
        amount = bill.traffic.amount[kind]
        lines.append(f"{kind}: {amount:.4g} {CHARGES[kind]} at ${charge.usd}, {charge.dated}, {charge.source}")
    return lines


def _price_line(price: Price) -> str:
    where = " ".join(part for part in (price.equivalent_of, price.region, price.market) if part)
    return f"at ${price.usd_per_hour}/h for {price.machine} {where}, {price.dated}, {price.source}"


def narrow_table(*titles: str, words: int = 1) -> Table:
    """A table whose first column folds, and whose figures stay whole, on 80 columns too; so many columns of words."""
    first, *others = titles
    table = Table(Column(first, overflow="fold"), box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for number, title in enumerate(others, start=1):
        table.add_column(title, no_wrap=True, justify="left" if number < words else "right")
    return table


def _table(name: str, sums: tuple[BillSum, ...], bill: Bill) -> Table:
    table = narrow_table(name, "series", "useful", "wasted", "other", "US$", "loaded", "share")
    rows = sums if len(sums) <= MOST_ROWS else sorted(sums, key=lambda row: -row.usd)[:MOST_ROWS]
    # No digits below those of the whole that count: on 80 columns they would leave no room for names.
    places = max(LEAST_PLACES, 2 - bill.total.adjusted()) if bill.total else LEAST_PLACES
    for row in rows:
        share = f"{row.usd / bill.total:.1%}" if bill.total else ""
        amounts = (_dollars(usd, places) for usd in (row.useful, row.wasted, row.other, row.usd, row.loaded))
        table.add_row(row.name, str(row.series), *amounts, share)
    return table


def _dollars(usd: Decimal, places: int | None = None) -> str:
    """Cents from one dollar on, three digits that count below, of `places` decimals at most."""
    if not usd or usd >= 1:
        return f"{usd:,.2f}" if usd else "0"
    counting = 2 - usd.adjusted()
    return f"{usd:.{counting if places is None else min(counting, places)}f}"


def _print_series(console: Console, account: Account) -> None:
    spent = [float(usd) * 100 for usd in account.bill.of_series().values()]
    if len(spent) > 1:
        cuts = quantiles(spent, n=20, method="inclusive")
        console.print(f"direct cents of a series: median {cuts[9]:.5f}, 5 % {cuts[0]:.5f}, 95 % {cuts[18]:.5f}")
    for row in account.series[:MOST_SERIES]:
        console.print(f"{row.usd * 100:10.5f} cents, {row.loaded * 100:.5f} fully loaded  {row.name}")


def _plan_table(plan: PlanCheck) -> Table:
    table = narrow_table("planned", "middle", "95 %", "actual", "off", "")
    for row in plan.figures:
        off = "" if row.relative is None else f"{row.relative:+.1%}"
        inside = "inside" if row.inside else "[yellow]outside[/yellow]"
        table.add_row(
            row.what, f"{row.middle:.4g}", f"{row.low:.4g} - {row.high:.4g}", f"{row.actual:.4g}", off, inside
        )
    return table


def _score(row: ScorePerDollar) -> str:
    worth = f"{row.usd_per_series * 100:.5f} cents each: {row.per_dollar:.4g} a dollar"
    return f"{row.model}: mean {row.metric} {row.mean:.4f} on {row.series} series at {worth}"


def _plan_record(plan: PlanCheck) -> dict[str, object]:
    return {"option": plan.option, "series": plan.series, "figures": [_planned(row) for row in plan.figures]}


def _planned(row: Planned) -> dict[str, object]:
    return {
        "what": row.what,
        "low": row.low,
        "middle": row.middle,
        "high": row.high,
        "actual": row.actual,
        "inside": row.inside,
    }


def _priced_record(row: PricedNodes) -> dict[str, object]:
    price = row.price
    where = {name: getattr(price, name) for name in ("machine", "region", "market")}
    told = {"usd_per_hour": str(price.usd_per_hour), "source": price.source, "dated": price.dated.isoformat()}
    return where | told | {"lives": row.lives, "hours": row.hours, "usd": str(row.usd)}


def _record(row: BillSum) -> dict[str, object]:
    amounts = {name: str(getattr(row, name)) for name in ("useful", "wasted", "other", "usd", "loaded")}
    return {"name": row.name, "series": row.series, **amounts}
