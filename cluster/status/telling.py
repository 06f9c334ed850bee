"""Where a run stands, told in a few lines; in a moment also where it has 126,068 workitems.

Imported without the command line's parser, which takes longer than all of this.
"""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console

from ..ledger import Ledger
from ..ledgers.attempt import AttemptClass
from ..ledgers.opening import open_ledger
from ..prices.price import Price
from ..prices.run_price import price_for
from ..run_folder import RunFolder
from .progress import Standing, standing
from .wording import attempted, counted, heading, paid_at, troubled


def tell_status(run: str) -> None:
    """Print where a run stands, at the price that it keeps."""
    folder = RunFolder(run).must_exist()
    ledger = open_ledger(folder)
    tell_standing(folder, ledger, price_for(ledger.run()))


def tell_standing(folder: RunFolder, ledger: Ledger, price: Price) -> None:
    """Print where the run of a folder and its ledger stands, at this price."""
    console = Console(soft_wrap=True, highlight=False, emoji=False)
    for line in _lines(standing(ledger, ledger.run(), price)):
        console.print(line)
    if folder.report.is_file():
        console.print(f"page: {folder.report}")


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
