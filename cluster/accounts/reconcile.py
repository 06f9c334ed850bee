"""Reconciliation: what a provider billed for a run against what the ledger reckons."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from ... import Error
from ..rates import CHARGES
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
)
"""What in a SKU of such a service is no machine time."""


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


@dataclass(frozen=True, slots=True)
class Variance:
    """One line of a reconciliation.

    Attributes
    ----------
    reckoned : Decimal or None
        By the ledger; None for what it does not reckon.
    """

    what: str
    billed: Decimal
    credits: Decimal
    reckoned: Decimal | None

    @property
    def difference(self) -> Decimal | None:
        """Billed before credits, less reckoned."""
        return None if self.reckoned is None else self.billed - self.reckoned

    @property
    def relative(self) -> Decimal | None:
        """The difference over what was reckoned; None where that is nothing."""
        return None if not self.reckoned or self.difference is None else self.difference / self.reckoned


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """A run's dollars, billed against reckoned: machines by day, charges beside them, every SKU, every cell.

    Attributes
    ----------
    total : Variance
        Of machines.
    charges : tuple of Variance
        Of each kind that was billed or reckoned.
    others : int
        Lines of the file that bear another run's label, or none.
    """

    run: str
    days: tuple[Variance, ...]
    charges: tuple[Variance, ...]
    skus: tuple[Variance, ...]
    cells: tuple[Variance, ...]
    total: Variance
    others: int


def reconcile(
    run: str,
    billed: Iterable[BilledLine],
    reckoned: Mapping[date, Decimal],
    charged: Mapping[str, Decimal] | None = None,
) -> Reconciliation:
    """Compare lines that bear the label ``run`` with what nodes cost on each day.

    Parameters
    ----------
    reckoned : mapping of date to Decimal
        Dollars of all nodes on each day of UTC.
    charged : mapping of str to Decimal or None
        Dollars of each kind of charge that is reckoned.
    """
    lines = list(billed)
    mine = [line for line in lines if line.run == run]
    machines = [line for line in mine if line.kind == MACHINE]
    beside = charged or {}
    every_day = {*reckoned, *(line.day for line in machines)}
    days = {day: [line for line in machines if line.day == day] for day in every_day}
    return Reconciliation(
        run=run,
        days=tuple(_variance(day.isoformat(), days[day], reckoned.get(day, Decimal(0))) for day in sorted(days)),
        charges=tuple(
            _variance(kind, ours, beside.get(kind))
            for kind in CHARGES
            if (ours := [line for line in mine if line.kind == kind]) or kind in beside
        ),
        skus=_grouped(mine, lambda line: f"{line.service}: {line.sku}"),
        cells=_grouped(mine, lambda line: line.cell or "no cell"),
        total=_variance("machines", machines, sum(reckoned.values(), Decimal(0))),
        others=len(lines) - len(mine),
    )


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
        raise BadBilling(str(path), f"{what}; give GCP's export as JSON lines or AWS's CUR as CSV")
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
        raise BadBilling(str(path), f"no JSON: {exc}") from exc


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


def _variance(what: str, lines: Iterable[BilledLine], reckoned: Decimal | None) -> Variance:
    found = list(lines)
    return Variance(
        what,
        sum((line.usd for line in found), Decimal(0)),
        sum((line.credits_usd for line in found), Decimal(0)),
        reckoned,
    )


def _grouped(lines: Iterable[BilledLine], name: Callable[[BilledLine], str]) -> tuple[Variance, ...]:
    groups: defaultdict[str, list[BilledLine]] = defaultdict(list)
    for line in lines:
        groups[name(line)].append(line)
    return tuple(_variance(key, found, None) for key, found in sorted(groups.items()))
