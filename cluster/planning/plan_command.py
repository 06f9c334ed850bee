"""The command ``plan``: what a collection will cost, and how long it will take."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Column, Table

from ...enrich.atomic import write_text
from ...models import catalogue
from ...models.model import ModelCard
from ...runners.commands import AcceptLicence, Features, features_of
from ...runners.worklist import check_licence
from ..commands import dollars_of
from ..duration import hours_of
from ..kubernetes.cell import HEAD
from ..prices.group_price import group_prices
from ..prices.price import FETCH, LOCAL, NoPrice, Price, all_prices, known_table, own_prices_path, price_of, stale_note
from .measuring import Measure, measured
from .option import PUBLISHED_USD_PER_SERIES, Forecast, Interval, Option, hours_text
from .plan import CELL_NODES, Wanted, forecast
from .plan_page import plan_page
from .series_sizes import sizes_of
from .timing import told

MOST_LISTED = 12
"""Options up to which a terminal shows all."""

MACHINE_WIDTH, MARK_WIDTH = 16, 9
"""Least columns of a machine's name, and of what marks an option."""

PIPE_WIDTH = 120
"""Columns of a table that no terminal shows."""


def plan(  # noqa: PLR0913, PLR0917 - the command line's options
    source: Annotated[str, typer.Argument(help="Folder of DICOM files, dicomweb+https://..., or idc:COLLECTION.")],
    model: Annotated[str, typer.Option("--model", "-m", help="See `voxfleet models`.")],
    machine: Annotated[list[str] | None, typer.Option(help="May be repeated; this machine if not given.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every machine that a price is known of.")] = False,
    region: Annotated[str, typer.Option(help="Region of the prices.")] = "",
    spot: Annotated[bool, typer.Option("--spot", help="Spot prices only.")] = False,
    deadline: Annotated[str, typer.Option(help="Be done in, e.g. 8h, 90m, 2d.")] = "",
    budget: Annotated[str, typer.Option(help="Spend at most, in US$.")] = "",
    pilot: Annotated[int, typer.Option(min=0, help="Run so many series first, to measure them.")] = 0,
    from_run: Annotated[str, typer.Option("--from-run", help="Take the times from this run.")] = "",
    features: Features = None,
    seconds_per_series: Annotated[float, typer.Option(min=0.0, help="Take this mean; where none is measured.")] = 0.0,
    min_instances: Annotated[int, typer.Option(min=1, help="Leave out series of fewer instances.")] = 1,
    max_nodes: Annotated[int | None, typer.Option(min=1, help="Most nodes at once.")] = None,
    price_of: Annotated[
        str, typer.Option(help="For cells on Kubernetes: head=MACHINE[:REGION[:MARKET]], what their heads are.")
    ] = "",
    workers: Annotated[int, typer.Option(min=1, help="Nodes of each cell, with --price-of head=...")] = CELL_NODES,
    prices: Annotated[Path | None, typer.Option("--prices", help="TOML file of prices; comes before others.")] = None,
    accept_licence: AcceptLicence = False,
    html: Annotated[Path | None, typer.Option("--html", help="Write the plan as a page with its picture.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of a table.")] = False,
) -> None:
    """Forecast dollars and hours of a collection, with a 95 % interval, for machines and numbers of nodes.

    Nothing is rented, and nothing of the source is read but the sizes of its series (and, with
    --pilot, so many of them). Exit code 3: no option meets the deadline and keeps the budget.
    """
    _one_of({"--pilot": pilot, "--from-run": from_run, "--seconds-per-series": seconds_per_series})
    _one_of({"--features": features, "--seconds-per-series": seconds_per_series})
    _one_of({"--machine": machine, "--all": every})
    card = catalogue.card(model)
    if pilot:
        check_licence(card, accepted=accept_licence)
    wanted = Wanted(
        prices=_prices(card, machine or [], region, prices, spot=spot, every=every),
        charges=known_table(prices).charges,
        deadline_h=hours_of(deadline) if deadline else None,
        budget_usd=dollars_of("--budget", budget or None),
        most_nodes=max_nodes,
        head=_head(price_of, prices),
        cell_nodes=workers,
    )
    console = Console(stderr=True, quiet=as_json, highlight=False)
    with console.status("reading the sizes of the series ..."):
        sizes = sizes_of(source, card.modality, min_instances)
    if seconds_per_series:
        timing = told(seconds_per_series, sizes.slices, 1.0 if _on_gpu(card) else 0.0)
    else:
        how = Measure(pilot, from_run, min_instances, features_of(features))
        with console.status("reading times ...") as status:
            timing = measured(card, source, how, lambda n, of: status.update(f"pilot: {n} of {of} series"))
    with console.status("simulating ..."):
        found = forecast(f"{card.name} {card.version}", sizes, timing, wanted)
    if html is not None:
        write_text(html, plan_page(found))
    _show(found, html, as_json=as_json)
    if not found.keeps_both:
        raise typer.Exit(3)


def _one_of(options: Mapping[str, object]) -> None:
    """Raise a usage error where several are given of which only one can count."""
    given = [name for name, value in options.items() if value]
    if len(given) > 1:
        raise typer.BadParameter(f"{' and '.join(given)} exclude each other: give one")


def _prices(
    card: ModelCard, machines: list[str], region: str, override: Path | None, *, spot: bool, every: bool
) -> tuple[Price, ...]:
    """Of the machines asked for; of all that can run the model; or of this one."""
    market = "spot" if spot else ""
    if not every:
        return tuple(price_of(name, region, market, override) for name in machines or [LOCAL])
    rows: dict[tuple[str, str, str], Price] = {}
    for price in all_prices(override):
        fits = bool(price.gpus) >= _on_gpu(card) and region in ("", price.region) and market in ("", price.market)
        if fits:
            rows.setdefault((price.machine, price.region, price.market), price)
    if not rows:
        wanted = " ".join(part for part in ("any machine", region, market) if part)
        add = f"add a [[price]] with its source and date to {own_prices_path()}"
        raise NoPrice(wanted, f"no price known; {add}, or get it from a catalogue: {FETCH}")
    return tuple(rows.values())


def _head(told: str, override: Path | None) -> Price | None:
    """Of the heads of cells; None where nothing is told."""
    prices = group_prices(None, None, [told], override) if told else {}
    if prices.keys() - {HEAD}:
        raise typer.BadParameter(f"--price-of {told}: a plan has prices of its machines, and of head")
    return prices.get(HEAD)


def _on_gpu(card: ModelCard) -> bool:
    """Whether one would give it a GPU: a network runs without one too, in many times the seconds."""
    return card.gpu_bytes > 0 or card.algorithm_family == "AI"


def _show(found: Forecast, html: Path | None, *, as_json: bool) -> None:
    console = Console(soft_wrap=True, highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
    if as_json:
        console.print_json(to_json(found))
        return
    sizes = found.sizes
    console.print(
        f"[bold]{sizes.source}[/bold]  {sizes.number:,} series, {sizes.slices.sum():,.0f} slices, "
        f"{decimal(int(sizes.bytes.sum()))}, for {found.model}"
    )
    table = options_table(found)
    console.print(table)
    if table.row_count < len(found.options):
        console.print(f"{table.row_count} of {len(found.options)} options; all of them with --json and --html")
    least_h, least_usd = (min(getattr(each, what).high for each in found.options) for what in ("hours", "usd"))
    console.print(f"cheapest in time: {_sentence(found.cheapest, found, f'--deadline is below {hours_text(least_h)}')}")
    console.print(
        f"fastest within budget: {_sentence(found.fastest, found, f'--budget is below ${_amount(least_usd)}')}"
    )
    if found.cheapest and found.fastest and not found.keeps_both:
        console.print("no option keeps both: give a longer --deadline or a larger --budget")
    if found.output_bytes is not None:
        low, middle, high = (decimal(int(each)) for each in found.output_bytes.ends)
        console.print(f"to be stored: {middle} ({low} - {high})")
        for text in dict.fromkeys(_data_text(option) for option in (found.cheapest, found.fastest) if option):
            console.print(text)
    for text in (*found.warnings, *_stale(found)):
        console.print(f"[yellow]warning[/yellow] {escape(text)}")
    for text in found.assumptions:
        console.print(f"- {text}")
    if html is not None:
        console.print(f"page: {html}")


def options_table(found: Forecast) -> Table:
    """The options that a terminal shows; on 80 columns figures break, so that the machine keeps its place."""
    columns = [Column("machine", min_width=MACHINE_WIDTH, overflow="fold"), Column("nodes", no_wrap=True)]
    table = Table(*columns, "time", "US$", Column("", min_width=MARK_WIDTH), box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for option in _listed(found):
        table.add_row(*_cells(found, option))
    return table


def _data_text(option: Option) -> str:
    """What the results cost beside the machines, as far as that is known."""
    where = " ".join(part for part in ("results in", option.price.provider, option.price.region) if part)
    egress = "" if option.egress_usd is None else f"; if they leave, ${_with_ends(option.egress_usd)}"
    storage = "" if option.storage_usd is None else f"; if they stay, ${_with_ends(option.storage_usd)} a month"
    return f"{where}{egress}{storage}" if egress or storage else f"{where}: no price known for egress and storage"


def _with_ends(usd: Interval) -> str:
    return f"{_amount(usd.middle)} ({_amount(usd.low)} - {_amount(usd.high)})"


def _listed(found: Forecast) -> list[Option]:
    """What a terminal shows of many options: the frontier, what was picked, and every machine's cheapest."""
    if len(found.options) <= MOST_LISTED:
        return list(found.options)
    seen: set[tuple[str, str]] = set()
    listed = []
    for option in found.options:
        kind = option.price.machine, option.price.market
        if option.frontier or option in (found.cheapest, found.fastest) or kind not in seen:
            listed.append(option)
        seen.add(kind)
    return listed


def _cells(found: Forecast, option: Option) -> tuple[str, ...]:
    price, usd, hours = option.price, option.usd, option.hours
    marks = ["cheapest"] * (option is found.cheapest) + ["fastest"] * (option is found.fastest)
    name = f"{price.machine} as {price.equivalent_of}" if price.equivalent_of else price.machine
    return (
        " ".join(part for part in (name, price.region, price.market) if part),
        str(option.nodes),
        f"{hours_text(hours.middle)} ({hours_text(hours.low)} - {hours_text(hours.high)})",
        _with_ends(usd),
        ", ".join(marks) or ("frontier" if option.frontier else ""),
    )


def _amount(usd: float) -> str:
    return f"{usd:,.2f}" if usd >= 1 else f"{usd:.2g}"


def _sentence(option: Option | None, found: Forecast, else_: str) -> str:
    if option is None:
        return f"no option: {else_}, the least that any is sure to keep"
    cents = option.usd.middle / found.sizes.number * 100
    return (
        f"{option.nodes} x {option.price.where}: "
        f"{hours_text(option.hours.middle)}, ${_amount(option.usd.middle)}, {cents:.3g} cents a series "
        f"(published: {PUBLISHED_USD_PER_SERIES * 100:.2f} for TotalSegmentator)"
    )


def _stale(found: Forecast) -> list[str]:
    used = (price for option in found.options for price in (option.price, option.head) if price)
    note = stale_note(used, datetime.now(UTC).date())
    return [note] if note else []


def to_json(found: Forecast) -> str:
    """The forecast as one JSON document; dollars as numbers, since they are estimates."""
    sizes, timing = found.sizes, found.timing
    document = {
        "source": sizes.source,
        "model": found.model,
        "series": sizes.number,
        "slices": float(sizes.slices.sum()),
        "bytes": float(sizes.bytes.sum()),
        "output_bytes": found.output_bytes and _ends(found.output_bytes),
        "seconds_per_series": float(timing.expected_s(sizes.slices).mean()),
        "series_measured": timing.series,
        "deadline_h": found.deadline_h,
        "budget_usd": None if found.budget_usd is None else str(found.budget_usd),
        "options": [_record(option) for option in found.options],
        "cheapest": found.cheapest and _record(found.cheapest),
        "fastest": found.fastest and _record(found.fastest),
        "assumptions": found.assumptions,
        "warnings": (*found.warnings, *_stale(found)),
    }
    return json.dumps(document, indent=2)


def _record(option: Option) -> dict[str, object]:
    price = option.price
    return {
        "machine": price.machine,
        "region": price.region,
        "market": price.market,
        "usd_per_hour": str(price.usd_per_hour),
        "price_source": price.source,
        "price_dated": price.dated.isoformat(),
        "nodes": option.nodes,
        "heads": option.heads,
        "hours": _ends(option.hours),
        "usd": _ends(option.usd),
        "start_up_share": option.start_up_share,
        "wasted_share": option.wasted_share,
        "egress_usd": option.egress_usd and _ends(option.egress_usd),
        "storage_usd_per_month": option.storage_usd and _ends(option.storage_usd),
        "frontier": option.frontier,
    }


def _ends(interval: Interval) -> dict[str, float]:
    return dict(zip(("low", "middle", "high"), interval.ends, strict=True))
