"""Rates: what an hour of a machine costs, and what a gigabyte or a request does; of which source and day."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from ... import Error

STALE_AFTER_DAYS = 90
"""A price older than this is used, with a warning."""

ABSURD_USD_PER_HOUR = Decimal(1000)
"""More than any machine on any list read so far (361 for the largest); a slip of the decimal point."""

ABSURD_USD = Decimal(10)
"""More than a gigabyte moved or stored, or a thousand requests, costs on any list read so far (0.23)."""

CHARGES = {
    "egress": "GB",
    "nat": "GB",
    "storage": "GB-month",
    "write-requests": "1000 requests",
    "read-requests": "1000 requests",
}
"""What is charged beside machines, and its unit; a GB is 2^30 bytes, as both providers bill it.

Write requests are S3's PUT, COPY, POST and LIST, or class A of GCS; read requests its GET, or class B.
"""


class PriceError(Error):
    """Base of what is wrong with a price; names the file or the machine."""

    code = "PRICE_ERROR"

    def __init__(self, subject: str, reason: str) -> None:
        super().__init__(subject, reason)

    def __str__(self) -> str:
        return f"{self.args[0]}: {self.args[1]}"


class NoPrice(PriceError):
    """No file has a price for this machine, region and market."""

    code = "NO_PRICE"


class BadPrice(PriceError):
    """A price in a file cannot be meant: negative, absurd, without source, in another currency."""

    code = "BAD_PRICE"


@dataclass(frozen=True, slots=True)
class Price:
    """What one hour of one machine costs, in US dollars.

    Attributes
    ----------
    market : str
        ``on-demand``, ``spot`` or ``owned``.
    gpu : str
        Its GPUs' model; empty for none.
    source : str
        Where the figure was read.
    dated : date
        When that source was made.
    equivalent_of : str
        For a machine priced as if it were this one; else empty.
    memory_gib : Decimal
        0: not told.
    gpu_usd_per_hour : Decimal or None
        Part of `usd_per_hour` that is for its GPUs; None: not told.
    """

    machine: str
    provider: str
    region: str
    market: str
    usd_per_hour: Decimal
    cpu_cores: int
    gpu: str
    gpus: int
    source: str
    dated: date
    equivalent_of: str = ""
    memory_gib: Decimal = Decimal(0)
    gpu_usd_per_hour: Decimal | None = None

    def __post_init__(self) -> None:
        amount = self.usd_per_hour
        if not amount.is_finite() or amount < 0:
            raise BadPrice(self.machine, f"{amount} US$/h is no price")
        if amount > ABSURD_USD_PER_HOUR:
            raise BadPrice(self.machine, f"{amount} US$/h is above {ABSURD_USD_PER_HOUR}; is the decimal point right?")
        part = self.gpu_usd_per_hour
        if part is not None and not (part.is_finite() and 0 <= part <= amount):
            raise BadPrice(self.machine, f"{part} US$/h for its GPUs is no part of {amount}")

    @property
    def usd_per_s(self) -> Decimal:
        """Dollars per second."""
        return self.usd_per_hour / 3600

    def usd_of(self, seconds: float) -> Decimal:
        """Dollars of so many seconds, to the last digit of these."""
        return Decimal(repr(seconds)) * self.usd_per_s

    @property
    def where(self) -> str:
        """Machine, region and market in words."""
        return " ".join(part for part in (self.machine, self.region, self.market) if part)


@dataclass(frozen=True, slots=True)
class Charge:
    """What a provider charges beside machines, in US dollars a unit.

    Attributes
    ----------
    kind : str
        A key of `CHARGES`, which names the unit.
    region : str
        Empty: of every region that has no row of its own.
    usd : Decimal
        A unit, of the first tier.
    """

    kind: str
    provider: str
    region: str
    usd: Decimal
    source: str
    dated: date

    def __post_init__(self) -> None:
        if self.kind not in CHARGES:
            raise BadPrice(self.kind or "a charge", f"is not charged; there are {', '.join(CHARGES)}")
        if not self.usd.is_finite() or self.usd < 0:
            raise BadPrice(self.kind, f"{self.usd} US$ is no price")
        if self.usd > ABSURD_USD:
            raise BadPrice(
                self.kind, f"{self.usd} US$ a {self.unit} is above {ABSURD_USD}; is the decimal point right?"
            )

    @property
    def unit(self) -> str:
        """What one of it is."""
        return CHARGES[self.kind]
