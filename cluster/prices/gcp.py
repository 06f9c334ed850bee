"""Prices of Google's Cloud Billing Catalog API: SKUs of cores, memory and GPUs, of which machines are put together.

https://cloud.google.com/billing/v1/how-tos/catalog-api. It asks for an API key, from the environment
variable ``VOXFLEET_GCP_API_KEY``; a file holds one of its answers, or a JSON array of them.
"""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

from .rates import Price
from .source import RefreshError, Wanted, is_address, opened

SKUS = "https://cloudbilling.googleapis.com/v1/services/6F81-5844-456A/skus"
"""Of the service Compute Engine."""

KEY = "VOXFLEET_GCP_API_KEY"
SOURCE = f"Cloud Billing Catalog API, {SKUS}"

MARKETS = {"OnDemand": "on-demand", "Preemptible": "spot"}
"""Usage types of SKUs; commitments are others."""

NOT_ORDINARY = ("Sole Tenancy", "Reserved", "Premium", "Custom", "suspended", "DWS")
"""What in a description makes a SKU another one than a machine's own."""

GPU_NAMES = {
    "Tesla T4": "T4",
    "L4": "L4",
    "Tesla A100": "A100-40GB",
    "Tesla A100 80GB": "A100-80GB",
    "Tesla V100": "V100",
}
"""GPUs, from their description's name to ours."""

_DESCRIPTION = re.compile(r"(?:Spot Preemptible )?(?:Nvidia )?(.+?) (GPU|Ram|Core)\b")


def read(place: str, wanted: Wanted) -> Iterator[Price]:
    """Machines of the table, put together from their cores, memory and GPUs in each region."""
    rates: defaultdict[tuple[str, str], dict[tuple[str, str], Decimal]] = defaultdict(dict)
    dated = date.min
    for page, made in _pages(place):
        dated = max(dated, made)
        for sku in page.get("skus", ()):
            _add(sku, rates, place or SKUS)
    for name, known in wanted.of("gcp").items():
        family = name.partition("-")[0]
        for (region, market), parts in sorted(rates.items()):
            if wanted.region(region):
                yield from _machine(replace(known, region=region, market=market, dated=dated), family, parts)


def _pages(place: str) -> Iterator[tuple[Mapping[str, Any], date]]:
    """Answers of the API, or those in a file."""
    if place and not is_address(place):
        with opened(place) as (stream, dated):
            document = _json(stream.read(), place)
        for page in document if isinstance(document, list) else [document]:
            yield page, dated
        return
    key, token = os.environ.get(KEY, ""), ""
    if not key and not place:
        raise RefreshError(SKUS, f"asks for an API key: set {KEY}")
    while True:
        with opened(f"{place or SKUS}?key={key}&pageSize=5000&pageToken={token}") as (stream, dated):
            page = _json(stream.read(), place or SKUS)
        yield page, dated
        token = page.get("nextPageToken", "")
        if not token:
            return


def _json(raw: bytes, place: str) -> Any:
    try:
        return json.loads(raw)
    except ValueError as exc:
        raise RefreshError(place, f"is no JSON: {exc}") from exc


def _add(sku: Mapping[str, Any], rates: Mapping[tuple[str, str], dict[tuple[str, str], Decimal]], place: str) -> None:
    """The SKU's rate, in each of its regions, if it is one of a machine's parts."""
    try:
        described = str(sku["description"])
        market = MARKETS.get(sku["category"]["usageType"], "")
        found = _DESCRIPTION.match(described)
        ordinary = not any(word in described for word in NOT_ORDINARY)
        if not (found and market and ordinary and sku["category"]["resourceFamily"] == "Compute"):
            return
        # The newest of its prices is the last; the first tier of one is where its use begins.
        tiers = sku["pricingInfo"][-1]["pricingExpression"]["tieredRates"]
        unit = tiers[0]["unitPrice"]
        if unit["currencyCode"] != "USD":
            raise RefreshError(place, f"{described} is priced in {unit['currencyCode']}, and prices are in USD")
        usd = Decimal(unit.get("units") or 0) + Decimal(unit.get("nanos") or 0) / 10**9
        what, kind = found[1], found[2]
        part = GPU_NAMES.get(what, what) if kind == "GPU" else what.partition(" ")[0].lower()
        for region in sku["serviceRegions"]:
            rates[region, market].setdefault((kind, part), usd)
    except (KeyError, IndexError, TypeError) as exc:
        raise RefreshError(place, f"a SKU lacks {exc}") from exc


def _machine(known: Price, family: str, parts: Mapping[tuple[str, str], Decimal]) -> Iterable[Price]:
    """The machine, if all of its parts have a rate."""
    needed = [("Core", family), ("Ram", family), *([("GPU", known.gpu)] if known.gpus else [])]
    if any(part not in parts for part in needed):
        return
    gpu = parts["GPU", known.gpu] * known.gpus if known.gpus else None
    usd = parts["Core", family] * known.cpu_cores + parts["Ram", family] * known.memory_gib + (gpu or 0)
    yield replace(known, usd_per_hour=usd, gpu_usd_per_hour=gpu, source=SOURCE)
