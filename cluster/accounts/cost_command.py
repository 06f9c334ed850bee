"""The command ``cost``: what a run cost, to the series, and against the provider's bill."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from statistics import quantiles
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperGroup

from ...enrich.atomic import write_text
from ...runners.cli import EXIT_INCOMPLETE
from ..ledgers.sqlite import SqliteLedger
from ..planning.plan import PUBLISHED_USD_PER_SERIES
from ..price import Price, all_prices, price_of
from ..run_folder import RunFolder
from .bill import Bill, BillLine, BillSum, bill_of, node_usd_by_day, to_csv, to_parquet
from .cost_page import cost_page
from .reconcile import Reconciliation, Variance, read_billing
from .reconcile import reconcile as reconciliation_of

DIMENSIONS: dict[str, Callable[[BillLine], str]] = {
    "purpose": lambda line: line.purpose,
    "model": lambda line: line.model or "no model",
    "stage": lambda line: line.stage,
    "node": lambda line: f"{line.node} ({line.machine})",
    "day": lambda line: line.day.isoformat(),
}
"""What dollars are summed by: name, and from a line to its value."""

MOST_ELSEWHERE = 8
"""Other machines that a terminal shows."""

PIPE_WIDTH = 120
TOLERANCE = Decimal("0.05")
"""A bill within this of what was reckoned is as it should be."""


class _ShowByDefault(TyperGroup):
    """``cost RUN`` is ``cost show RUN``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the command in that was left out."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["show", *args]
        return super().parse_args(ctx, args)


cost = typer.Typer(
    cls=_ShowByDefault,
    no_args_is_help=True,
    help="Show what a run cost: `cost RUN`; or compare it with the provider's bill: `cost reconcile RUN`.",
)

RunName = Annotated[str, typer.Argument(metavar="RUN", help="Name of the run, or path of its folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document instead of tables.")]
PriceFile = Annotated[Path | None, typer.Option("--prices", help="TOML file of prices; comes before others.")]
Region = Annotated[str, typer.Option(help="Region of the price.")]
Market = Annotated[str, typer.Option(help="on-demand or spot.")]


@cost.command()
def show(  # noqa: PLR0913, PLR0917 - the command line's options
    run: RunName,
    region: Region = "",
    market: Market = "",
    prices: PriceFile = None,
    csv: Annotated[Path | None, typer.Option("--csv", help="Write every line of the bill as CSV.")] = None,
    parquet: Annotated[Path | None, typer.Option("--parquet", help="Write every line as parquet.")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write a page with pictures.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a run cost by purpose, model, stage, node and day, and what it would have cost elsewhere."""
    bill, _ = _bill(run, region, market, prices)
    known = all_prices(prices)
    if csv is not None:
        to_csv(bill, csv)
    if parquet is not None:
        to_parquet(bill, parquet)
    if html is not None:
        write_text(html, cost_page(bill, known, {name: bill.by(key) for name, key in DIMENSIONS.items()}))
    console = Console(soft_wrap=True, highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
    if as_json:
        console.print_json(to_json(bill, known))
        return
    _print_bill(console, bill, known)
    for path in (csv, parquet, html):
        if path is not None:
            console.print(f"written: {path}")


@cost.command()
def reconcile(
    run: RunName,
    billing: Annotated[Path, typer.Option("--billing", help="GCP export (JSON lines) or AWS CUR (CSV, gzip).")],
    region: Region = "",
    market: Market = "",
    prices: PriceFile = None,
    as_json: AsJson = False,
) -> None:
    """Compare what the provider billed under the label ``run`` with what the ledger reckons, day by day.

    Exit code 3: machines were billed more than 5 % off what was reckoned, or not at all.
    """
    bill, days = _bill(run, region, market, prices)
    found = reconciliation_of(bill.run, read_billing(billing), days)
    console = Console(soft_wrap=True, highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
    if as_json:
        console.print_json(_reconciliation_json(found))
    else:
        _print_reconciliation(console, found)
    if found.total.relative is None or abs(found.total.relative) > TOLERANCE:
        raise typer.Exit(EXIT_INCOMPLETE)


def _bill(run: str, region: str, market: str, prices: Path | None) -> tuple[Bill, dict[date, Decimal]]:
    folder = RunFolder(run).must_exist()
    ledger = SqliteLedger(folder.ledger)
    asked = ledger.run()
    price = price_of(asked.machine, region or asked.region, market or asked.market, prices)
    return bill_of(ledger, price), node_usd_by_day(ledger.nodes(), price)


def _print_bill(console: Console, bill: Bill, known: tuple[Price, ...]) -> None:
    price = bill.price
    each = "" if bill.per_series is None else f", {bill.per_series * 100:.5f} cents each"
    console.print(f"[bold]{bill.run}[/bold]  ${bill.total:.6f} for {bill.completed} completed series{each}")
    published = f"{PUBLISHED_USD_PER_SERIES * 100:.2f} cents"
    console.print(f"published for comparison: {published} (TotalSegmentator, 28 features and SR, all of NLST)")
    console.print(
        f"at ${price.usd_per_hour}/h for {price.machine} {price.equivalent_of} {price.region} {price.market}, "
        f"{price.dated}, {price.source}"
    )
    console.print(f"price x lifetime less the sum of all lines: {bill.identity_error:.1e} of it")
    for name, key in DIMENSIONS.items():
        console.print(_table(name, bill.by(key), bill.total))
    spent = [float(usd) * 100 for usd in bill.of_series().values()]
    if len(spent) > 1:
        cuts = quantiles(spent, n=20, method="inclusive")
        console.print(f"direct cents of a series: median {cuts[9]:.5f}, 5 % {cuts[0]:.5f}, 95 % {cuts[18]:.5f}")
    table = Table("the same seconds on", "US$/h", "US$")
    for other in bill.elsewhere(known)[:MOST_ELSEWHERE]:
        name = f"{other.price.machine} {other.price.region} {other.price.market}"
        table.add_row(name, f"{other.price.usd_per_hour:.4f}", f"{other.usd:.6f}")
    console.print(table)
    console.print(f"- {elsewhere_text(bill)}")


def elsewhere_text(bill: Bill) -> str:
    """What the figures for other machines assume."""
    if bill.gpu_share > 0:
        return "other machines are assumed to take the same seconds; GPU seconds scaled only between T4, L4 and A100"
    return "other machines are assumed to take the same seconds: true for cores of the same speed, and not measured"


def _table(name: str, sums: tuple[BillSum, ...], total: Decimal) -> Table:
    table = Table(name, "series", "useful", "wasted", "other", "US$", "share")
    for row in sums:
        share = f"{row.usd / total:.1%}" if total else ""
        amounts = (f"{usd:.6f}" for usd in (row.useful, row.wasted, row.other, row.usd))
        table.add_row(row.name, str(row.series), *amounts, share)
    return table


def to_json(bill: Bill, known: tuple[Price, ...]) -> str:
    """The bill's sums as one JSON document; amounts as strings with all their digits."""
    document = {
        "run": bill.run,
        "usd": str(bill.total),
        "completed": bill.completed,
        "usd_per_series": None if bill.per_series is None else str(bill.per_series),
        "published_usd_per_series": str(PUBLISHED_USD_PER_SERIES),
        "identity_error": str(bill.identity_error),
        "usd_per_hour": str(bill.price.usd_per_hour),
        "price_source": bill.price.source,
        "price_dated": bill.price.dated.isoformat(),
        **{f"by_{name}": [_sum_record(row) for row in bill.by(key)] for name, key in DIMENSIONS.items()},
        "elsewhere": [
            {
                "machine": each.price.machine,
                "region": each.price.region,
                "market": each.price.market,
                "usd": str(each.usd),
            }
            for each in bill.elsewhere(known)
        ],
        "elsewhere_assumes": elsewhere_text(bill),
    }
    return json.dumps(document, indent=2)


def _sum_record(row: BillSum) -> dict[str, object]:
    amounts = {name: str(getattr(row, name)) for name in ("useful", "wasted", "other", "usd")}
    return {"name": row.name, "series": row.series, **amounts}


def _print_reconciliation(console: Console, found: Reconciliation) -> None:
    table = Table("machines", "billed US$", "credits", "reckoned US$", "difference", "of reckoned")
    for row in (*found.days, found.total):
        table.add_row(*_variance_cells(row))
    console.print(table)
    for title, rows in (("billed line", found.skus), ("cell", found.cells)):
        table = Table(title, "billed US$", "credits")
        for row in rows:
            table.add_row(row.what, f"{row.billed:.6f}", f"{row.credits:.6f}")
        console.print(table)
    console.print(f"{found.others} lines of the file are not labelled run={found.run}")


def _variance_cells(row: Variance) -> tuple[str, ...]:
    relative = "" if row.relative is None else f"{row.relative:+.2%}"
    return (
        row.what,
        f"{row.billed:.6f}",
        f"{row.credits:.6f}",
        f"{row.reckoned or 0:.6f}",
        f"{row.difference or 0:+.6f}",
        relative,
    )


def _reconciliation_json(found: Reconciliation) -> str:
    def record(row: Variance) -> dict[str, str | None]:
        amounts = {name: getattr(row, name) for name in ("billed", "credits", "reckoned", "difference", "relative")}
        return {"what": row.what, **{name: None if value is None else str(value) for name, value in amounts.items()}}

    document = {name: [record(row) for row in getattr(found, name)] for name in ("days", "skus", "cells")}
    return json.dumps({"run": found.run, "total": record(found.total), **document, "other_lines": found.others})
