"""Parts of a node's price: what of it is for the GPUs, for the cores, for the memory."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from ..prices.price import Price

CORE_USD_PER_HOUR = Decimal("0.031611")
"""A core of GCP's N1, us-central1, on demand: with the memory below an n1-standard-4 costs its listed 0.189999."""

MEMORY_USD_PER_GIB_HOUR = Decimal("0.004237")
"""A GiB of the same machine's memory."""

MEMORY_GIB_PER_CORE = 4
"""Taken where a price does not tell its memory: that of the m6i and the g4dn."""

GPU_USD_PER_HOUR = {
    "T4": Decimal("0.35"),
    "L4": Decimal("0.512592"),
    "A10G": Decimal("0.811764"),
    "A100-40GB": Decimal("2.933908"),
}
"""A GPU: what the on-demand price of a machine with one (n1-standard-4+t4, g2-standard-4, g5.xlarge,
a2-highgpu-1g in the bundled table) leaves after its cores and memory at the prices above."""

LEAST_GPU_SHARE = Decimal("0.5")
"""Share of a machine's price that its GPUs bear at least where no list prices them."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Shares of a node's price; they sum to 1.

    Attributes
    ----------
    gpu : float
        Of all its GPUs together.
    gpus : int
        How many these are.
    """

    gpu: float
    cores: float
    memory: float
    gpus: int


def parts_of(price: Price) -> Parts:
    """Shares of a price, by what its resources cost on lists; a spot price is split as the on-demand one is.

    `Price.gpu_usd_per_hour` comes first. A GPU that is neither told nor listed bears what the listed
    prices of cores and memory leave, and at least half.
    """
    cores = CORE_USD_PER_HOUR * max(1, price.cpu_cores)
    gib = price.memory_gib or Decimal(MEMORY_GIB_PER_CORE * max(1, price.cpu_cores))
    memory = MEMORY_USD_PER_GIB_HOUR * gib
    gpu = _gpu_share(price, cores + memory)
    rest = (1 - gpu) / (cores + memory)
    return Parts(float(gpu), float(cores * rest), float(memory * rest), price.gpus)


def _gpu_share(price: Price, others: Decimal) -> Decimal:
    if not price.gpus or not price.usd_per_hour:
        return Decimal(0)
    if price.gpu_usd_per_hour is not None:
        return price.gpu_usd_per_hour / price.usd_per_hour
    if price.gpu in GPU_USD_PER_HOUR:
        listed = GPU_USD_PER_HOUR[price.gpu] * price.gpus
        return listed / (listed + others)
    return max(LEAST_GPU_SHARE, 1 - others / price.usd_per_hour)
