"""The command ``cost``: what a run cost, to the series, and against the provider's bill."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from ...enrich.atomic import write_text
from ...runners.cli import EXIT_INCOMPLETE
from ..ledgers.opening import open_ledger
from ..prices.price import known_table
from ..prices.rates import CHARGES
from ..run_folder import RunFolder
from .account import Asked, account_of
from .bill_files import to_csv, to_parquet
from .billed import read_billing
from .billing import node_shares, node_usd_by_cell, node_usd_by_day
from .cost_page import cost_page
from .cost_text import narrow_table, print_account, to_json
from .reconcile import Reckoned, Reconciliation, Variance
from .reconcile import reconcile as reconciliation_of

PIPE_WIDTH = 80
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
ChargeKinds = Annotated[list[str] | None, typer.Option("--charge", help=f"Price this too: {', '.join(CHARGES)}.")]
Region = Annotated[str, typer.Option(help="Region of the price.")]
Market = Annotated[str, typer.Option(help="on-demand or spot.")]


@cost.command()
def show(  # noqa: PLR0913, PLR0917 - the command line's options
    run: RunName,
    region: Region = "",
    market: Market = "",
    prices: PriceFile = None,
    plan: Annotated[Path | None, typer.Option(help="Hold it against this plan, of `voxfleet plan --json`.")] = None,
    scores: Annotated[
        Path | None, typer.Option(help="Table of scores (parquet, CSV): series, model, metric, value.")
    ] = None,
    metric: Annotated[str, typer.Option(help="Which of these scores.")] = "dice",
    charge: ChargeKinds = None,
    csv: Annotated[Path | None, typer.Option("--csv", help="Write every line of the bill as CSV.")] = None,
    parquet: Annotated[Path | None, typer.Option("--parquet", help="Write every line as parquet.")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write a page with pictures.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a run cost: by purpose, charge, model, stage, node, machine, region, day and series.

    Beside it stand the plan that was made of it (`--plan`, or plan.json in the run's folder), the
    published cost of a series, what other machines would have cost, and Dice per dollar (`--scores`).
    """
    asked = Asked(region, market, prices, plan, scores, metric, _kinds(charge))
    folder = RunFolder(run).must_exist()
    account = account_of(open_ledger(folder), folder, known_table(prices), asked, datetime.now(UTC).date())
    if csv is not None:
        to_csv(account.bill, csv)
    if parquet is not None:
        to_parquet(account.bill, parquet)
    if html is not None:
        write_text(html, cost_page(account))
    if as_json:
        # Not by rich, which reads and colours it: a fleet's document has megabytes.
        typer.echo(to_json(account))
        return
    console = Console(soft_wrap=True, highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
    print_account(console, account)
    for path in (csv, parquet, html):
        if path is not None:
            console.print(f"written: {path}")


@cost.command()
def reconcile(  # noqa: PLR0913, PLR0917 - the command line's options
    run: RunName,
    billing: Annotated[Path, typer.Option("--billing", help="GCP export (JSON lines) or AWS CUR (CSV, gzip).")],
    region: Region = "",
    market: Market = "",
    prices: PriceFile = None,
    charge: ChargeKinds = None,
    as_json: AsJson = False,
) -> None:
    """Compare what the provider billed under the label ``run`` with what the ledger reckons: by day, line and cell.

    Exit code 3: machines were billed more than 5 % off what was reckoned, or not at all.
    """
    folder = RunFolder(run).must_exist()
    ledger = open_ledger(folder)
    asked = Asked(region, market, prices, charge=_kinds(charge))
    bill = account_of(ledger, folder, known_table(prices), asked, datetime.now(UTC).date()).bill
    nodes = ledger.nodes()
    reckoned = Reckoned(
        days=node_usd_by_day(nodes, bill.price),
        charges={kind: bill.traffic.amount[kind] * each.usd for kind, each in bill.traffic.charges.items()},
        cells=node_usd_by_cell(nodes, bill.price),
        shares=node_shares(nodes, bill.price),
    )
    found = reconciliation_of(bill.run, read_billing(billing), reckoned)
    console = Console(soft_wrap=True, highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
    if as_json:
        console.print_json(_reconciliation_json(found))
    else:
        _print_reconciliation(console, found)
    if found.total.relative is None or abs(found.total.relative) > TOLERANCE:
        raise typer.Exit(EXIT_INCOMPLETE)


def _kinds(charge: list[str] | None) -> tuple[str, ...]:
    unknown = [kind for kind in charge or [] if kind not in CHARGES]
    if unknown:
        raise typer.BadParameter(f"--charge {unknown[0]}: there are {', '.join(CHARGES)}")
    return tuple(charge or ())


def _print_reconciliation(console: Console, found: Reconciliation) -> None:
    tables = (
        ("machines", (*found.days, found.total)),
        ("beside machines", found.charges),
        ("billed line", found.skus),
        ("machines of cell", found.cells),
    )
    for title, rows in tables:
        table = narrow_table(title, "billed US$", "credits", "reckoned", "difference", "relative")
        for row in rows:
            table.add_row(*_variance_cells(row))
        if rows:
            console.print(table)
    console.print(f"{found.others} lines of the file are not labelled run={found.run}")


def _variance_cells(row: Variance) -> tuple[str, ...]:
    relative = "" if row.relative is None else f"{row.relative:+.2%}"
    reckoned = ("", "") if row.difference is None else (f"{row.reckoned:.6f}", f"{row.difference:+.6f}")
    return (row.what, f"{row.billed:.6f}", f"{row.credits:.6f}", *reckoned, relative)


def _reconciliation_json(found: Reconciliation) -> str:
    def record(row: Variance) -> dict[str, str | None]:
        amounts = {name: getattr(row, name) for name in ("billed", "credits", "reckoned", "difference", "relative")}
        return {"what": row.what, **{name: None if value is None else str(value) for name, value in amounts.items()}}

    document = {name: [record(row) for row in getattr(found, name)] for name in ("days", "charges", "skus", "cells")}
    return json.dumps({"run": found.run, "total": record(found.total), **document, "other_lines": found.others})
