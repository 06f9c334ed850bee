"""Prices of gpuhunt's catalogue (dstack): a ZIP archive a cloud, with one CSV file of offers.

https://github.com/dstackai/gpuhunt. The package itself is not needed: the catalogue is plain files,
and the package loads all clouds where one is asked for.
"""

from __future__ import annotations

import csv
import io
import re
import zipfile
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import PurePosixPath

from .rates import Price
from .source import GPUS, RefreshError, Wanted, opened

CATALOGUE = "https://dstack-gpu-pricing.s3.eu-west-1.amazonaws.com/v3"
CLOUDS = ("aws", "gcp")
_ZONE = re.compile(r"-[a-z]$")


def read(place: str, wanted: Wanted) -> Iterator[Price]:
    """Offers of AWS and GCP; of one with several rows the cheapest."""
    for address in [place] if place else [_newest(cloud) for cloud in CLOUDS]:
        with opened(address) as (stream, _):
            raw = stream.read()
        cheapest: dict[tuple[str, str, str], Price] = {}
        for price in _offers(raw, address, wanted):
            key = (price.machine, price.region, price.market)
            if key not in cheapest or price.usd_per_hour < cheapest[key].usd_per_hour:
                cheapest[key] = price
        yield from cheapest.values()


def _newest(cloud: str) -> str:
    with opened(f"{CATALOGUE}/{cloud}/version") as (stream, _):
        version = stream.read().decode("ascii", "replace").strip()
    return f"{CATALOGUE}/{cloud}/{version}/catalog.zip"


def _offers(raw: bytes, address: str, wanted: Wanted) -> Iterator[Price]:
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            for member in archive.infolist():
                cloud = PurePosixPath(member.filename).stem
                if cloud in CLOUDS:
                    dated = datetime(*member.date_time).date()
                    text = io.StringIO(archive.read(member).decode("utf-8"))
                    for row in csv.DictReader(text):
                        yield from _offer(row, cloud, wanted, address, dated)
    except (zipfile.BadZipFile, UnicodeDecodeError, csv.Error) as exc:
        raise RefreshError(address, f"is no catalogue of gpuhunt: {exc}") from exc
    except KeyError as exc:
        raise RefreshError(address, f"has no column {exc.args[0]}") from exc
    except (InvalidOperation, ValueError) as exc:
        raise RefreshError(address, f"holds no number: {exc}") from exc


def _offer(row: Mapping[str, str], cloud: str, wanted: Wanted, address: str, dated: date) -> Iterator[Price]:
    """The row's price, if it is of a machine that is wanted."""
    gpus, gpu = int(row["gpu_count"] or 0), _gpu(row)
    attached = f"{row['instance_name']}+{gpu.lower()}" if gpus else row["instance_name"]
    name = attached if attached in wanted.machines else row["instance_name"]
    known = wanted.machines.get(name)
    # Of GCP the catalogue names zones: us-central1-a.
    region = _ZONE.sub("", row["location"]) if cloud == "gcp" else row["location"]
    if name not in wanted.machines or not wanted.region(region):
        return
    if known is not None and (known.gpu, known.gpus) != (gpu, gpus):
        return
    yield Price(
        machine=name,
        provider=cloud,
        region=region,
        market="spot" if row["spot"].lower() == "true" else "on-demand",
        usd_per_hour=Decimal(row["price"]),
        cpu_cores=int(row["cpu"]),
        gpu=gpu,
        gpus=gpus,
        source=f"gpuhunt catalogue, {address}",
        dated=dated,
        memory_gib=Decimal(row["memory"]),
    )


def _gpu(row: Mapping[str, str]) -> str:
    """Our name of the row's GPU: two of its kinds differ in their memory only."""
    name = row["gpu_name"]
    if name == "A100" and float(row["gpu_memory"] or 0) > 40:  # noqa: PLR2004
        return "A100-80GB"
    return GPUS.get(name, name)
