"""The tables of a benchmark: scores as CSV and parquet, and what is summed up as CSV."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.csv

from ..enrich.atomic import replacing
from ..enrich.tables import write_tables
from .case import CaseResult
from .figures import Figures
from .score import Score
from .study import StudyResult

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

SCORES = "scores"
"""Name of the two files of scores, without their endings."""
SCORE_SCHEMA = pa.schema(
    [
        pa.field(name, kind, nullable=name in {"value", "failure"})
        for name, kind in (
            ("series", pa.string()),
            ("patient", pa.string()),
            ("model", pa.string()),
            ("reference", pa.string()),
            ("segment", pa.string()),
            ("metric", pa.string()),
            ("value", pa.float64()),
            ("unit", pa.string()),
            ("failure", pa.string()),
        )
    ]
)
"""Columns of the scores; `value` is null where the metric is undefined, `failure` where the model gave something."""


def write_score_tables(result: StudyResult, figures: Figures) -> tuple[str, ...]:
    """Write all tables into the folder of a study, each whole or not at all; their names."""
    out = result.study.out
    table = pa.Table.from_pylist([_score_row(score) for score in figures.scores], schema=SCORE_SCHEMA)
    write_tables(table, out, SCORES)
    tables: Mapping[str, Sequence[Mapping[str, object]]] = {
        "leaderboard": [_flat(asdict(each)) for each in figures.leaderboard],
        "structures": [_flat(asdict(each)) for each in figures.structures],
        "comparisons": [_flat(asdict(each)) for each in figures.comparisons],
        "subgroups": [
            {"attribute": each.attribute, "group": each.group, **_flat(asdict(each.summary))}
            for each in figures.subgroups
        ],
        "readers": [_flat(asdict(each)) for each in figures.readers],
        "volumes": _of_cases(result.scored, lambda case: case.volumes),
        "involvement": _of_cases(result.scored, lambda case: case.involvement),
        "retest": [each.row for each in figures.retest],
        "froc": [each.row for each in figures.frocs],
        "froc-curves": [step for each in figures.frocs for step in each.steps],
        "marks": _of_cases(result.scored, lambda case: case.marks),
        "without-partner": _of_cases(result.scored, lambda case: case.without_partner),
        "problems": _of_cases(result.cases, lambda case: case.problems),
        "provenance": _of_cases(result.scored, lambda case: case.provenance),
    }
    written = [name for name, rows in tables.items() if write_table(out / f"{name}.csv", rows)]
    return (f"{SCORES}.parquet", f"{SCORES}.csv", *(f"{name}.csv" for name in written))


def _score_row(score: Score) -> dict[str, object]:
    case = score.case
    return {
        "series": case.series_instance_uid,
        "patient": case.patient_id,
        "model": case.model,
        "reference": case.reference,
        "segment": score.segment,
        "metric": score.metric,
        "value": score.value if score.defined else None,
        "unit": score.unit,
        "failure": score.failure,
    }


def _flat(row: Mapping[str, Any]) -> dict[str, object]:
    """A record with its intervals as two columns each."""
    flat: dict[str, object] = {}
    for name, value in row.items():
        flat |= {f"{name}_{end}": value[end] for end in ("low", "high")} if isinstance(value, dict) else {name: value}
    return flat


def _of_cases(
    cases: Iterable[CaseResult], rows: Callable[[CaseResult], Iterable[DataclassInstance]]
) -> list[dict[str, object]]:
    """Rows of all cases, each with its series."""
    return [{"series": case.series_instance_uid, **asdict(row)} for case in cases for row in rows(case)]


def write_table(path: Path, rows: Sequence[Mapping[str, object]]) -> bool:
    """Whether there was anything to write; a table of an earlier command that is empty now is removed."""
    if not rows:
        path.unlink(missing_ok=True)
        return False
    with replacing(path) as temporary:
        pyarrow.csv.write_csv(pa.Table.from_pylist([dict(row) for row in rows]), temporary)
    return True
