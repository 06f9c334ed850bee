"""What the HTML pages share: templates, the bar of stages, and numbers as people read them."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from urllib.parse import quote

import jinja2

from .. import __version__

STAGE_COLORS = {
    "retrieve": "#5b8def",
    "read": "#2bb3c0",
    "segment": "#8b6fe8",
    "measure": "#e0913a",
    "encode": "#4caf7a",
    "store": "#d96a8b",
    "report": "#b0a33c",
    "useful": "#4caf7a",
    "refused": "#e0913a",
    "start-up": "#5b8def",
    "failed": "#c4504a",
    "lost": "#9c3f6b",
    "preempted": "#5f3b76",
    "idle": "#9aa4b2",
    "gpu idle": "#c7a4a1",
    "drain": "#6b7280",
    "machine": "#5b8def",
    "egress": "#e0913a",
    "nat": "#d96a8b",
    "storage": "#2bb3c0",
    "write-requests": "#8b6fe8",
    "read-requests": "#b39ddb",
}
"""Colours of the bar; stages that are not named here are grey."""

OTHER_COLOR = "#8a8f98"
BAR_WIDTH = 1000.0
"""Of the bar's own coordinates."""

MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86_400
LEAST_USD = Decimal("0.000001")
"""Amounts below are told as being below."""


@dataclass(frozen=True, slots=True)
class Link:
    """A file beside the page.

    Attributes
    ----------
    href : str
        Path relative to the page, with ``/``; not yet quoted.
    """

    label: str
    href: str


@dataclass(frozen=True, slots=True)
class BarPart:
    """One rectangle of the bar."""

    label: str
    color: str
    x: float
    width: float
    percent: float


def render(template: str, **values: object) -> str:
    """HTML of one template; every value is escaped."""
    return _environment().get_template(template).render(version=__version__, **values)


def bar(amounts: Iterable[tuple[str, float]]) -> tuple[BarPart, ...]:
    """The shares of a whole, one after the other; empty if all are zero."""
    known = [(label, amount) for label, amount in amounts if amount > 0]
    total = sum(amount for _, amount in known)
    parts, x = [], 0.0
    for label, amount in known:
        width = BAR_WIDTH * amount / total
        parts.append(
            BarPart(label, STAGE_COLORS.get(label, OTHER_COLOR), round(x, 2), round(width, 2), 100 * amount / total)
        )
        x += width
    return tuple(parts)


def seconds(value: float) -> str:
    """A duration: ``40 s`` (of an int), ``0.04 s``, ``12.3 s``, ``4 min 05 s``, ``3 h 20 min``, ``2 d 4 h``."""
    if isinstance(value, int) and value < MINUTE_S:
        return f"{value} s"
    if value < MINUTE_S:
        return f"{value:.2f} s" if value < 1 else f"{value:.1f} s"
    whole = round(value)
    if whole < HOUR_S:
        return f"{whole // MINUTE_S} min {whole % MINUTE_S:02d} s"
    if whole < DAY_S:
        return f"{whole // HOUR_S} h {whole % HOUR_S // MINUTE_S:02d} min"
    return f"{whole // DAY_S} d {whole % DAY_S // HOUR_S} h"


def size(value: int) -> str:
    """Bytes in decimal units: ``999 B``, ``1.2 MB``."""
    amount = float(value)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:  # noqa: PLR2004
            return f"{value} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def usd(value: Decimal) -> str:
    """Dollars: cents from one dollar on, two digits that count below; never in powers of ten."""
    if value == 0 or value >= 1:
        return f"${value:,.2f}"
    if value < LEAST_USD:
        return f"<${LEAST_USD}"
    return f"${value:.{1 - value.adjusted()}f}"


def number(value: float) -> str:
    """Five digits that count; whole numbers whole."""
    if value == round(value) and abs(value) < 1e15:  # noqa: PLR2004
        return f"{value:,.0f}"
    if abs(value) >= 10_000:  # noqa: PLR2004
        return f"{value:,.0f}"
    return f"{value:.5g}"


def moment(value: datetime) -> str:
    """A time in UTC, to the second."""
    return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def data_uri(png: bytes) -> str:
    """A PNG inside the page (RFC 2397)."""
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def relative(href: str) -> str:
    """A relative path, quoted so that it can be nothing else: no scheme, no other host."""
    return quote(href.lstrip("/"), safe="/")


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "seconds": seconds,
        "size": size,
        "usd": usd,
        "number": number,
        "moment": moment,
        "data_uri": data_uri,
        "relative": relative,
    }
    return environment
