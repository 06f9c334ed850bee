"""``voxfleet status``: where a run stands."""

from __future__ import annotations

from typing import Annotated

import typer

from ..ledger import Ledger
from ..ledgers.opening import open_ledger
from ..options import AsJson, PriceFile, RunName
from ..prices.price import Price
from ..prices.run_price import price_for
from ..run_folder import RunFolder
from .telling import tell_standing


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
    price = price_for(ledger.run(), override=prices)
    if series or as_json:
        _show_all(folder, ledger, price, as_json=as_json)
    else:
        tell_standing(folder, ledger, price)


def _show_all(folder: RunFolder, ledger: Ledger, price: Price, *, as_json: bool) -> None:
    # A second to import: pages, provenance, tables.
    from .outputs import show_summary
    from .summary import summarise

    show_summary(summarise(ledger, price), folder, as_json=as_json, series=not as_json)
