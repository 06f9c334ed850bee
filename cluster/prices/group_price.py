"""Prices of groups of machines that are not the run's own: as an option tells them, and kept in the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..ledger import Ledger, Run
from .price import Price, price_of
from .rates import BadPrice

FORM = "GROUP=MACHINE[:REGION[:MARKET]]"
"""Of what a group's machines are."""


def group_prices(
    run: Run | None, price: Price | None, told: Sequence[str], override: Path | None = None
) -> dict[str, Price]:
    """Prices by group: those kept with `run`, and before them those told.

    Parameters
    ----------
    run : Run or None
        None: one that is yet to begin.
    price : Price or None
        At which the run goes on: where that is of another machine than before, its groups are others, too.
    told : sequence of str
        Each as `FORM`; without region or market those of the machine's first price.
    override : Path or None
        A file whose prices come before others, also before those kept.

    Raises
    ------
    BadPrice
        If one is told in another form.
    NoPrice
        If a machine's price is not known.
    """
    prices = _kept(run, price, override)
    for text in told:
        group, _, words = text.partition("=")
        machine, region, market, *more = [*words.split(":"), "", ""]
        if not group or not machine or any(more):
            raise BadPrice(f"--price-of {text}", f"is not {FORM}, e.g. fallback=g2-standard-8:us-central1:on-demand")
        prices[group] = price_of(machine, region, market, override)
    return prices


def _kept(run: Run | None, price: Price | None, override: Path | None) -> dict[str, Price]:
    if run is None or (run.price and price and _machine(run.price) != _machine(price)):
        return {}
    if override is None:
        return dict(run.prices)
    return {group: price_of(*_machine(each), each.market, override) for group, each in run.prices.items()}


def _machine(price: Price) -> tuple[str, str]:
    return price.machine, price.region


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
