"""Spent: what a run's nodes cost so far, each at its own price or else at the run's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from ..ledger import Lived, Node
from ..prices.price import Price


def spent_on_nodes(nodes: Iterable[Node], price: Price) -> Decimal:
    """What these lives of nodes cost."""
    return sum(((node.price or price).usd_of(node.lifetime_s) for node in nodes), Decimal(0))


def spent_on_lives(lived: Iterable[Lived], price: Price) -> Decimal:
    """What they cost by their sums: quick, and all that a budget needs."""
    return sum(((each.price or price).usd_of(each.seconds) for each in lived), Decimal(0))


def burn_usd_per_s(lived: Iterable[Lived], price: Price) -> Decimal:
    """What all nodes that are up cost a second."""
    return sum((each.up * (each.price or price).usd_per_s for each in lived), Decimal(0))


def dearest_usd_per_s(lived: Iterable[Lived], price: Price) -> Decimal:
    """What the dearest node that is up and takes work costs a second; where none is, one at `price`."""
    at_work = (each for each in lived if each.up > each.heads)
    return max(((each.price or price).usd_per_s for each in at_work), default=price.usd_per_s)


@dataclass(frozen=True, slots=True)
class PricedNodes:
    """Nodes of one price: how many lives of them, how long these were together, and what they cost."""

    price: Price
    lives: int
    hours: float
    usd: Decimal


def priced_nodes(lives: Iterable[tuple[Price, int, float]]) -> tuple[PricedNodes, ...]:
    """Lives of one price together, the dearest together first; from (price, how many, seconds)."""
    found: defaultdict[Price, tuple[int, float]] = defaultdict(lambda: (0, 0.0))
    for price, number, seconds in lives:
        before = found[price]
        found[price] = (before[0] + number, before[1] + seconds)
    rows = [PricedNodes(price, n, seconds / 3600, price.usd_of(seconds)) for price, (n, seconds) in found.items()]
    return tuple(sorted(rows, key=lambda row: -row.usd))


def told_by(prices: Iterable[Price]) -> tuple[str, date]:
    """Where these prices were read, each source once, and the day of the oldest of them."""
    known = tuple(prices)
    return "; ".join(dict.fromkeys(price.source for price in known)), min(price.dated for price in known)
