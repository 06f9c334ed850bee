"""Scores: how good the results of a run are, for what they cost."""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from statistics import fmean
from typing import Any

from ... import Error
from ..ledger import AttemptClass
from .bill import Bill

COLUMNS = ("series", "model", "metric", "value")


class BadScores(Error):
    """A table of scores that cannot be read as one; names the file."""

    code = "BAD_SCORES"

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(file, reason)

    def __str__(self) -> str:
        return f"{self.args[0]}: {self.args[1]}"


@dataclass(frozen=True, slots=True)
class ScorePerDollar:
    """One model's mean score and what its results cost.

    Attributes
    ----------
    series : int
        That have both scores and a result of this run.
    mean : float
        Over series, of the means over each series' segments; without those that are not numbers.
    usd_per_series : Decimal
        Fully loaded, of these series.
    """

    model: str
    metric: str
    series: int
    mean: float
    usd_per_series: Decimal

    @property
    def per_dollar(self) -> float:
        """Score over the dollars of a series; infinite where these are nothing."""
        return self.mean / float(self.usd_per_series) if self.usd_per_series else math.inf


@dataclass(frozen=True, slots=True)
class _Score:
    series: str
    model: str
    value: float


def read_scores(path: Path, metric: str) -> tuple[_Score, ...]:
    """Scores of one metric, from a parquet or CSV table with columns series, model, metric and value.

    Raises
    ------
    BadScores
        If the file is no such table, or holds no score of that metric.
    """
    try:
        rows = list(_rows(path))
        found = tuple(
            _Score(str(row["series"]), str(row["model"]), float(row["value"]))
            for row in rows
            if str(row["metric"]).lower() == metric.lower() and row["value"] not in (None, "")
        )
    except KeyError as exc:
        raise BadScores(str(path), f"has no column {exc.args[0]}; needed are {', '.join(COLUMNS)}") from exc
    except (OSError, ValueError, TypeError) as exc:
        raise BadScores(str(path), f"cannot be read: {exc}") from exc
    if not found:
        there = ", ".join(sorted({str(row["metric"]) for row in rows})) or "nothing"
        raise BadScores(str(path), f"has no {metric}; it has {there}")
    return found


def scores_per_dollar(scores: Iterable[_Score], bill: Bill, metric: str) -> tuple[ScorePerDollar, ...]:
    """One row for each model of the run that has scores, the best for its dollar first.

    A model is named as in the run, ``name version``, or by its name alone.
    """
    cost: defaultdict[tuple[str, str], Decimal] = defaultdict(Decimal)
    done: set[tuple[str, str]] = set()
    for line in bill.lines:
        of = (line.model, line.series_instance_uid)
        cost[of] += line.loaded_usd
        if line.outcome == AttemptClass.COMPLETED.value:
            done.add(of)
    values: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    names = {alias: model for model, _ in done for alias in (model.partition(" ")[0], model)}
    for score in scores:
        of = (names.get(score.model, ""), score.series)
        if of in done and math.isfinite(score.value):
            values[of].append(score.value)
    rows = [_row(model, metric, values, cost) for model in dict.fromkeys(model for model, _ in values)]
    return tuple(sorted(rows, key=lambda row: -row.per_dollar))


def _row(
    model: str, metric: str, values: Mapping[tuple[str, str], list[float]], cost: Mapping[tuple[str, str], Decimal]
) -> ScorePerDollar:
    mine = [of for of in values if of[0] == model]
    usd = sum((cost[of] for of in mine), Decimal(0)) / len(mine)
    return ScorePerDollar(model, metric, len(mine), fmean(fmean(values[of]) for of in mine), usd)


def _rows(path: Path) -> Iterator[Mapping[str, Any]]:
    if path.suffix.lower() == ".parquet":
        # 0.1 s to import, and only this needs it.
        from pyarrow import parquet

        yield from parquet.read_table(path).to_pylist()
        return
    with path.open(newline="", encoding="utf-8-sig") as file:
        yield from csv.DictReader(file)
