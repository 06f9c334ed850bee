"""The command ``prices``: which prices are known, of what age, and how to get newer ones."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ...enrich.atomic import write_text
from ..accounts.cost_text import narrow_table
from ..accounts.parts import parts_of
from .price import FETCH, bundled_table, known_table, own_prices_path, refreshed_path, stale_note
from .price_file import PriceTable, to_toml
from .rates import STALE_AFTER_DAYS, Charge, Price
from .source import RefreshError, Wanted, source

PIPE_WIDTH = 120
"""Columns of a table that no terminal shows."""

prices = typer.Typer(help="Show which prices are known, with their age and source; `prices refresh` gets newer ones.")

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document instead of tables.")]


@prices.callback(invoke_without_command=True)
def show(
    context: typer.Context,
    file: Annotated[Path | None, typer.Option("--prices", help="TOML file of prices; comes before others.")] = None,
    machine: Annotated[str, typer.Option(help="Only machines whose name holds this.")] = "",
    region: Annotated[str, typer.Option(help="Only this region.")] = "",
    as_json: AsJson = False,
) -> None:
    """Show which prices are known: machines, and what is charged beside them."""
    if context.invoked_subcommand is not None:
        return
    known = _known(known_table(file), machine, region)
    today = datetime.now(UTC).date()
    console = Console(soft_wrap=True, highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
    if as_json:
        console.print_json(_json(known, today))
        return
    rows: list[Price | Charge] = [*known.prices, *known.charges]
    for source_name, dated in dict.fromkeys((each.source, each.dated) for each in rows):
        age = (today - dated).days
        old = "[yellow]" if age > STALE_AFTER_DAYS else "[default]"
        console.print(f"[bold]{dated}[/bold] ({old}{age} days old[/]) {escape(source_name)}")
        mine = [each for each in known.prices if (each.source, each.dated) == (source_name, dated)]
        beside = [each for each in known.charges if (each.source, each.dated) == (source_name, dated)]
        for table in (_machines(mine), _charges(beside)):
            if table.row_count:
                console.print(table)
    if not known.prices:
        asked = " ".join(filter(None, (machine or "any machine", region)))
        console.print(escape(f"no price of {asked} is known; add a [[price]] to your own prices, or get it: {FETCH}"))
    console.print(f"your own prices: {own_prices_path()}")
    if note := stale_note(rows, today):
        console.print(f"[yellow]warning[/yellow] {note}")


@prices.command()
def refresh(
    where: Annotated[str, typer.Option("--from", help="skypilot, gpuhunt, gcp or aws.")],
    place: Annotated[str, typer.Argument(metavar="[FILE]", help="File or address; else where it publishes them.")] = "",
    machine: Annotated[list[str] | None, typer.Option(help="Of these machines; else of those in the table.")] = None,
    region: Annotated[list[str] | None, typer.Option(help="Of these regions; else of all.")] = None,
    to: Annotated[Path | None, typer.Option("--to", help="Write here, and not where every command looks.")] = None,
) -> None:
    """Get prices from a source and keep them for every later command, before the bundled ones.

    No other command does. What a source gave before is replaced; your own file is left as it is, and
    comes before.
    """
    table = {price.machine: price for price in reversed(bundled_table().prices)}
    names = machine or sorted(table)
    wanted = Wanted({name: table.get(name) for name in names}, frozenset(region or ()))
    found = sorted(source(where)(place, wanted), key=lambda price: (price.machine, price.region, price.market))
    if not found:
        asked = f"{', '.join(names)} in {', '.join(region) if region else 'any region'}"
        raise RefreshError(place or where, f"holds no price of {asked}; what was known is left as it is")
    path = to or refreshed_path(where)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(
        path, to_toml(found, f"Written by `voxfleet prices refresh --from {where}`: it is replaced by the next.")
    )
    dated = sorted({price.dated for price in found})
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"{len(found)} prices of {len({price.machine for price in found})} machines, of {dated[0]}: {path}")


def _known(table: PriceTable, machine: str, region: str) -> PriceTable:
    """What counts of a table, and was asked for: of rows for the same thing the first."""
    prices: dict[tuple[str, str, str], Price] = {}
    for price in table.prices:
        if machine in price.machine and region in ("", price.region):
            prices.setdefault((price.machine, price.region, price.market), price)
    charges: dict[tuple[str, str, str], Charge] = {}
    for charge in table.charges:
        if not machine and (region in ("", charge.region) or not charge.region):
            charges.setdefault((charge.kind, charge.provider, charge.region), charge)
    return PriceTable(tuple(prices.values()), tuple(charges.values()))


def _machines(prices: Iterable[Price]) -> Table:
    table = narrow_table("machine", "region", "market", "US$/h", "GPUs", "of it", words=3)
    for price in prices:
        gpus = f"{price.gpus} {price.gpu}" if price.gpus else ""
        share = f"{parts_of(price).gpu:.0%}" if price.gpus else ""
        table.add_row(price.machine, price.region, price.market, f"{price.usd_per_hour:.4f}", gpus, share)
    return table


def _charges(charges: Iterable[Charge]) -> Table:
    table = narrow_table("beside machines", "provider", "region", "US$", "a", words=3)
    for charge in charges:
        table.add_row(charge.kind, charge.provider, charge.region or "any", str(charge.usd), charge.unit)
    return table


def _json(known: PriceTable, today: date) -> str:
    """One JSON document; amounts as strings with all their digits."""
    rows: list[Price | Charge] = [*known.prices, *known.charges]
    return json.dumps(
        {
            "prices": [asdict(price) for price in known.prices],
            "charges": [asdict(charge) | {"unit": charge.unit} for charge in known.charges],
            "stale_after_days": STALE_AFTER_DAYS,
            "warnings": [note] if (note := stale_note(rows, today)) else [],
        },
        default=str,
        indent=2,
    )
