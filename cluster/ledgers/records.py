"""Records of the ledger as rows of columns and JSON, and back; no pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from ...enrich.archives.archive import StoredObject
from ...runners.consumption import Consumption
from ...runners.workitem import Failure, Workitem
from ..prices.rates import Price


def moment(unix_s: float) -> datetime:
    """Aware time in UTC of Unix seconds."""
    return datetime.fromtimestamp(unix_s, tz=UTC)


def workitem_to_json(workitem: Workitem) -> str:
    """All fields by name. Written out: `dataclasses.asdict` takes ten times as long."""
    return json.dumps(
        {
            "study_instance_uid": workitem.study_instance_uid,
            "series_instance_uid": workitem.series_instance_uid,
            "modality": workitem.modality,
            "instances": workitem.instances,
            "source": workitem.source,
            "target": workitem.target,
            "model": workitem.model,
            "model_version": workitem.model_version,
            "weights_sha256": workitem.weights_sha256,
            "parameters": workitem.parameters,
            "segmentation_type": workitem.segmentation_type,
            "repair": workitem.repair,
            "bytes": workitem.bytes,
            "features": workitem.features,
        }
    )


def workitem_from_json(text: str) -> Workitem:
    """The workitem that `workitem_to_json` wrote."""
    fields: dict[str, Any] = json.loads(text)
    fields["parameters"] = tuple((name, value) for name, value in fields["parameters"])
    return Workitem(**fields)


def failure_to_json(failure: Failure | None) -> str | None:
    """All fields by name; None for no failure."""
    if failure is None:
        return None
    return json.dumps(
        {
            "stage": failure.stage,
            "code": failure.code,
            "message": failure.message,
            "retryable": failure.retryable,
            "refused": failure.refused,
            "lost": failure.lost,
            "outage": failure.outage,
        }
    )


def failure_from_json(text: str | None) -> Failure | None:
    """The failure that `failure_to_json` wrote."""
    return None if text is None else Failure(**json.loads(text))


def price_to_json(price: Price | None) -> str | None:
    """All fields by name, amounts to the last digit; None for no price."""
    return None if price is None else json.dumps(asdict(price), default=str)


def price_from_json(text: str | None) -> Price | None:
    """The price that `price_to_json` wrote."""
    if text is None:
        return None
    fields: dict[str, Any] = json.loads(text)
    gpu = fields["gpu_usd_per_hour"]
    fields |= {name: Decimal(fields[name]) for name in ("usd_per_hour", "memory_gib")}
    fields |= {"gpu_usd_per_hour": None if gpu is None else Decimal(gpu), "dated": date.fromisoformat(fields["dated"])}
    return Price(**fields)


def prices_to_json(prices: Mapping[str, Price]) -> str | None:
    """Prices by name, each as `price_to_json` writes it; None for none at all."""
    return json.dumps({name: price_to_json(price) for name, price in sorted(prices.items())}) if prices else None


def prices_from_json(text: str | None) -> dict[str, Price]:
    """The prices that `prices_to_json` wrote."""
    told = {} if text is None else json.loads(text)
    return {name: price for name, each in told.items() if (price := price_from_json(each))}


def strings_from_json(text: str) -> tuple[str, ...]:
    """A tuple of strings written as a JSON array."""
    return tuple(json.loads(text))


def consumption_rows(attempt: int, consumption: Sequence[Consumption]) -> list[tuple[object, ...]]:
    """Rows of the table `consumption`, in the order of the stages."""
    return [
        (attempt, i, c.stage, c.started, c.wall_s, c.cpu_s, c.gpu_s, c.peak_bytes, c.bytes_in, c.bytes_out)
        for i, c in enumerate(consumption)
    ]


def stored_rows(key: str, stored: Sequence[StoredObject]) -> list[tuple[object, ...]]:
    """Rows of the table `stored`, in the order SEG, SR."""
    return [
        (
            key,
            i,
            s.sop_class_uid,
            s.sop_instance_uid,
            s.series_instance_uid,
            s.uri,
            s.sha256,
            s.bytes,
            s.already_there,
        )
        for i, s in enumerate(stored)
    ]
