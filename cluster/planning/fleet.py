"""Fleet: nodes that come and go, the work they do, and what became of both; all of it on paper.

A node boots, fetches its image and its weights, works, may be preempted with what it holds, and
leaves. Money is node-seconds times a price.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import numpy.typing as npt

from ... import Error
from ..prices.price import Price

HOUR_S = 3600.0

DRAWS = 4096
"""Random numbers that are drawn at a time."""

Seconds = npt.NDArray[np.float64]


class InvalidFleet(Error):
    """A fleet or its work that cannot be: no nodes, negative seconds."""

    code = "INVALID_FLEET"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class NodeKind:
    """How nodes of one kind come and go.

    Attributes
    ----------
    boot_s, boot_sd_s : float
        Mean and standard deviation of the seconds from the order to a running system; paid.
    image_s, weights_s : float
        Seconds to fetch the container image, and to load the model; paid.
    preemptions_per_h : float
        Rate at which the provider takes a node away; 0 on demand.
    """

    boot_s: float = 0.0
    boot_sd_s: float = 0.0
    image_s: float = 0.0
    weights_s: float = 0.0
    preemptions_per_h: float = 0.0

    def __post_init__(self) -> None:
        if min(self.boot_s, self.boot_sd_s, self.image_s, self.weights_s, self.preemptions_per_h) < 0:
            raise InvalidFleet(f"{self} has a negative figure")


@dataclass(frozen=True, slots=True)
class Fleet:
    """How many nodes of a kind there are.

    Attributes
    ----------
    launches_per_s : float
        Nodes that the provider starts per second.
    idle_timeout_s : float
        A node leaves after this time without work; ``inf``: it stays until all is settled.
    """

    kind: NodeKind
    nodes: int
    launches_per_s: float = 20.0
    idle_timeout_s: float = 60.0

    def __post_init__(self) -> None:
        if self.nodes < 1 or self.launches_per_s <= 0 or self.idle_timeout_s < 0:
            raise InvalidFleet(f"{self.nodes} nodes, {self.launches_per_s} launches a second")


@dataclass(frozen=True, slots=True)
class Simulated:
    """What became of a fleet and its work: ``node_s = start_up_s + useful_s + wasted_s + idle_s``.

    Attributes
    ----------
    wall_s : float
        From the first order of a node until the last workitem was settled.
    wasted_s : float
        Of workitems lost with their node, and of those stopped at their deadline.
    completed, failed : int
        Workitems; `failed` ran into their deadline too often, or were lost too often.
    launched, preempted : int
        Lives of nodes, and how many of them the provider ended.
    """

    wall_s: float
    node_s: float
    start_up_s: float
    useful_s: float
    wasted_s: float
    idle_s: float
    completed: int
    failed: int
    launched: int
    preempted: int

    @property
    def hours(self) -> float:
        """Wall time in hours."""
        return self.wall_s / HOUR_S

    def usd(self, price: Price) -> Decimal:
        """What all nodes cost, each at `price`."""
        return Decimal(repr(self.node_s)) * price.usd_per_s


def draw_seconds(expected_s: Seconds, sigma: float, hang_share: float, rng: np.random.Generator) -> Seconds:
    """Seconds that workitems take: log-normal about `expected_s`, whose mean they keep; ``inf`` for those that hang.

    Parameters
    ----------
    sigma : float
        Standard deviation of the logarithm.
    hang_share : float
        In [0, 1].
    """
    drawn = expected_s * np.exp(sigma * rng.standard_normal(expected_s.shape) - sigma * sigma / 2)
    drawn[rng.random(expected_s.shape) < hang_share] = math.inf
    return drawn


def check_work(seconds: Seconds, deadline_s: float) -> None:
    """Raise InvalidFleet if some seconds are negative or NaN, or the deadline is not positive and finite."""
    if not 0 < deadline_s < math.inf:
        raise InvalidFleet(f"a deadline of {deadline_s} s")
    if not bool((seconds >= 0).all()):
        raise InvalidFleet("workitems with negative or unknown seconds")


def node_lives(kind: NodeKind, rng: np.random.Generator) -> Iterator[tuple[float, float]]:
    """Start-up seconds, and seconds until the node is taken away, of one node after the other."""
    rate_per_s = kind.preemptions_per_h / HOUR_S
    while True:
        boots = np.maximum(kind.boot_s + kind.boot_sd_s * rng.standard_normal(DRAWS), 0.0)
        ends = rng.exponential(1 / rate_per_s, DRAWS) if rate_per_s else np.full(DRAWS, math.inf)
        yield from zip((boots + kind.image_s + kind.weights_s).tolist(), ends.tolist(), strict=True)
