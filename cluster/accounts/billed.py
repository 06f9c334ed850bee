"""Billed: the lines of a provider's bill, as its export has them, and what each is for."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from ... import Error
from .bill import MACHINE

COMPUTE = ("Compute Engine", "AmazonEC2", "Amazon Elastic Compute Cloud")
"""Services that bill machines."""

STORES = ("Cloud Storage", "AmazonS3", "Amazon Simple Storage Service")
"""Services that bill objects and requests to them."""

CHARGED_BY_SKU = {
    "nat": ("natgateway-bytes", "nat gateway: data processing"),
    "egress": ("datatransfer-out-bytes", "internet data transfer out", "internet egress"),
}
CHARGED_BY_STORE = {
    "write-requests": ("requests-tier1", "class a operations"),
    "read-requests": ("requests-tier2", "class b operations"),
    "storage": ("timedstorage", "storage "),
}
"""Kinds of charges beside machines, and what stands in their SKUs; the second only in those of `STORES`."""

AWS_COSTS = ("lineItem/UnblendedCost", "line_item_unblended_cost")
"""The column of dollars in a CUR and in a CUR 2.0."""

FORMATS = "give GCP's export as JSON lines or AWS's CUR as CSV"

OTHER = "other"
"""Kind of a line for which nothing is reckoned: a disk, an address, a licence."""

NOT_MACHINES = (
    "network",
    "egress",
    "ingress",
    "data transfer",
    "datatransfer",
    "natgateway",
    "storage",
    "ebs:",
    "pd capacity",
    "hyperdisk",
    "ip charge",
    "elasticip",
    "licensing fee",
)
"""What in a SKU of such a service is no machine time: disks, traffic, addresses, licences."""

PARTS = ("gpu", "cores", "memory")
WHOLE = "machine"
_PART_WORDS = {"gpu": re.compile(r"\bgpu\b"), "cores": re.compile(r"\bcore\b"), "memory": re.compile(r"\bram\b")}
"""GCP bills GPUs, cores and memory in lines of their own; AWS bills a machine in one."""


class BadBilling(Error):
    """A billing file that cannot be read as one, or is in another currency; names file and line."""

    code = "BAD_BILLING"

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(file, reason)

    def __str__(self) -> str:
        return f"{self.args[0]}: {self.args[1]}"


@dataclass(frozen=True, slots=True)
class BilledLine:
    """One line of a provider's bill.

    Attributes
    ----------
    day : date
        In UTC, on which the usage began.
    run, cell : str
        Labels (GCP) or tags (AWS) of the resource; empty for none.
    usd : Decimal
        Before credits.
    credits_usd : Decimal
        Zero or negative.
    """

    day: date
    service: str
    sku: str
    run: str
    cell: str
    usd: Decimal
    credits_usd: Decimal = Decimal(0)

    @property
    def kind(self) -> str:
        """``machine``, a kind of `rates.CHARGES`, or ``other``."""
        sku = self.sku.lower()
        patterns = CHARGED_BY_SKU | (CHARGED_BY_STORE if self.service in STORES else {})
        charged = next((kind for kind, words in patterns.items() if any(word in sku for word in words)), "")
        if charged:
            return charged
        return MACHINE if self.service in COMPUTE and not any(word in sku for word in NOT_MACHINES) else OTHER

    @property
    def part(self) -> str:
        """Of a machine's line: ``gpu``, ``cores`` or ``memory``, or ``machine`` for one of it all."""
        return next((part for part, word in _PART_WORDS.items() if word.search(self.sku.lower())), WHOLE)


def read_billing(path: Path) -> Iterator[BilledLine]:
    """Lines of a GCP billing export (JSON lines, or one JSON array) or of an AWS Cost and Usage Report (CSV, gzip).

    The GCP file is the standard or detailed usage cost export, as BigQuery extracts it. The AWS file is a
    CUR (``lineItem/UnblendedCost``) or a CUR 2.0 (``line_item_unblended_cost``), with its resource tags.

    Raises
    ------
    BadBilling
        If the file is neither, a line lacks a column or holds no number, or the currency is not US
        dollars and no conversion rate is told.
    """
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as exc:
        raise BadBilling(str(path), f"cannot be read: {exc}") from exc
    json_like = text.lstrip()[:1] in ("{", "[")
    rows: Iterator[Mapping[str, Any]] = _json_rows(text, path) if json_like else _csv_rows(text, path)
    for number, row in enumerate(rows, start=1):
        try:
            yield _gcp(row) if json_like else _aws(row)
        except KeyError as exc:
            raise BadBilling(str(path), f"line {number} has no {exc.args[0]}") from exc
        except (InvalidOperation, ValueError, TypeError, AttributeError) as exc:
            raise BadBilling(str(path), f"line {number}: {exc or type(exc).__name__}") from exc


def _csv_rows(text: str, path: Path) -> Iterator[Mapping[str, Any]]:
    table = csv.DictReader(io.StringIO(text))
    if not set(AWS_COSTS) & set(table.fieldnames or ()):
        what = "has no column " + " or ".join(AWS_COSTS) if text.strip() else "is empty"
        raise BadBilling(str(path), f"{what}; {FORMATS}")
    return iter(table)


def _json_rows(text: str, path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        if text.lstrip().startswith("["):
            yield from json.loads(text, parse_float=Decimal)
            return
        for line in text.splitlines():
            if line.strip():
                yield json.loads(line, parse_float=Decimal)
    except json.JSONDecodeError as exc:
        raise BadBilling(str(path), f"no JSON ({exc}); {FORMATS}") from exc


def _gcp(row: Mapping[str, Any]) -> BilledLine:
    """One row of ``gcp_billing_export_v1_*``: nested records, labels as key and value."""
    labels = {each["key"]: each["value"] for each in row.get("labels") or ()}
    rate = Decimal(1)
    if row["currency"] != "USD":
        rate = Decimal(str(row.get("currency_conversion_rate") or "0"))
        if rate <= 0:
            raise ValueError(f"currency {row['currency']} without a conversion rate")
    credit = sum((Decimal(str(each["amount"])) for each in row.get("credits") or ()), Decimal(0))
    return BilledLine(
        day=_day(row["usage_start_time"]),
        service=row["service"]["description"],
        sku=row["sku"]["description"],
        run=labels.get("run", ""),
        cell=labels.get("cell", ""),
        usd=Decimal(str(row["cost"])) / rate,
        credits_usd=credit / rate,
    )


def _aws(row: Mapping[str, Any]) -> BilledLine:
    """One row of a CUR, by either of its two spellings of column names."""
    old = "lineItem/UnblendedCost" in row

    def column(name: str, renamed: str) -> str:
        return str(row[name if old else renamed])

    currency = column("lineItem/CurrencyCode", "line_item_currency_code")
    if currency != "USD":
        raise ValueError(f"currency {currency}, and prices are in USD")
    amount = Decimal(column("lineItem/UnblendedCost", "line_item_unblended_cost"))
    credit = column("lineItem/LineItemType", "line_item_line_item_type") == "Credit"
    return BilledLine(
        day=_day(column("lineItem/UsageStartDate", "line_item_usage_start_date")),
        service=column("lineItem/ProductCode", "line_item_product_code"),
        sku=column("lineItem/UsageType", "line_item_usage_type"),
        run=_tag(row, "run"),
        cell=_tag(row, "cell"),
        usd=Decimal(0) if credit else amount,
        credits_usd=amount if credit else Decimal(0),
    )


def _tag(row: Mapping[str, Any], name: str) -> str:
    """A user's tag, as CUR, its parquet spelling, or the map of CUR 2.0 have it."""
    for column in (f"resourceTags/user:{name}", f"resource_tags_user_{name}"):
        if column in row:
            return str(row[column] or "")
    tags = json.loads(row.get("resource_tags") or "{}")
    return str(tags.get(f"user_{name}", ""))


def _day(text: str) -> date:
    """Day in UTC of ``2026-11-20 23:00:00 UTC``, ``2026-11-20T23:00:00Z`` or one with an offset."""
    moment = datetime.fromisoformat(text.replace(" UTC", "+00:00"))
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC).date()
