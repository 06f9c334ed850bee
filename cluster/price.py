"""Price of a machine: what an hour of it costs, from which source, of which day."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from importlib import resources
from pathlib import Path
from typing import Any

from .. import Error

STALE_AFTER_DAYS = 90
"""A price older than this is used, with a warning."""

ABSURD_USD_PER_HOUR = Decimal(1000)
"""More than any machine on any list read so far (361 for the largest); a slip of the decimal point."""

LOCAL = "local"
"""Name of the machine that the command runs on."""

LOCAL_FAMILY = ("m6i.large", "m6i.xlarge", "m6i.2xlarge", "m6i.4xlarge", "m6i.8xlarge", "m6i.16xlarge", "m6i.32xlarge")
"""What `local` costs unless your own file prices it: the smallest of these with as many cores, in us-east-1."""

_KEYS = {"machine", "provider", "region", "market", "usd_per_hour", "cpu_cores", "gpu", "gpus", "source", "dated"}
_NEEDED = ("machine", "usd_per_hour", "source", "dated")


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

    def __post_init__(self) -> None:
        amount = self.usd_per_hour
        if not amount.is_finite() or amount < 0:
            raise BadPrice(self.machine, f"{amount} US$/h is no price")
        if amount > ABSURD_USD_PER_HOUR:
            raise BadPrice(self.machine, f"{amount} US$/h is above {ABSURD_USD_PER_HOUR}; is the decimal point right?")

    @property
    def usd_per_s(self) -> Decimal:
        """Dollars per second."""
        return self.usd_per_hour / 3600

    def staleness(self, today: date) -> str:
        """A warning if the price is older than 90 days; else empty."""
        age = (today - self.dated).days
        if age <= STALE_AFTER_DAYS:
            return ""
        return f"price of {self.machine} is {age} days old ({self.source})"


def own_prices_path() -> Path:
    """File in which a user keeps prices: ``voxfleet/prices.toml`` in ``$XDG_CONFIG_HOME`` or ``~/.config``."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "voxfleet" / "prices.toml"


def bundled_prices() -> tuple[Price, ...]:
    """The table that comes with the program."""
    file = resources.files(__package__) / "prices" / "bundled.toml"
    return read_prices(file.read_text(encoding="utf-8"), "bundled.toml")


def read_prices(text: str, name: str) -> tuple[Price, ...]:
    """Prices of one TOML file: an array of tables ``[[price]]``.

    Raises
    ------
    BadPrice
        If the file is no TOML, or a row lacks something or holds something unknown
        (a currency other than US dollars, for one).
    """
    try:
        rows = tomllib.loads(text, parse_float=Decimal).get("price", [])
    except tomllib.TOMLDecodeError as exc:
        raise BadPrice(name, f"not TOML: {exc}") from exc
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise BadPrice(name, "prices stand in [[price]] tables")
    return tuple(_price(row, name) for row in rows)


def all_prices(override: Path | None = None) -> tuple[Price, ...]:
    """Every price known: those of `override`, or else of the user's own file; then those of the bundled table."""
    return (*_own_prices(override or own_prices_path(), must_exist=override is not None), *bundled_prices())


def price_of(
    machine: str,
    region: str = "",
    market: str = "",
    override: Path | None = None,
    cpu_cores: int | None = None,
) -> Price:
    """Price of a machine: from `override`, else from the user's own file, else from the bundled table.

    Parameters
    ----------
    machine : str
        As the provider names it, e.g. ``g4dn.xlarge``; or ``local``.
    region, market : str
        Empty: those of the first row for this machine (the bundled table lists on demand first).
    override : Path or None
        A file that must be there; None: the user's own file, if there is one.
    cpu_cores : int or None
        Of `local`; None: counted.

    Raises
    ------
    NoPrice
        If no file has it; the message names the file to add it to.
    """
    own = override or own_prices_path()
    rows = (*_own_prices(own, must_exist=override is not None), *bundled_prices())
    for price in rows:
        if price.machine == machine and region in ("", price.region) and market in ("", price.market):
            return price
    if machine == LOCAL and not region and not market:
        return _equivalent(rows, cpu_cores or os.cpu_count() or 1)
    wanted = " ".join(part for part in (machine, region, market) if part)
    raise NoPrice(wanted, f"no price known; add a [[price]] with its source and date to {own}")


def _own_prices(path: Path, *, must_exist: bool) -> tuple[Price, ...]:
    try:
        return read_prices(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError as exc:
        if must_exist:
            raise NoPrice(str(path), "no such file of prices") from exc
        return ()
    except (OSError, UnicodeDecodeError) as exc:
        raise BadPrice(str(path), f"cannot be read: {exc}") from exc


def _equivalent(rows: Iterable[Price], cpu_cores: int) -> Price:
    """Price of the smallest cloud machine with as many cores as this one, or of the largest there is."""
    family = [price for name in LOCAL_FAMILY for price in rows if price.machine == name]
    alike = next((price for price in family if price.cpu_cores >= cpu_cores), family[-1])
    return Price(
        machine=LOCAL,
        provider=alike.provider,
        region=alike.region,
        market=alike.market,
        usd_per_hour=alike.usd_per_hour,
        cpu_cores=cpu_cores,
        gpu="",
        gpus=0,
        source=alike.source,
        dated=alike.dated,
        equivalent_of=alike.machine,
    )


def _price(row: dict[str, Any], name: str) -> Price:
    missing = [key for key in _NEEDED if key not in row]
    unknown = sorted(set(row) - _KEYS)
    machine = str(row.get("machine", "a price"))
    if missing:
        raise BadPrice(name, f"{machine} has no {', '.join(missing)}")
    if unknown:
        raise BadPrice(name, f"{machine} has {', '.join(unknown)}, which is not known (prices are usd_per_hour)")
    if not isinstance(row["dated"], date):
        raise BadPrice(name, f"{machine}: dated is {row['dated']!r}, not a day such as 2026-02-09")
    try:
        amount = Decimal(str(row["usd_per_hour"]))
        cores, gpus = int(row.get("cpu_cores", 0)), int(row.get("gpus", 1 if row.get("gpu") else 0))
    except (InvalidOperation, ValueError) as exc:
        raise BadPrice(name, f"{machine} has a figure that is no number") from exc
    return Price(
        machine=machine,
        provider=str(row.get("provider", "")),
        region=str(row.get("region", "")),
        market=str(row.get("market", "on-demand")),
        usd_per_hour=amount,
        cpu_cores=cores,
        gpu=str(row.get("gpu", "")),
        gpus=gpus,
        source=str(row["source"]),
        dated=row["dated"],
    )
