"""Prices of AWS's Price List Bulk API: the offer file of EC2 of a region, as CSV, on demand.

https://docs.aws.amazon.com/awsaccountbilling/latest/aboutv2/reading-service-price-list-files.html. A
region's file has hundreds of megabytes and is read as a stream. Spot prices are not in it.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal, InvalidOperation

from .rates import Price
from .source import RefreshError, Wanted, opened

OFFERS = "https://pricing.us-east-1.amazonaws.com/offers/v1.0/aws/AmazonEC2/current/{region}/index.csv"

REGIONS = ("us-east-1", "us-west-2", "eu-west-1", "eu-central-1")
"""Read if none is asked for."""

ORDINARY = {
    "TermType": "OnDemand",
    "Tenancy": "Shared",
    "Operating System": "Linux",
    "CapacityStatus": "Used",
    "Unit": "Hrs",
}
"""What a row must say to be the price of an ordinary machine; and no software is installed on it."""

GPU_OF_FAMILY = {
    "g4dn": "T4",
    "g5": "A10G",
    "g6": "L4",
    "g6e": "L40S",
    "p3": "V100",
    "p4d": "A100-40GB",
    "p4de": "A100-80GB",
    "p5": "H100",
}
"""The file tells how many GPUs a machine has, and not which."""

_GIB = re.compile(r"([\d.,]+) GiB")


def read(place: str, wanted: Wanted) -> Iterator[Price]:
    """On-demand prices of the machines that are wanted."""
    regions = sorted(wanted.regions) or REGIONS
    for address in [place] if place else [OFFERS.format(region=region) for region in regions]:
        with opened(address) as (stream, _):
            lines = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
            try:
                yield from _prices(csv.reader(lines), address, wanted)
            except (UnicodeDecodeError, csv.Error) as exc:
                raise RefreshError(address, f"is no CSV file: {exc}") from exc


def _prices(rows: Iterator[list[str]], address: str, wanted: Wanted) -> Iterator[Price]:
    dated, columns = _head(rows, address)
    for cells in rows:
        row = dict(zip(columns, cells, strict=False))
        try:
            if row["Instance Type"] in wanted.machines and wanted.region(row["Region Code"]) and _ordinary(row):
                yield _price(row, f"AWS Price List, {address}", dated)
        except KeyError as exc:
            raise RefreshError(address, f"has no column {exc.args[0]}") from exc
        except (InvalidOperation, ValueError) as exc:
            raise RefreshError(address, f"{row['Instance Type']}: a figure is no number") from exc


def _head(rows: Iterator[list[str]], address: str) -> tuple[date, list[str]]:
    """Day of publication and names of columns: pairs of name and value come first, then the header."""
    dated = None
    for cells in rows:
        if cells[:1] == ["Publication Date"]:
            dated = date.fromisoformat(cells[1][:10])
        if cells[:1] == ["SKU"] and dated is not None:
            return dated, cells
    raise RefreshError(address, "is no offer file of AWS: no Publication Date or no header")


def _ordinary(row: Mapping[str, str]) -> bool:
    if row["Currency"] != "USD":
        raise RefreshError(row["Instance Type"], f"is priced in {row['Currency']}, and prices are in USD")
    # Rows of Capacity Blocks, and of machines that a reservation holds, cost nothing by the hour.
    return (
        all(row[name] == value for name, value in ORDINARY.items())
        and row["Pre Installed S/W"] in ("", "NA")
        and row.get("MarketOption", "OnDemand") in ("", "OnDemand")
        and Decimal(row["PricePerUnit"]) > 0
    )


def _price(row: Mapping[str, str], source: str, dated: date) -> Price:
    machine = row["Instance Type"]
    memory = _GIB.match(row["Memory"])
    gpus = int(row["GPU"]) if row["GPU"].isdigit() else 0
    return Price(
        machine=machine,
        provider="aws",
        region=row["Region Code"],
        market="on-demand",
        usd_per_hour=Decimal(row["PricePerUnit"]),
        cpu_cores=int(row["vCPU"]),
        gpu=GPU_OF_FAMILY.get(machine.partition(".")[0], "") if gpus else "",
        gpus=gpus,
        source=source,
        dated=dated,
        memory_gib=Decimal(memory[1].replace(",", "")) if memory else Decimal(0),
    )
