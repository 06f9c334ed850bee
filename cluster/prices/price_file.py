"""Files of prices: TOML tables ``[[price]]``, ``[[charge]]`` and ``[[owned]]``, read and written."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from .rates import BadPrice, Charge, Price

HOURS_A_YEAR = Decimal(8766)
"""365.25 days."""

_PRICE_KEYS = {
    "machine",
    "provider",
    "region",
    "market",
    "usd_per_hour",
    "gpu_usd_per_hour",
    "cpu_cores",
    "memory_gib",
    "gpu",
    "gpus",
    "source",
    "dated",
}
_CHARGE_KEYS = {"kind", "provider", "region", "usd", "source", "dated"}
_WRITE_OFF_KEYS = {"purchase_usd", "years", "busy_share", "watts", "usd_per_kwh", "cooling_factor"}
_OWNED_KEYS = (_PRICE_KEYS - {"usd_per_hour", "market"}) | {"usd_per_gpu_hour"} | _WRITE_OFF_KEYS


@dataclass(frozen=True, slots=True)
class PriceTable:
    """What one file, or several, hold: the first row of a machine or a charge counts."""

    prices: tuple[Price, ...] = ()
    charges: tuple[Charge, ...] = ()

    def __add__(self, other: PriceTable) -> PriceTable:
        return PriceTable(self.prices + other.prices, self.charges + other.charges)


def read_table(text: str, name: str) -> PriceTable:
    """Rows of one TOML file.

    ``[[price]]`` and ``[[charge]]`` hold the fields of `Price` and `Charge`. ``[[owned]]`` is a machine
    of one's own: ``usd_per_gpu_hour``; or ``purchase_usd`` and ``years`` of use, with ``watts`` and
    ``usd_per_kwh``. Optional are ``busy_share`` (of all hours in which it works: 1) and
    ``cooling_factor`` (watts drawn for each watt of the machine: 1).

    Raises
    ------
    BadPrice
        If the file is no TOML, or a row lacks something or holds something unknown
        (a currency other than US dollars, for one).
    """
    try:
        document = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as exc:
        raise BadPrice(name, f"not TOML: {exc}") from exc
    unknown = sorted(set(document) - {"price", "charge", "owned"})
    if unknown:
        raise BadPrice(name, f"{unknown[0]} is not known; there are [[price]], [[charge]] and [[owned]]")
    try:
        prices = [*(_price(row, name) for row in _rows(document, "price", name))]
        prices += [_owned(row, name) for row in _rows(document, "owned", name)]
        return PriceTable(tuple(prices), tuple(_charge(row, name) for row in _rows(document, "charge", name)))
    except BadPrice as exc:
        # Price and Charge know their figures, and not the file that these stand in.
        raise exc if exc.args[0] == name else BadPrice(name, str(exc)) from exc


def to_toml(prices: Iterable[Price], heading: str) -> str:
    """The prices as a file that `read_table` reads."""
    lines = [f"# {line}" for line in heading.splitlines()]
    for price in prices:
        fields: dict[str, object] = {
            "machine": price.machine,
            "provider": price.provider,
            "region": price.region,
            "market": price.market,
            "usd_per_hour": str(price.usd_per_hour),
            "cpu_cores": price.cpu_cores,
        }
        if price.gpu_usd_per_hour is not None:
            fields["gpu_usd_per_hour"] = str(price.gpu_usd_per_hour)
        if price.memory_gib:
            fields["memory_gib"] = str(price.memory_gib)
        if price.gpus:
            fields |= {"gpu": price.gpu, "gpus": price.gpus}
        fields["source"] = price.source
        lines += ["", "[[price]]", *(f"{key} = {_toml(value)}" for key, value in fields.items())]
        lines.append(f"dated = {price.dated.isoformat()}")
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    if isinstance(value, int):
        return str(value)
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in escaped) + '"'


def _rows(document: Mapping[str, Any], table: str, name: str) -> Iterator[dict[str, Any]]:
    rows = document.get(table, [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise BadPrice(name, f"{table} rows stand in [[{table}]] tables")
    yield from rows


def _price(row: dict[str, Any], name: str, market: str = "on-demand") -> Price:
    subject = _checked(row, _PRICE_KEYS, ("machine", "usd_per_hour", "source", "dated"), name)
    part = row.get("gpu_usd_per_hour")
    return Price(
        machine=subject,
        provider=str(row.get("provider", "")),
        region=str(row.get("region", "")),
        market=str(row.get("market", market)),
        usd_per_hour=_amount(row["usd_per_hour"], subject, name),
        cpu_cores=_count(row.get("cpu_cores", 0), subject, name),
        gpu=str(row.get("gpu", "")),
        gpus=_count(row.get("gpus", 1 if row.get("gpu") else 0), subject, name),
        source=str(row["source"]),
        dated=row["dated"],
        memory_gib=_amount(row.get("memory_gib", 0), subject, name),
        gpu_usd_per_hour=None if part is None else _amount(part, subject, name),
    )


def _charge(row: dict[str, Any], name: str) -> Charge:
    kind = _checked(row, _CHARGE_KEYS, ("kind", "usd", "source", "dated"), name)
    provider, region = str(row.get("provider", "")), str(row.get("region", ""))
    return Charge(kind, provider, region, _amount(row["usd"], kind, name), str(row["source"]), row["dated"])


def _owned(row: dict[str, Any], name: str) -> Price:
    """A machine of one's own: its GPUs by the hour; or written off over years of use, and power."""
    written_off = "usd_per_gpu_hour" not in row
    needed = ("purchase_usd", "years", "watts", "usd_per_kwh") if written_off else ("gpu",)
    subject = _checked(row, _OWNED_KEYS, ("machine", *needed, "source", "dated"), name)
    if written_off:
        amount = _written_off(row, subject, name)
    else:
        both = sorted(_WRITE_OFF_KEYS & set(row))
        if both:
            raise BadPrice(name, f"{subject} has usd_per_gpu_hour and {both[0]}: one or the other")
        amount = _amount(row["usd_per_gpu_hour"], subject, name) * _count(row.get("gpus", 1), subject, name)
    fields = {key: value for key, value in row.items() if key in _PRICE_KEYS}
    return _price(fields | {"usd_per_hour": amount, "market": "owned"}, name)


def _written_off(row: Mapping[str, Any], subject: str, name: str) -> Decimal:
    """Dollars of a busy hour: purchase over all busy hours, and the power that all hours draw over them."""
    figures = {key: _amount(row.get(key, 1), subject, name) for key in _WRITE_OFF_KEYS}
    bad = next((key for key, value in figures.items() if not value.is_finite() or value < 0), "")
    if bad or not figures["years"] or not 0 < figures["busy_share"] <= 1 or figures["cooling_factor"] < 1:
        wrong = bad or "years (above 0), busy_share (above 0, at most 1) or cooling_factor (at least 1)"
        raise BadPrice(name, f"{subject}: {wrong} cannot be meant")
    hourly = figures["purchase_usd"] / (figures["years"] * HOURS_A_YEAR)
    power = figures["watts"] / 1000 * figures["usd_per_kwh"] * figures["cooling_factor"]
    return ((hourly + power) / figures["busy_share"]).quantize(Decimal("1e-10"))


def _checked(row: Mapping[str, Any], known: set[str], needed: Iterable[str], name: str) -> str:
    """What the row is about, if it lacks nothing, holds nothing unknown, and has a day."""
    subject = str(row.get("machine") or row.get("kind") or "a row")
    missing = [key for key in needed if key not in row]
    unknown = sorted(set(row) - known)
    if missing:
        raise BadPrice(name, f"{subject} has no {', '.join(missing)}")
    if unknown:
        raise BadPrice(name, f"{subject} has {', '.join(unknown)}, which is not known (prices are in US dollars)")
    dated = row["dated"]
    if not isinstance(dated, date) or isinstance(dated, datetime):
        raise BadPrice(name, f"{subject}: dated is {dated!r}, not a day such as 2026-02-09")
    # A day more, for those whose clock is ahead of UTC.
    if dated > datetime.now(UTC).date() + timedelta(days=1):
        raise BadPrice(name, f"{subject}: dated {dated} is in the future; give the day on which its source was made")
    return subject


def _amount(value: object, subject: str, name: str) -> Decimal:
    try:
        return Decimal(str(value))
    except InvalidOperation as exc:
        raise BadPrice(name, f"{subject} has a figure that is no number: {value!r}") from exc


def _count(value: Any, subject: str, name: str) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError) as exc:
        raise BadPrice(name, f"{subject} has a figure that is no number: {value!r}") from exc
    if number < 0:
        raise BadPrice(name, f"{subject}: {number} cannot be meant")
    return number
