"""The figures of a run, from its ledger and a price: for status, report and tables."""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from decimal import Decimal
from pathlib import Path
from typing import Any

from ...runners.run_report import Reason, StageTotal
from ...runners.workitem import State
from ..accounts.cost import cost_of
from ..accounts.costs import Costs
from ..accounts.spent import priced_nodes
from ..ledger import Attempt, AttemptClass, Item, Ledger, Refusal, Stored
from ..prices.price import Price, stale_note
from .figures import ModelRow, Money, RunSummary, SeriesRow
from .progress import RATE_WINDOW_S, progress_of

USD_PLACES = Decimal("1e-10")
"""Decimals kept of an amount in a table: a second of the cheapest machine is 1e-5 dollars."""


def summarise(ledger: Ledger, price: Price) -> RunSummary:
    """All figures of a run, as of now."""
    now = ledger.now()
    attempts, items, stored, refusals = ledger.attempts(), ledger.items(), ledger.stored(), ledger.refusals()
    costs = cost_of(attempts, ledger.nodes(), price, now)
    series = _series(items, attempts, stored, costs)
    nodes = priced_nodes((node.price, 1, node.lifetime_s) for node in costs.nodes)
    counts = ledger.counts()
    return RunSummary(
        run=ledger.run(),
        at=now,
        progress=progress_of(counts, ledger.recent(RATE_WINDOW_S), costs.total),
        attempts=len(attempts),
        lost=sum(attempt.outcome is AttemptClass.LOST for attempt in attempts),
        money=_money(costs, counts.completed),
        price=price,
        nodes=nodes,
        prices=_own_prices(costs, price),
        warnings=tuple(filter(None, (stale_note([price, *(each.price for each in nodes)], now.date()),))),
        models=_models(series),
        stages=_stages(attempts, costs),
        failures=_failures(series, refusals),
        series=series,
        refusals=refusals,
        events=ledger.events(),
    )


def to_json(summary: RunSummary) -> str:
    """One JSON document; amounts as strings with all their digits, times in ISO 8601."""
    document: dict[str, Any] = {
        field.name: getattr(summary, field.name) for field in fields(summary) if field.name not in ("run", "prices")
    }
    run = {name: getattr(summary.run, name) for name in (field.name for field in fields(summary.run))}
    document["run"] = run | {"parameters": dict(summary.run.parameters), "prices": dict(summary.run.prices)}
    return json.dumps(document, default=_plain, indent=2)


def to_parquet(summary: RunSummary, path: Path) -> None:
    """Write a row per series; whole or not at all."""
    # 0.1 s to import, and only the report needs it.
    import pyarrow as pa
    from pyarrow import parquet

    types: dict[str, Any] = {
        "int": pa.int64(),
        "int | None": pa.int64(),
        "float": pa.float64(),
        "str": pa.string(),
        "Decimal": pa.decimal128(20, 10),
        "datetime | None": pa.timestamp("us", tz="UTC"),
        "tuple[str, ...]": pa.list_(pa.string()),
    }
    columns = {
        field.name: pa.array([_cell(getattr(row, field.name)) for row in summary.series], type=types[str(field.type)])
        for field in fields(SeriesRow)
    }
    temporary = path.with_suffix(".tmp")
    parquet.write_table(pa.table(columns), temporary)
    os.replace(temporary, path)  # noqa: PTH105 - as atomic as it gets


def _series(
    items: Sequence[Item], attempts: Sequence[Attempt], stored: Sequence[Stored], costs: Costs
) -> tuple[SeriesRow, ...]:
    tries: defaultdict[str, list[Attempt]] = defaultdict(list)
    for attempt in attempts:
        tries[attempt.key].append(attempt)
    objects: defaultdict[str, list[str]] = defaultdict(list)
    for each in stored:
        objects[each.key].append(each.object.sop_instance_uid)
    usd, loading = costs.by_key(), costs.loading
    rows = []
    for item in items:
        key = item.workitem.key
        spent = usd.get(key, Decimal(0))
        rows.append(_series_row(item, key, tries[key], tuple(objects[key]), (spent, spent * loading)))
    return tuple(rows)


def _series_row(
    item: Item, key: str, tries: Sequence[Attempt], stored: tuple[str, ...], usd: tuple[Decimal, Decimal]
) -> SeriesRow:
    work, failure = item.workitem, item.failure
    used = [c for attempt in tries for c in attempt.consumption]
    return SeriesRow(
        key=key,
        study_instance_uid=work.study_instance_uid,
        series_instance_uid=work.series_instance_uid,
        modality=work.modality,
        instances=work.instances,
        bytes=work.bytes,
        model=work.model,
        model_version=work.model_version,
        state=item.state.value,
        result=_result(item),
        stage=failure.stage if failure else "",
        code=failure.code if failure else "",
        reason=failure.message if failure else "",
        attempts=len(tries),
        fails=item.fails,
        losses=item.losses,
        node=tries[-1].node if tries else "",
        ended=tries[-1].ended if tries else None,
        wall_s=sum(c.wall_s for c in used),
        cpu_s=sum(c.cpu_s for c in used),
        gpu_s=sum(c.gpu_s for c in used),
        peak_bytes=max((c.peak_bytes for c in used), default=0),
        bytes_in=sum(c.bytes_in for c in used),
        bytes_out=sum(c.bytes_out for c in used),
        usd=usd[0].quantize(USD_PLACES),
        usd_loaded=usd[1].quantize(USD_PLACES),
        stored=stored,
        repairs=item.repairs,
        failed_features=item.failed_features,
    )


def _result(item: Item) -> str:
    if item.state is State.CANCELED:
        return "refused" if item.failure is not None and item.failure.refused else "failed"
    return {State.SCHEDULED: "waiting", State.IN_PROGRESS: "in flight", State.COMPLETED: "completed"}[item.state]


def _models(series: Iterable[SeriesRow]) -> tuple[ModelRow, ...]:
    groups: defaultdict[str, list[SeriesRow]] = defaultdict(list)
    for row in series:
        groups[f"{row.model} {row.model_version}"].append(row)
    return tuple(_model_row(name, rows) for name, rows in sorted(groups.items()))


def _model_row(name: str, rows: Sequence[SeriesRow]) -> ModelRow:
    results = Counter(row.result for row in rows)
    return ModelRow(
        model=name,
        completed=results["completed"],
        refused=results["refused"],
        failed=results["failed"],
        waiting=results["waiting"] + results["in flight"],
        wall_s=sum(row.wall_s for row in rows),
        cpu_s=sum(row.cpu_s for row in rows),
        gpu_s=sum(row.gpu_s for row in rows),
        usd=sum((row.usd for row in rows), Decimal(0)),
    )


def _stages(attempts: Iterable[Attempt], costs: Costs) -> tuple[StageTotal, ...]:
    sums: dict[str, list[float]] = {}
    for attempt in attempts:
        for used in attempt.consumption:
            total = sums.setdefault(used.stage, [0, 0.0, 0.0, 0.0])
            for i, amount in enumerate((1, used.wall_s, used.cpu_s, used.gpu_s)):
                total[i] += amount
    usd = costs.by_stage()
    named = {stage: sums.get(stage, [0, 0.0, 0.0, 0.0]) for stage in (*sums, *usd)}
    return tuple(
        StageTotal(stage, int(n), wall_s, cpu_s, gpu_s, usd.get(stage, Decimal(0)).quantize(USD_PLACES))
        for stage, (n, wall_s, cpu_s, gpu_s) in named.items()
    )


def _failures(series: Iterable[SeriesRow], refusals: Iterable[Refusal]) -> tuple[Reason, ...]:
    """Reasons, the most frequent first."""
    groups: defaultdict[tuple[str, str, str], list[tuple[str, str]]] = defaultdict(list)
    for row in series:
        if row.result in ("refused", "failed"):
            groups[row.result, row.stage, row.code].append((row.series_instance_uid, row.reason))
    for refusal in refusals:
        groups["refused", "search", refusal.code].append((refusal.identifier, refusal.reason))
    rows = [Reason(*kind, len(found), *found[0]) for kind, found in groups.items()]
    return tuple(sorted(rows, key=lambda row: (-row.count, row.code)))


def _own_prices(costs: Costs, price: Price) -> dict[str, tuple[Price, ...]]:
    """Prices of the nodes that the attempts at a workitem were on, by its key, where they are not `price` alone."""
    if all(node.price == price for node in costs.nodes):
        return {}
    found: defaultdict[str, dict[Price, None]] = defaultdict(dict)
    for share in costs.attempts:
        found[share.key].update(dict.fromkeys(share.prices))
    return {key: tuple(prices) for key, prices in found.items() if prices and tuple(prices) != (price,)}


def _money(costs: Costs, completed: int) -> Money:
    spent = dict(costs.by_outcome)
    return Money(
        total=costs.total,
        useful=costs.useful,
        wasted=costs.wasted,
        refused=spent.get(AttemptClass.REFUSED.value, Decimal(0)),
        in_flight=spent.get("in flight", Decimal(0)),
        overhead=costs.overhead,
        per_completed=costs.total / completed if completed else None,
    )


def _cell(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _plain(value: Any) -> Any:
    """What JSON holds for values that it does not know."""
    if isinstance(value, Decimal):
        return str(value)
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return asdict(value)
