"""Prices of the groups of a cell's machines: none of them is paid as if it were another."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from ..prices.price import LOCAL, NoPrice, Price, price_of
from .cell import CPU, CPU_FALLBACK, FALLBACK, HEAD, ON_DEMAND, SPOT

HEADS = {"gcp": "e2-standard-4", "aws": "m6i.xlarge"}
"""What `gke-nodes.sh` and `eks-nodes.yaml` make for the heads of cells, by provider."""


def with_groups(
    prices: Mapping[str, Price], groups: Collection[str], price: Price, override: Path | None = None
) -> dict[str, Price]:
    """`prices` by group, and that of each of a cell's `groups` which is not what the run's price is of.

    Workers to fall back on are the machine that they stand in for, on demand, and those that are no spot machines the
    run's; a head is one of
    `HEADS`, on demand, where nothing else is told, and costs nothing beside machines of one's own. What a worker
    without GPU is, is told or not known.

    Parameters
    ----------
    price : Price
        The run's.
    override : Path or None
        A file whose prices come before others.

    Raises
    ------
    NoPrice
        If one of them is not known; the message says how to tell it.
    """
    found = dict(prices)
    for group in (FALLBACK, ON_DEMAND):
        if group in groups and group not in found and price.market != ON_DEMAND and price.machine != LOCAL:
            found[group] = _on_demand(group, price, override)
    if HEAD in groups and HEAD not in found and price.machine != LOCAL and price.market != "owned":
        found[HEAD] = _head(price, override)
    if CPU in groups and CPU not in found and price.machine != LOCAL:
        raise NoPrice("workers without GPUs", f"are not {price.where}: {_step(CPU)}")
    if CPU_FALLBACK in groups and CPU_FALLBACK not in found and CPU in found:
        told = found[CPU]
        found[CPU_FALLBACK] = told if told.market != SPOT else _on_demand(CPU_FALLBACK, told, override)
    return found


def _on_demand(group: str, price: Price, override: Path | None) -> Price:
    """The price of the same machine on demand."""
    try:
        return price_of(price.machine, price.region, ON_DEMAND, override)
    except NoPrice as exc:
        other = {FALLBACK: ", or take --fallback 0", CPU_FALLBACK: ", or take --cpu-fallback 0"}.get(group, "")
        raise NoPrice(exc.args[0], f"{exc.args[1]}; or {_step(group)}{other}") from exc


def _head(price: Price, override: Path | None) -> Price:
    if price.provider not in HEADS:
        raise NoPrice("heads of cells", f"are not {price.where}: {_step(HEAD)}")
    try:
        return price_of(HEADS[price.provider], price.region, ON_DEMAND, override)
    except NoPrice as exc:
        raise NoPrice(exc.args[0], f"{exc.args[1]}; or {_step(HEAD)}") from exc


def _step(group: str) -> str:
    return f"tell what these machines are with --price-of {group}=MACHINE:REGION:MARKET"
