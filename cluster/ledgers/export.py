"""The whole ledger as parquet, a file a table, for notebooks and for keeping."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from ...enrich.atomic import replacing
from ..ledger import Ledger

Record = dict[str, Any]

_PLACES = 15
"""Decimals kept of an amount."""

_TEXT, _NUMBER, _SECONDS, _TIME = pa.string(), pa.int64(), pa.float64(), pa.timestamp("us", tz="UTC")

SCHEMAS = {
    "items": pa.schema(
        {
            **dict.fromkeys(
                ("key", "study_instance_uid", "series_instance_uid", "modality", "source", "target"), _TEXT
            ),
            **dict.fromkeys(("model", "model_version", "weights_sha256", "segmentation_type", "parameters"), _TEXT),
            **dict.fromkeys(("instances", "bytes", "fails", "losses"), _NUMBER),
            **dict.fromkeys(("state", "failure_stage", "failure_code", "failure_message"), _TEXT),
            **dict.fromkeys(("repairs", "failed_features"), pa.list_(_TEXT)),
        }
    ),
    "attempts": pa.schema(
        {
            "key": _TEXT,
            "fence": _NUMBER,
            **dict.fromkeys(("owner", "node"), _TEXT),
            **dict.fromkeys(("started", "ended"), _TIME),
            **dict.fromkeys(("outcome", "failure_stage", "failure_code", "failure_message"), _TEXT),
            **dict.fromkeys(("host_bytes", "gpu_bytes"), _NUMBER),
        }
    ),
    "consumption": pa.schema(
        {
            "key": _TEXT,
            "fence": _NUMBER,
            "stage": _TEXT,
            "started": _TIME,
            **dict.fromkeys(("wall_s", "cpu_s", "gpu_s"), _SECONDS),
            **dict.fromkeys(("peak_bytes", "bytes_in", "bytes_out"), _NUMBER),
        }
    ),
    "stored": pa.schema(
        {
            **dict.fromkeys(
                ("key", "sop_class_uid", "sop_instance_uid", "series_instance_uid", "uri", "sha256"), _TEXT
            ),
            "bytes": _NUMBER,
            "already_there": pa.bool_(),
        }
    ),
    "nodes": pa.schema(
        {
            **dict.fromkeys(("node", "machine"), _TEXT),
            **dict.fromkeys(("up", "down", "last_seen"), _TIME),
            **dict.fromkeys(("region", "market", "price_source"), _TEXT),
            "usd_per_hour": pa.decimal128(28, _PLACES),
            "price_dated": pa.date32(),
            "head": pa.bool_(),
        }
    ),
    "refusals": pa.schema(dict.fromkeys(("identifier", "code", "reason"), _TEXT)),
    "events": pa.schema({"at": _TIME, **dict.fromkeys(("level", "kind", "detail"), _TEXT)}),
}
"""Columns of each table; times in UTC, sizes in bytes, durations in seconds."""


def export(ledger: Ledger, folder: Path) -> tuple[Path, ...]:
    """Write every table of the ledger into `folder`, made if it is not there; the files' paths."""
    folder.mkdir(parents=True, exist_ok=True)
    tables = {
        "items": _items(ledger),
        "attempts": _attempts(ledger),
        "consumption": _consumption(ledger),
        "stored": ({"key": each.key, **asdict(each.object)} for each in ledger.stored()),
        "nodes": _nodes(ledger),
        "refusals": (asdict(each) for each in ledger.refusals()),
        "events": (asdict(each) for each in ledger.events()),
    }
    paths = []
    for name, schema in SCHEMAS.items():
        path = folder / f"{name}.parquet"
        with replacing(path) as temporary:
            parquet.write_table(pa.Table.from_pylist(list(tables[name]), schema=schema), temporary)
        paths.append(path)
    return tuple(paths)


def _items(ledger: Ledger) -> Iterator[Record]:
    for item in ledger.items():
        yield {
            **asdict(item.workitem),
            **asdict(item),
            "key": item.workitem.key,
            "parameters": json.dumps(dict(item.workitem.parameters), sort_keys=True),
            **_failure(item),
        }


def _attempts(ledger: Ledger) -> Iterator[Record]:
    for attempt in ledger.attempts():
        yield {**asdict(attempt), **_failure(attempt), **asdict(attempt.memory)}


def _consumption(ledger: Ledger) -> Iterator[Record]:
    for attempt in ledger.attempts():
        for used in attempt.consumption:
            started = int(used.started * 1e6)
            yield {"key": attempt.key, "fence": attempt.fence, **asdict(used), "started": started}


def _nodes(ledger: Ledger) -> Iterator[Record]:
    """Lives of nodes, each with its own price or the run's."""
    runs = ledger.run().price
    for node in ledger.nodes():
        price = node.price or runs
        told = price and {
            "region": price.region,
            "market": price.market,
            "usd_per_hour": round(price.usd_per_hour, _PLACES),
            "price_source": price.source,
            "price_dated": price.dated,
        }
        yield {**asdict(node), **(told or {})}


def _failure(record: Any) -> Record:
    """Its failure's columns."""
    failure = record.failure
    return {f"failure_{part}": failure and getattr(failure, part) for part in ("stage", "code", "message")}
