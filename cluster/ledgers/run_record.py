"""A run as its ledger keeps it: what it is to do, on which nodes, what was refused, what happened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from ..prices.rates import Price

NOTICE = "notice"
"""Kind of the event that the machine of an owner, its detail, is about to be taken away."""

LEFT = "left"
"""Kind of the event that a cell, whose label begins its detail, ended since there was nothing to lease for it."""


@dataclass(frozen=True, slots=True)
class Run:
    """One command's work on one collection.

    Attributes
    ----------
    models : tuple of str
        ``name version``, as asked for.
    parameters : mapping of str to str
        Everything else that decides the results.
    budget_usd : Decimal or None
        Most that the run may cost; None: no cap.
    machine, region, market : str
        What the nodes are, as the price table names them; region and market empty: its first row.
    price : Price or None
        By which the run is governed and accounted for; None: of a run begun before prices were kept.
    prices : mapping of str to Price
        Of groups of machines that have prices of their own, by the names of the groups.
    """

    name: str
    source: str
    target: str
    models: tuple[str, ...]
    parameters: Mapping[str, str]
    platform_version: str
    machine: str
    created: datetime
    budget_usd: Decimal | None = None
    region: str = ""
    market: str = ""
    price: Price | None = None
    prices: Mapping[str, Price] = field(default_factory=dict)

    def same_work(self, other: Run) -> bool:
        """Whether both give the same results: budget, machine, price, version and date aside."""
        return not self.difference(other)

    def difference(self, other: Run) -> str:
        """In words, how the work of `other` is not this run's; empty if it is."""
        pairs = (
            ("name", self.name, other.name),
            ("source", self.source, other.source),
            ("target", self.target, other.target),
            ("models", ", ".join(self.models), ", ".join(other.models)),
            *(
                (f"parameters.{name}", self.parameters.get(name), other.parameters.get(name))
                for name in sorted({*self.parameters, *other.parameters})
            ),
        )
        return "; ".join(f"{what} is {mine}, not {theirs}" for what, mine, theirs in pairs if mine != theirs)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A source object that never became a workitem, and the rule that it broke."""

    identifier: str
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Event:
    """Something about the run and not about one workitem: a stop, a lost node, a budget alarm."""

    at: datetime
    level: str
    kind: str
    detail: str


@dataclass(frozen=True, slots=True)
class Node:
    """One life of a node, from the second it costs money to the second it no longer does.

    Attributes
    ----------
    down : datetime or None
        None while it is up, and also after its driver was killed: see `last_seen`.
    last_seen : datetime
        Its end; or now, while its driver sends heartbeats; or else the end of the time for which that held its
        leases.
    cell : str
        Label of its machine on the provider's bill; empty: none.
    price : Price or None
        Of its machine; None: the run's.
    head : bool
        It drives a cell and takes no work.
    """

    node: str
    machine: str
    up: datetime
    down: datetime | None
    last_seen: datetime
    cell: str = ""
    price: Price | None = None
    head: bool = False

    @property
    def lifetime_s(self) -> float:
        """How long it has cost money; nothing where a clock stepped back."""
        return max(0.0, ((self.down or self.last_seen) - self.up).total_seconds())


@dataclass(frozen=True, slots=True)
class Lived:
    """Lives of nodes of one price.

    Attributes
    ----------
    price : Price or None
        None: the run's.
    lives : int
        Those that ended, and those that have not.
    up : int
        Those that have not ended.
    seconds : float
        All of them so far.
    heads : int
        Of those that have not ended, the ones that drive a cell and take no work.
    """

    price: Price | None
    lives: int
    up: int
    seconds: float
    heads: int = 0
