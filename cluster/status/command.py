"""``voxfleet status``: where a run stands, in a moment also where it has 126,068 workitems."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer
from rich.console import Console

from ..ledger import Ledger
from ..ledgers.attempt import AttemptClass
from ..ledgers.opening import open_ledger
from ..options import AsJson, PriceFile, RunName
from ..prices.price import Price
from ..prices.run_price import price_for
from ..run_folder import RunFolder
from .progress import Standing, standing
from .wording import attempted, counted, heading, paid_at, troubled


def status(
    run: RunName,
    series: Annotated[
        bool, typer.Option("--series", help="Read every series: a row for each, dollars useful and wasted.")
    ] = False,
    prices: PriceFile = None,
    as_json: AsJson = False,
) -> None:
    """Show where a run stands: done, refused, failed and why, ETA, dollars.

    It asks the ledger for sums and takes a moment. With --series or --json every series is read: a row
    or a record for each, and what was useful and wasted to the last digit.
    """
    folder = RunFolder(run).must_exist()
    ledger = open_ledger(folder)
    asked = ledger.run()
    price = price_for(asked, override=prices)
    if series or as_json:
        _show_all(folder, ledger, price, as_json=as_json)
        return
    console = Console(soft_wrap=True, highlight=False, emoji=False)
    for line in _lines(standing(ledger, asked, price)):
        console.print(line)
    if folder.report.is_file():
        console.print(f"page: {folder.report}")


def _show_all(folder: RunFolder, ledger: Ledger, price: Price, *, as_json: bool) -> None:
    # A second to import: pages, provenance, tables.
    from .outputs import show_summary
    from .summary import summarise

    show_summary(summarise(ledger, price), folder, as_json=as_json, series=not as_json)


def _lines(now: Standing) -> Iterator[str]:
    yield heading(now.run)
    yield counted(now.progress)
    yield attempted(now.attempts, now.lost)
    yield _spent(now)
    yield from paid_at(now.nodes, now.price)
    for each in now.troubles:
        yield troubled(each.count, "refused" if each.refused else "failed", each.code, each.stage, each.example)
    for warning in now.warnings:
        yield f"[yellow]warning[/yellow] {warning}"


def _spent(now: Standing) -> str:
    """Dollars so far, and what the seconds of stages were for."""
    each = now.progress.usd_per_completed
    text = f"${now.progress.usd:.6f}" + (f", {each * 100:.4f} cents a result" if each is not None else "")
    all_s = now.stage_s(*AttemptClass)
    if all_s <= 0:
        return text
    useful = now.stage_s(AttemptClass.COMPLETED) / all_s
    refused = now.stage_s(AttemptClass.REFUSED) / all_s
    return (
        f"{text}; of {all_s:.0f} s of stages {useful:.1%} gave results, {refused:.1%} refusals, "
        f"{max(0.0, 1 - useful - refused):.1%} failures and losses"
    )
