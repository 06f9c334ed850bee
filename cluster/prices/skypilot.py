"""Prices of SkyPilot's catalogue: one CSV file a cloud, on demand and spot, by zone.

https://github.com/skypilot-org/skypilot-catalog. On GCP a machine's row leaves out its GPUs, which
have rows of their own, without an ``InstanceType``.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal, InvalidOperation

from .rates import Price
from .source import GPUS, RefreshError, Wanted, opened

CATALOGUE = "https://raw.githubusercontent.com/skypilot-org/skypilot-catalog/master/catalogs/v8/{cloud}/vms.csv"
CLOUDS = ("aws", "gcp")

MARKETS = {"Price": "on-demand", "SpotPrice": "spot"}
"""Columns, and the market whose price stands in them."""


@dataclass(frozen=True, slots=True)
class _Row:
    """One row that is wanted: a machine, or one GPU of GCP."""

    machine: str
    gpu: str
    gpus: int
    cores: int
    memory_gib: Decimal
    region: str
    market: str
    usd: Decimal


def read(place: str, wanted: Wanted) -> Iterator[Price]:
    """The cheapest zone of each region, machine and market."""
    for address in [place] if place else [CATALOGUE.format(cloud=cloud) for cloud in CLOUDS]:
        with opened(address) as (stream, dated):
            text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
            try:
                rows = list(_rows(csv.DictReader(text), address, wanted))
            except (UnicodeDecodeError, csv.Error) as exc:
                raise RefreshError(address, f"is no CSV file: {exc}") from exc
        yield from _prices(rows, wanted, f"SkyPilot catalogue, {address}", dated)


def _rows(table: csv.DictReader[str], address: str, wanted: Wanted) -> Iterator[_Row]:
    # A name with "+" is one of GCP's machines and the GPU attached to it.
    bare = {name.partition("+")[0] for name in wanted.machines}
    for row in table:
        try:
            named = row["InstanceType"]
            if (named not in bare and (named or row["AcceleratorName"] not in GPUS)) or not wanted.region(
                row["Region"]
            ):
                continue
            for column, market in MARKETS.items():
                if row[column]:
                    yield _row(row, Decimal(row[column]), market)
        except KeyError as exc:
            raise RefreshError(address, f"has no column {exc.args[0]}: is it a vms.csv of the catalogue?") from exc
        except (InvalidOperation, ValueError) as exc:
            raise RefreshError(address, f"line {table.line_num} holds no number") from exc


def _row(row: Mapping[str, str], usd: Decimal, market: str) -> _Row:
    return _Row(
        machine=row["InstanceType"],
        gpu=GPUS.get(row["AcceleratorName"], row["AcceleratorName"]),
        gpus=round(float(row["AcceleratorCount"] or 0)),
        cores=round(float(row["vCPUs"] or 0)),
        memory_gib=Decimal(row["MemoryGiB"] or 0),
        region=row["Region"],
        market=market,
        usd=usd,
    )


def _prices(rows: Iterable[_Row], wanted: Wanted, source: str, dated: date) -> Iterator[Price]:
    cheapest: dict[tuple[str, str, int, str, str], _Row] = {}
    for row in rows:
        key = (row.machine, "" if row.machine else row.gpu, 0 if row.machine else row.gpus, row.region, row.market)
        if key not in cheapest or row.usd < cheapest[key].usd:
            cheapest[key] = row
    for name, known in wanted.machines.items():
        bare, plus, gpu = name.partition("+")
        for row in [each for each in cheapest.values() if each.machine == bare]:
            price = _price(replace(row, machine=name), source, dated)
            if "." in bare:
                yield price
                continue
            of = (known.gpu, known.gpus) if known else (gpu.upper(), 1 if plus else 0)
            attached = cheapest.get(("", of[0], of[1], row.region, row.market))
            if not of[1]:
                yield price
            elif attached:
                usd = row.usd + attached.usd
                yield replace(price, usd_per_hour=usd, gpu=of[0], gpus=of[1], gpu_usd_per_hour=attached.usd)


def _price(row: _Row, source: str, dated: date) -> Price:
    return Price(
        machine=row.machine,
        provider="aws" if "." in row.machine else "gcp",
        region=row.region,
        market=row.market,
        usd_per_hour=row.usd,
        cpu_cores=row.cores,
        gpu=row.gpu,
        gpus=row.gpus,
        source=source,
        dated=dated,
        memory_gib=row.memory_gib,
    )
