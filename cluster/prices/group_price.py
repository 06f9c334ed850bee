"""Prices of groups of machines that are not the run's own: as an option tells them, and kept in the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..ledger import Ledger, Run
from .price import Price, price_of
from .rates import BadPrice

FORM = "GROUP=MACHINE[:REGION[:MARKET]]"
"""Of what a group's machines are."""


def group_prices(run: Run | None, told: Sequence[str], override: Path | None = None) -> dict[str, Price]:
    """Prices by group: those kept with `run`, and before them those told.

    Parameters
    ----------
    run : Run or None
        None: one that is yet to begin.
    told : sequence of str
        Each as `FORM`; without region or market those of the machine's first price.
    override : Path or None
        A file whose prices come before others.

    Raises
    ------
    BadPrice
        If one is told in another form.
    NoPrice
        If a machine's price is not known.
    """
    prices = dict(run.prices) if run else {}
    for text in told:
        group, _, words = text.partition("=")
        machine, region, market, *more = [*words.split(":"), "", ""]
        if not group or not machine or any(more):
            raise BadPrice(f"--price-of {text}", f"is not {FORM}, e.g. fallback=g2-standard-8:us-central1:on-demand")
        prices[group] = price_of(machine, region, market, override)
    return prices


def told_price(group: str, price: Price) -> str:
    """What `group_prices` reads as this price of a group."""
    return f"{group}={price.machine}:{price.region}:{price.market}"


def keep_group_prices(ledger: Ledger, run: Run, prices: Mapping[str, Price]) -> None:
    """Let the groups of a run have these prices from now on; what nodes were paid at so far stays."""
    if dict(run.prices) == dict(prices):
        return
    ledger.set_prices(prices)
    told = (f"{group}: {price.usd_per_hour} US$/h ({price.where}, {price.dated})" for group, price in prices.items())
    ledger.event("info", "price", f"groups of machines: {', '.join(told) or 'none'}")
