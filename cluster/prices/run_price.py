"""The price of a run: kept in its ledger, so that no newer table changes what it cost or how it is governed."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from ..ledger import Ledger, NoSuchRun, Run
from ..ledgers.opening import open_ledger, open_shared_ledger
from ..run_folder import RunFolder
from .price import LOCAL, Price, price_of
from .rates import PriceError


class CheaperPrice(PriceError):
    """A run is to go on at a lower price than it began at: what was spent would count for less, and the cap with it."""

    code = "CHEAPER_PRICE"


def begun_run(folder: RunFolder, ledger_url: str = "") -> Run | None:
    """The run that a folder's ledger, or the one at `ledger_url`, already holds."""
    if not (ledger_url or folder.ledger_url.is_file() or folder.ledger.is_file()):
        return None
    ledger = open_shared_ledger(ledger_url, folder.name) if ledger_url else open_ledger(folder)
    try:
        with suppress(NoSuchRun):
            return ledger.run()
        return None
    finally:
        ledger.close()


def price_for(
    run: Run | None, machine: str = "", region: str = "", market: str = "", override: Path | None = None
) -> Price:
    """The price kept with `run`, unless another one is asked for.

    Parameters
    ----------
    run : Run or None
        None: one that is yet to begin.
    machine, region, market : str
        Empty: those of the run, or `local`.
    override : Path or None
        A file whose price comes before the one kept.

    Raises
    ------
    NoPrice, BadPrice
        As of `price_of`.
    """
    if run is None:
        return price_of(machine or LOCAL, region, market, override)
    kept = run.price
    asked = (machine, region, market)
    if kept and not override and all(a in ("", b) for a, b in zip(asked, _words(kept), strict=True)):
        return kept
    if machine not in ("", run.machine):
        return price_of(machine, region, market, override)
    return price_of(run.machine, region or run.region, market or run.market, override)


def price_to_go_on(
    run: Run | None, machine: str = "", region: str = "", market: str = "", override: Path | None = None
) -> Price:
    """As `price_for`, for a command that goes on with the run's work.

    Raises
    ------
    CheaperPrice
        If it is lower than the one kept.
    """
    price = price_for(run, machine, region, market, override)
    if run and run.price and price.usd_per_hour < run.price.usd_per_hour:
        reason = f"{price.where} at {price.usd_per_hour} US$/h is below the run's {run.price.usd_per_hour} US$/h"
        raise CheaperPrice(run.name, f"{reason}; go on without --prices and --machine, or begin a new run")
    return price


def price_change(run: Run | None, price: Price) -> str:
    """In words, that a run goes on at another price than it began at; empty if it does not."""
    if run is None or run.price is None or run.price == price:
        return ""
    before = f"{run.price.usd_per_hour} US$/h ({run.price.where}, {run.price.dated})"
    return f"the whole run is priced anew: {price.usd_per_hour} US$/h ({price.where}, {price.dated}), no more {before}"


def keep_price(ledger: Ledger, run: Run, price: Price) -> None:
    """Let the run have this price from now on; a change of it is an event."""
    if run.price == price:
        return
    ledger.set_price(price)
    if change := price_change(run, price):
        ledger.event("warning", "price", change)


def _words(price: Price) -> tuple[str, str, str]:
    return price.machine, price.region, price.market
