"""Prices known: the user's own file, those refreshed from a source, and the table that comes with the program."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from datetime import date
from importlib import resources
from pathlib import Path

from .price_file import PriceTable, read_table
from .rates import STALE_AFTER_DAYS, BadPrice, Charge, NoPrice, Price, PriceError

__all__ = ["STALE_AFTER_DAYS", "BadPrice", "Charge", "NoPrice", "Price", "PriceError", "price_of", "read_prices"]

LOCAL = "local"
"""Name of the machine that the command runs on."""

LOCAL_FAMILY = ("m6i.large", "m6i.xlarge", "m6i.2xlarge", "m6i.4xlarge", "m6i.8xlarge", "m6i.16xlarge", "m6i.32xlarge")
"""What `local` costs unless your own file prices it: the smallest of these with as many cores, in us-east-1."""

LOCAL_REGION = "us-east-1"

FETCH = "`voxfleet prices refresh --from skypilot|gpuhunt|gcp|aws`"
"""The next step where there is no price; no brackets, which rich would take for a style."""

REFRESH = f"{FETCH} gets newer ones"
"""What to do about an old price."""


def own_prices_path() -> Path:
    """File in which a user keeps prices: ``voxfleet/prices.toml`` in ``$XDG_CONFIG_HOME`` or ``~/.config``."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "voxfleet" / "prices.toml"


def refreshed_path(source: str) -> Path:
    """File of the prices last refreshed from a source, beside the user's own: ``prices-SOURCE.toml``."""
    return own_prices_path().with_name(f"prices-{source}.toml")


def bundled_table() -> PriceTable:
    """The table that comes with the program."""
    file = resources.files(__package__) / "bundled.toml"
    return read_table(file.read_text(encoding="utf-8"), "bundled.toml")


def bundled_prices() -> tuple[Price, ...]:
    """The machines of the table that comes with the program."""
    return bundled_table().prices


def read_prices(text: str, name: str) -> tuple[Price, ...]:
    """Machines of one TOML file; raises BadPrice."""
    return read_table(text, name).prices


def known_table(override: Path | None = None) -> PriceTable:
    """Everything known, the first row of each counting.

    Those of `override`, or else of the user's own file; then what was refreshed, the newest source
    first; then the bundled table.

    Raises
    ------
    NoPrice
        If `override` is not there.
    BadPrice
        If one of the files cannot be read.
    """
    own = _file_table(override or own_prices_path(), must_exist=override is not None)
    refreshed = [_file_table(path, must_exist=False) for path in sorted(own_prices_path().parent.glob("prices-*.toml"))]
    refreshed.sort(key=lambda table: max((price.dated for price in table.prices), default=date.min), reverse=True)
    return sum([*refreshed, bundled_table()], own)


def all_prices(override: Path | None = None) -> tuple[Price, ...]:
    """Every price of a machine that is known; a machine, region and market may come again, and then was overridden."""
    return known_table(override).prices


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
    rows = all_prices(override)
    for price in rows:
        if price.machine == machine and region in ("", price.region) and market in ("", price.market):
            return price
    if machine == LOCAL and not region and not market:
        return _equivalent(rows, cpu_cores or os.cpu_count() or 1)
    wanted = " ".join(part for part in (machine, region, market) if part)
    add = f"add a [[price]] with its source and date to {override or own_prices_path()}"
    raise NoPrice(wanted, f"no price known; {add}, or get it from a catalogue: {FETCH}")


def charge_of(charges: Iterable[Charge], kind: str, price: Price) -> Charge | None:
    """What the provider of a machine charges in its region: the region's own row, or else that of all regions."""
    rows = [each for each in charges if each.kind == kind and each.provider == price.provider]
    found = [each for region in (price.region, "") for each in rows if each.region == region]
    return found[0] if found else None


def stale_note(prices: Iterable[Price | Charge], today: date) -> str:
    """One line for all that are older than 90 days, and how to refresh them; empty for none."""
    old = {each for each in prices if (today - each.dated).days > STALE_AFTER_DAYS}
    if not old:
        return ""
    oldest = min(each.dated for each in old)
    age = f"{(today - oldest).days} days old ({oldest})"
    what = f"the price used is {age}" if len(old) == 1 else f"{len(old)} prices are old, the oldest {age}"
    return f"{what}: {REFRESH}"


def _file_table(path: Path, *, must_exist: bool) -> PriceTable:
    try:
        return read_table(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError as exc:
        if must_exist:
            raise NoPrice(str(path), "no such file of prices; see `voxfleet prices --help`") from exc
        return PriceTable()
    except (OSError, UnicodeDecodeError) as exc:
        raise BadPrice(str(path), f"cannot be read: {exc}") from exc


def _equivalent(rows: Iterable[Price], cpu_cores: int) -> Price:
    """Price of the smallest cloud machine with as many cores as this one, or of the largest there is."""
    here = [price for price in rows if price.region == LOCAL_REGION and price.market == "on-demand"]
    family = [price for name in LOCAL_FAMILY for price in here if price.machine == name]
    alike = next((price for price in family if price.cpu_cores >= cpu_cores), family[-1])
    return replace(alike, machine=LOCAL, cpu_cores=cpu_cores, gpu="", gpus=0, equivalent_of=alike.machine)
