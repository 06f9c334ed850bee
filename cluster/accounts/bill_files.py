"""Files of a bill: every line as CSV or parquet."""

from __future__ import annotations

import csv
import os
from dataclasses import fields
from decimal import Decimal
from pathlib import Path
from typing import Any

from .bill import Bill, BillLine

PLACES = 15
"""Decimals kept of an amount: a microsecond of the cheapest machine is 1e-11 dollars."""

_PRICE = ("region", "market", "usd_per_hour")
"""Of a line's price."""

_AMOUNTS = ("usd_per_hour", "usd", "loaded_usd")
_NAMES = tuple(name for field in fields(BillLine) for name in (_PRICE if field.name == "price" else (field.name,)))


def to_csv(bill: Bill, path: Path) -> None:
    """Write the lines, whole or not at all."""
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*_NAMES, "purpose"])
        writer.writerows([*(_text(_value(line, name)) for name in _NAMES), line.purpose] for line in bill.lines)
    os.replace(temporary, path)  # noqa: PTH105 - as atomic as it gets


def to_parquet(bill: Bill, path: Path) -> None:
    """Write the lines, whole or not at all."""
    # 0.1 s to import, and only this needs it.
    import pyarrow as pa
    from pyarrow import parquet

    money = pa.decimal128(28, PLACES)
    types: dict[str, Any] = {"attempt": pa.int64(), "day": pa.date32(), **dict.fromkeys(_AMOUNTS, money)}
    columns = {
        name: pa.array([_cell(_value(line, name)) for line in bill.lines], types.get(name, pa.string()))
        for name in _NAMES
    }
    columns["purpose"] = pa.array([line.purpose for line in bill.lines], pa.string())
    temporary = path.with_suffix(".tmp")
    parquet.write_table(pa.table(columns), temporary)
    os.replace(temporary, path)  # noqa: PTH105 - as atomic as it gets


def _value(line: BillLine, name: str) -> object:
    return getattr(line.price if name in _PRICE else line, name)


def _cell(value: object) -> object:
    return round(value, PLACES) if isinstance(value, Decimal) else value


def _text(value: object) -> object:
    return f"{value:.{PLACES}f}" if isinstance(value, Decimal) else value
