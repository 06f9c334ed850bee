"""The published NLST run, simulated, beside pull mode: ``python -m voxfleet.benchmarks.performance.simulator``.

Sizes are those of IDC's index (``pip install 'voxfleet[idc]'``): the 126,068 CT series of NLST of most
slices. What was not published is assumed, and stands here as a constant: a GPU stage of 180 s on
average (T4) and a CPU stage of 150 s, and spot prices. Published: US$ 1,011.05,
two virtual machines for each batch of 12 series, under 9 hours (doi 10.21203/rs.3.rs-4351526).
"""

from __future__ import annotations

import argparse
import math
import re
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...cluster.planning.batches import Leg, simulate_batches
from ...cluster.planning.fleet import HOUR_S, Fleet, NodeKind, Simulated, draw_seconds
from ...cluster.planning.series_sizes import sizes_of
from ...cluster.planning.simulate import simulate_pull

PUBLISHED_USD = 1011.05
PUBLISHED_SERIES = 126_068
BATCH = 12
MOST_WORKFLOWS = 3000
"""Workflows that Terra, the published run's platform, has under way at once."""

GPU_S, CPU_S, SIGMA = 180.0, 150.0, 0.25
HANG_SHARE = 17 / PUBLISHED_SERIES
"""IDC holds results of 126,051 of the 126,068 series; the others are taken to have hung."""

GPU_USD_PER_H, CPU_USD_PER_H = 0.134, 0.045
BILLED_SHARE = 0.78
"""Of the catalogue's spot price, that Terra's wall time was billed: 0.74 to 0.82 (see `OVERHEAD_S`)."""

OVERHEAD_S = 17.5 * 60 / 2
"""Of each of a workflow's two machines, before and after its work: 15 to 20 minutes for both, as the authors of the
published run measured later, on the same platform (boot, image, weights, packaging, queueing):
github.com/ImagingDataCommons/CloudSegmentator 4a2e827, util/executionAnalytics/README.md."""

KIND = NodeKind(boot_s=150, boot_sd_s=60, image_s=OVERHEAD_S - 150, preemptions_per_h=0.05)
STATIC_DEADLINE_S, PULL_DEADLINE_S = 3600.0, 900.0

Seconds = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One way of running the collection."""

    name: str
    hours: float
    usd: float
    wasted_share: float
    start_up_share: float


def drawn(slices: Seconds, seed: int) -> tuple[Seconds, Seconds]:
    """Seconds of the GPU stage and of the CPU stage: a third fixed, the rest by slices, log-normal scatter."""
    rng = np.random.default_rng(seed)
    relative = 0.35 + 0.65 * slices / slices.mean()
    return draw_seconds(GPU_S * relative, SIGMA, HANG_SHARE, rng), draw_seconds(CPU_S * relative, SIGMA, 0.0, rng)


def static(slices: Seconds, batch: int, most_at_once: int | None, seed: int = 1) -> Outcome:
    """Two machines for each batch: one with a GPU, then one without."""
    rng = np.random.default_rng(seed)
    mixed = rng.permutation(slices)
    gpu_s, cpu_s = drawn(mixed, seed)
    legs = (Leg(KIND, gpu_s), Leg(KIND, cpu_s))
    runs = simulate_batches(legs, batch, STATIC_DEADLINE_S, rng, most_at_once)
    return _outcome(f"batches of {batch}, {most_at_once or 'all'} at once", *runs)


def pull(slices: Seconds, nodes: int, seed: int = 1) -> Outcome:
    """GPU nodes that pull; the CPU stage on as many nodes of its own, which keep up."""
    gpu_s, cpu_s = drawn(slices, seed)
    rng = np.random.default_rng(seed)
    gpu = simulate_pull(gpu_s, Fleet(KIND, nodes), PULL_DEADLINE_S, rng)
    cpu = simulate_pull(cpu_s, Fleet(KIND, nodes), PULL_DEADLINE_S, rng)
    return _outcome(f"pull, {nodes} GPU nodes", gpu, cpu)


def _outcome(name: str, gpu: Simulated, cpu: Simulated) -> Outcome:
    usd = BILLED_SHARE * (gpu.node_s * GPU_USD_PER_H + cpu.node_s * CPU_USD_PER_H) / HOUR_S
    node_s = gpu.node_s
    return Outcome(name, max(gpu.hours, cpu.hours), usd, gpu.wasted_s / node_s, gpu.start_up_s / node_s)


def nlst() -> Seconds:
    """Slices of the 126,068 largest CT series of NLST, the largest first."""
    return sizes_of("idc:nlst", ("CT",)).slices[:PUBLISHED_SERIES]


def outcomes(slices: Seconds) -> list[Outcome]:
    """The published layout, other batches, and fleets that pull."""
    found = [static(slices, batch, MOST_WORKFLOWS) for batch in (1, 4, BATCH, 48)]
    found.append(static(slices, BATCH, None))
    return found + [pull(slices, nodes) for nodes in (200, 500, 1000, 1300, 2000, 4000, 10_508)]


def picture(found: list[Outcome]) -> str:
    """SVG of dollars over hours; hours are logarithmic."""
    left, right, top, bottom = 60.0, 700.0, 20.0, 330.0
    low, high = math.log10(0.5), math.log10(60)

    def x(hours: float) -> float:
        return round(left + (math.log10(hours) - low) / (high - low) * (right - left), 1)

    def y(usd: float) -> float:
        return round(bottom - (usd - 600) / 3000 * (bottom - top), 1)

    parts = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 380" font-family="sans-serif" font-size="12">']
    parts.append('<rect width="760" height="380" fill="#fff"/>')
    for hours in (0.5, 1, 2, 4, 8, 16, 32):
        parts.append(f'<path d="M{x(hours)} {top}V{bottom}" stroke="#e3e6eb"/>')
        parts.append(f'<text x="{x(hours)}" y="{bottom + 16}" text-anchor="middle">{hours:g} h</text>')
    for usd in range(1000, 3600, 500):
        parts.append(f'<path d="M{left} {y(usd)}H{right}" stroke="#e3e6eb"/>')
        parts.append(f'<text x="{left - 6}" y="{y(usd) + 4}" text-anchor="end">${usd:,}</text>')
    published = y(PUBLISHED_USD)
    parts.append(f'<path d="M{left} {published}H{right}" stroke="#b3261e" stroke-dasharray="6 5"/>')
    parts.append(f'<text x="{right}" y="{published + 14}" text-anchor="end" fill="#b3261e">published: $1,011.05</text>')
    for each in found:
        color = "#1f5fbf" if each.name.startswith("pull") else "#e0913a"
        label = re.sub(r"pull, | GPU nodes|batches of | at once", "", each.name)
        above = y(each.usd) + (18 if each.name.startswith("pull") else -9)
        parts.append(f'<circle cx="{x(each.hours)}" cy="{y(each.usd)}" r="5" fill="{color}"/>')
        parts.append(f'<text x="{x(each.hours)}" y="{above}" text-anchor="middle" fill="{color}">{label}</text>')
    parts.append('<text x="60" y="368" fill="#e0913a">orange: static batches (batch, most at once)</text>')
    parts.append('<text x="380" y="368" fill="#1f5fbf">blue: nodes that pull (GPU nodes)</text></svg>')
    return "\n".join(parts) + "\n"


def main() -> None:
    """Print a table, and write the picture where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--svg", type=Path, default=None)
    options = parser.parse_args()
    began = time.perf_counter()
    slices = nlst()
    print(f"{slices.size:,} series from IDC's index in {time.perf_counter() - began:.2f} s")
    found = []
    began = time.perf_counter()
    for each in outcomes(slices):
        found.append(each)
        cents = each.usd / slices.size * 100
        shares = f"wasted {each.wasted_share:5.1%}  start-up {each.start_up_share:5.1%}"
        print(f"{each.name:32s} {each.hours:6.2f} h  ${each.usd:8.2f}  {cents:5.3f} cents a series  {shares}")
    print(f"{len(found)} simulations in {time.perf_counter() - began:.2f} s; published: ${PUBLISHED_USD}, under 9 h")
    if options.svg is not None:
        options.svg.write_text(picture(found), encoding="utf-8")


if __name__ == "__main__":
    main()
