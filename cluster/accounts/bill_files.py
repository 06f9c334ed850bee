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

_NAMES = tuple(field.name for field in fields(BillLine))


def to_csv(bill: Bill, path: Path) -> None:
    """Write the lines, whole or not at all."""
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*_NAMES, "purpose"])
        writer.writerows([*(_text(getattr(line, name)) for name in _NAMES), line.purpose] for line in bill.lines)
    os.replace(temporary, path)  # noqa: PTH105 - as atomic as it gets


def to_parquet(bill: Bill, path: Path) -> None:
    """Write the lines, whole or not at all."""
    # 0.1 s to import, and only this needs it.
    import pyarrow as pa
    from pyarrow import parquet

    money = pa.decimal128(28, PLACES)
    types: dict[str, Any] = {"attempt": pa.int64(), "day": pa.date32(), "usd": money, "loaded_usd": money}
    columns = {
        name: pa.array([_cell(getattr(line, name)) for line in bill.lines], types.get(name, pa.string()))
        for name in _NAMES
    }
    columns["purpose"] = pa.array([line.purpose for line in bill.lines], pa.string())
    temporary = path.with_suffix(".tmp")
    parquet.write_table(pa.table(columns), temporary)
    os.replace(temporary, path)  # noqa: PTH105 - as atomic as it gets


def _cell(value: object) -> object:
    return round(value, PLACES) if isinstance(value, Decimal) else value


def _text(value: object) -> object:
    return f"{value:.{PLACES}f}" if isinstance(value, Decimal) else value
