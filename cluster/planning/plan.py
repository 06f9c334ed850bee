"""Plan: dollars and hours of a collection, for machines and fleet sizes, before a node is rented."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cache

import numpy as np

from ..prices.price import LOCAL, Charge, Price, charge_of
from .fleet import Fleet, NodeKind, Simulated, draw_seconds
from .option import Forecast, Interval, Option, in_time, paid
from .series_sizes import SeriesSizes
from .simulate import simulate_pull
from .timing import Timing

QUANTILES = (0.025, 0.15, 0.3, 0.4, 0.5, 0.6, 0.7, 0.85, 0.975)
"""At which the sum of seconds is simulated: the outer two are the ends of a 95 % interval."""

TRIES = 3
"""Simulations at each quantile: preemptions, hangs and scatter fall otherwise each time."""

ALIKE = 0.05
"""Hours that differ by less, relatively, are taken to differ by chance."""

GIB = 2.0**30
"""What the providers call a gigabyte, and charge for."""

MOST_SIMULATED = 12_000
"""Series in one simulation; of a larger collection every k-th, on a k-th of the nodes."""

MOST_PER_NODE = 4000
"""Series that one node is planned to do: more, and it is months."""

LEAST_PER_NODE = 4
"""Series that one node is planned to do: fewer, and it is start-up."""

FLEETS = tuple(factor * 10**power for power in range(5) for factor in (1, 2, 5))

CLOUD_BOOT_S, CLOUD_BOOT_SD_S, CLOUD_IMAGE_S = 150.0, 60.0, 120.0
"""Assumed: from the order of a machine to its system, and to pull a container image of some gigabytes."""

SPOT_PREEMPTIONS_PER_H = 0.05
"""Assumed: one spot machine in twenty is taken away each hour."""

HANG_SHARE = 0.0005
"""Assumed: one series in two thousand never ends, and runs into its deadline."""

SELDOM = 0.025
"""What happens in fewer runs than these lies outside a 95 % interval: that one of less than fifty series hangs."""

CELL_NODES = 100
"""Nodes of a cell on Kubernetes."""

DEADLINE_S = 1800.0
"""A series that hangs is stopped then: the pipeline's own deadline of its stage ``segment``."""

GPU_SPEED = {"T4": 1.0, "L4": 1.8, "A100-40GB": 4.0}
"""Assumed speed of a network relative to the T4; not measured. A GPU that is not named here counts as 1."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a plan is asked for.

    Attributes
    ----------
    prices : tuple of Price
        Of the machines to choose from.
    charges : tuple of Charge
        What their providers charge beside them.
    most_nodes : int or None
        None: as many as have work.
    head : Price or None
        Of the head of each cell, beside `cell_nodes` nodes; None: no cells.
    """

    prices: tuple[Price, ...]
    charges: tuple[Charge, ...] = ()
    deadline_h: float | None = None
    budget_usd: Decimal | None = None
    most_nodes: int | None = None
    head: Price | None = None
    cell_nodes: int = CELL_NODES
    preemptions_per_h: float = SPOT_PREEMPTIONS_PER_H
    seed: int = 1

    def heads_of(self, price: Price, nodes: int) -> int:
        """How many heads so many nodes of this price have; none on this machine."""
        return 0 if self.head is None or price.machine == LOCAL else -(-nodes // self.cell_nodes)


def node_kind(price: Price, timing: Timing, preemptions_per_h: float = SPOT_PREEMPTIONS_PER_H) -> NodeKind:
    """How nodes of this price come and go: those at hand need no boot, and only spot ones are taken away."""
    if price.machine == LOCAL or price.market == "owned":
        return NodeKind(weights_s=timing.start_up_s)
    rate = preemptions_per_h if price.market == "spot" else 0.0
    return NodeKind(CLOUD_BOOT_S, CLOUD_BOOT_SD_S, CLOUD_IMAGE_S, timing.start_up_s, rate)


def fleet_sizes(price: Price, number: int, most_nodes: int | None) -> tuple[int, ...]:
    """Numbers of nodes worth a look for so many series; one for this machine."""
    if price.machine == LOCAL:
        return (1,)
    most = min(number / LEAST_PER_NODE, most_nodes or number)
    least = min(number / MOST_PER_NODE, most)
    return tuple(nodes for nodes in sorted({*FLEETS, most_nodes or 1}) if least <= nodes <= most) or (1,)


def hanging(number: int) -> float:
    """Share of so many series that a simulation lets hang; none where one hangs too seldom to be in the interval."""
    return HANG_SHARE if number * HANG_SHARE >= SELDOM else 0.0


def forecast(model: str, sizes: SeriesSizes, timing: Timing, wanted: Wanted) -> Forecast:
    """Dollars and hours for every machine and fleet size, and which of them to take."""
    stored = timing.output_bytes(sizes.slices, QUANTILES)
    output = Interval.of(stored) if stored else None
    # Many machines differ in nothing but their price: what takes time is done once for all of them.
    simulate = cache(lambda timing, fleet: _simulations(sizes, timing, fleet, wanted.seed))
    options: list[Option] = []
    for price in wanted.prices:
        here = timing.faster(_speed(price))
        kind = node_kind(price, timing, wanted.preemptions_per_h)
        for nodes in fleet_sizes(price, sizes.number, wanted.most_nodes):
            option = _option(price, nodes, simulate(here, Fleet(kind, nodes)), wanted)
            options.append(_with_data(option, output, wanted.charges))
    marked = _with_frontier(options)
    return Forecast(
        model=model,
        sizes=sizes,
        timing=timing,
        deadline_h=wanted.deadline_h,
        budget_usd=wanted.budget_usd,
        options=marked,
        cheapest=min(
            (each for each in marked if in_time(each, wanted.deadline_h)),
            key=lambda each: each.usd.middle,
            default=None,
        ),
        fastest=_fastest([each for each in marked if paid(each, wanted.budget_usd)]),
        output_bytes=output,
        assumptions=_assumptions(timing, sizes, wanted),
        warnings=_warnings(sizes),
    )


def _fastest(options: Sequence[Option]) -> Option | None:
    """The cheapest of those that are as fast as the fastest, as far as a simulation can tell."""
    least_h = min((each.hours.middle for each in options), default=0.0)
    alike = [each for each in options if each.hours.middle <= least_h * (1 + ALIKE)]
    return min(alike, key=lambda each: each.usd.middle, default=None)


def _simulations(sizes: SeriesSizes, timing: Timing, fleet: Fleet, seed: int) -> list[tuple[float, float, Simulated]]:
    """Hours, node-seconds and shares of the whole collection, at each quantile of its seconds."""
    every = max(1, min(sizes.number // MOST_SIMULATED, fleet.nodes))
    slices = sizes.slices[::every]
    nodes = max(1, round(fleet.nodes / every))
    thinned = Fleet(fleet.kind, nodes, fleet.launches_per_s / every, fleet.idle_timeout_s)
    expected = timing.expected_s(slices)
    hang_share = hanging(sizes.number)
    found = []
    for number, factor in enumerate(timing.factors(sizes.slices, QUANTILES) * TRIES):
        rng = np.random.default_rng((seed, number))
        seconds = draw_seconds(expected * factor, timing.sigma, hang_share, rng)
        # What the scatter draws beyond the deadline is slow, and does not hang.
        np.minimum(seconds, DEADLINE_S, out=seconds, where=np.isfinite(seconds))
        done = simulate_pull(seconds, thinned, DEADLINE_S, rng)
        found.append((done.hours * nodes * every / fleet.nodes, done.node_s * sizes.number / slices.size, done))
    return found


def _option(price: Price, nodes: int, found: Sequence[tuple[float, float, Simulated]], wanted: Wanted) -> Option:
    # The shares are those of the simulation whose dollars are the middle ones: another one may hold a hang more.
    heads = wanted.heads_of(price, nodes)
    usd_per_s, heads_usd_per_h = float(price.usd_per_s), float(heads * wanted.head.usd_per_hour) if wanted.head else 0.0
    _, _, done = sorted(found, key=lambda each: each[1])[len(found) // 2]
    return Option(
        price=price,
        nodes=nodes,
        hours=Interval.of(hours for hours, _, _ in found),
        usd=Interval.of(node_s * usd_per_s + hours * heads_usd_per_h for hours, node_s, _ in found),
        start_up_share=done.start_up_s / done.node_s if done.node_s else 0.0,
        wasted_share=done.wasted_s / done.node_s if done.node_s else 0.0,
        head=wanted.head if heads else None,
        heads=heads,
    )


def _with_data(option: Option, output: Interval | None, charges: Sequence[Charge]) -> Option:
    """The option with what its provider charges for the results to leave, and to stay a month."""
    if output is None:
        return option

    def charged(kind: str) -> Interval | None:
        rate = charge_of(charges, kind, option.price)
        return None if rate is None else output.times(float(rate.usd) / GIB)

    return replace(option, egress_usd=charged("egress"), storage_usd=charged("storage"))


def _speed(price: Price) -> float:
    return GPU_SPEED.get(price.gpu, 1.0)


def _with_frontier(options: Sequence[Option]) -> tuple[Option, ...]:
    """The options in order of dollars, with those marked than which none is both cheaper and faster."""
    ordered = sorted(options, key=lambda each: (each.usd.middle, each.hours.middle))
    fastest_h = float("inf")
    marked = []
    for each in ordered:
        best = each.hours.middle < fastest_h
        fastest_h = min(fastest_h, each.hours.middle)
        marked.append(replace(each, frontier=best))
    return tuple(marked)


def _assumptions(timing: Timing, sizes: SeriesSizes, wanted: Wanted) -> tuple[str, ...]:
    """What was not measured, in sentences."""
    lines = [
        f"sizes: {sizes.origin}",
        f"times: {timing.source}",
        f"one series in {1 / HANG_SHARE:.0f} hangs and is stopped after {DEADLINE_S / 60:.0f} min, twice"
        f"{'' if hanging(sizes.number) else '; of so few that is outside the interval'}",
        "a node leaves after a minute without work; prices are for machines only, without tax or discount",
        "results are SEG (BINARY) and SR; egress: all of them leave the provider; storage: its standard class",
    ]
    if wanted.head is not None:
        each = f"{wanted.head.where} at ${wanted.head.usd_per_hour}/h"
        lines.append(f"cells of {wanted.cell_nodes} nodes; the dollars hold their heads, {each}, from first to last")
    elsewhere = [price for price in wanted.prices if price.machine != LOCAL]
    if any(price.market != "owned" for price in elsewhere):
        lines.append(
            f"a cloud machine boots in {CLOUD_BOOT_S:.0f} ± {CLOUD_BOOT_SD_S:.0f} s and pulls its image in "
            f"{CLOUD_IMAGE_S:.0f} s; {wanted.preemptions_per_h:.0%} of spot machines are taken away each hour"
        )
    if elsewhere:
        if timing.gpu_share and any(price.gpu for price in wanted.prices):
            speeds = ", ".join(f"{gpu} {speed:g}" for gpu, speed in GPU_SPEED.items())
            lines.append(f"GPU seconds are those of a T4, divided by an assumed speed ({speeds}; others 1)")
        else:
            lines.append("every machine takes the seconds of the measured one")
    return tuple(lines)


def _warnings(sizes: SeriesSizes) -> tuple[str, ...]:
    if not sizes.unknown:
        return ()
    return (f"{sizes.unknown} of {sizes.number} series are of unknown size and count as the mean of the others",)
