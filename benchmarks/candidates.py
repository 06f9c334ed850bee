"""Candidates of a detector, as LUNA16 has them: a CSV table of points with a probability each."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import Error
from .case import CandidateList, CandidatePoint, CaseResult, Problem

COLUMNS = ("seriesuid", "coordX", "coordY", "coordZ", "probability")
BAD_ROW = "BAD_CANDIDATE"
UNKNOWN_SERIES = "CANDIDATE_WITHOUT_SERIES"


class InvalidCandidates(Error):
    """A table of candidates that cannot be read at all."""

    code = "INVALID_CANDIDATES"

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)

    def __str__(self) -> str:
        path, reason = self.args
        return f"{path}: {reason}"


@dataclass(frozen=True, slots=True)
class CandidateTable:
    """All candidates of one detector.

    Attributes
    ----------
    points : dict
        By Series Instance UID; LPS mm.
    problems : tuple of Problem
        Rows that are left out.
    """

    name: str
    place: str
    points: dict[str, tuple[CandidatePoint, ...]]
    problems: tuple[Problem, ...] = ()

    def of(self, series_instance_uid: str) -> CandidateList:
        """Candidates of one series, none included."""
        return CandidateList(self.name, self.points.get(series_instance_uid, ()))


def read_candidates(name: str, path: Path) -> CandidateTable:
    """Candidates of a CSV table with LUNA16's columns.

    Raises
    ------
    InvalidCandidates
        If it is no such table.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            names, rows = reader.fieldnames or (), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        raise InvalidCandidates(str(path), f"is no CSV table: {exc}") from exc
    if missing := [each for each in COLUMNS if each not in names]:
        raise InvalidCandidates(str(path), f"lacks the columns {', '.join(missing)}: it needs {','.join(COLUMNS)}")
    points: dict[str, list[CandidatePoint]] = {}
    bad: list[str] = []
    for number, row in enumerate(rows, start=1):
        series, *numbers = ((row[column] or "").strip() for column in COLUMNS)
        try:
            x, y, z, probability = (_finite(each) for each in numbers)
        except ValueError as exc:
            bad.append(f"row {number}: {exc}")
            continue
        points.setdefault(series, []).append(CandidatePoint((x, y, z), probability))
    reason = f"{path}: {len(bad)} rows without four numbers, left out: {bad[0]}" if bad else ""
    problems = (Problem(BAD_ROW, reason, name),) if bad else ()
    return CandidateTable(name, str(path), {uid: tuple(of) for uid, of in points.items()}, problems)


def unusable_rows(tables: Iterable[CandidateTable], cases: Sequence[CaseResult]) -> tuple[Problem, ...]:
    """What is wrong with rows of tables: no numbers, or of series that were not scored."""
    scored = {case.series_instance_uid for case in cases if case.readers}
    problems: list[Problem] = []
    for table in tables:
        problems += table.problems
        lost = Counter({uid: len(points) for uid, points in table.points.items() if uid not in scored})
        problems += [
            Problem(
                UNKNOWN_SERIES,
                f"{table.place}: {count} rows of series {uid or '(none)'}: not in the source, or without a reference",
                table.name,
            )
            for uid, count in lost.items()
        ]
    return tuple(problems)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not finite")
    return number
