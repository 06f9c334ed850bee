"""A whole benchmark: the models run, every series scored, tables and report written."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Event

from rich.console import Console

from ..cluster.enrichment import Plan
from ..enrich.atomic import write_text
from .benchmark_page import Picked, benchmark_page
from .candidates import unusable_rows
from .case import CaseRequest, PictureRequest, Problem, Rules
from .case_loop import Loop, Place, Sides, localised, score_all
from .case_pool import CasePool
from .crosswalk import load_crosswalk
from .figures import Figures, figures_of
from .frocs import lesionless
from .metrics.catalogue import TOLERANCES_MM
from .model_run import ModelRun, run_models
from .references.label_table import read_label_table
from .references.reference import Reading
from .retest import usable_pairs
from .score_tables import write_score_tables
from .study import ModelSource, Spending, Study, StudyResult, Unread

PAGE = "report.html"
UNUSED = "UNUSED_REFERENCE"
HARMLESS = frozenset({"ZERO_AREA_CONTOUR", "REPEATED_CONTOUR", "NO_DATA"})
"""Remarks on files that leave out nothing that was meant."""


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A benchmark done, or as far as it got.

    Attributes
    ----------
    left : int
        Series that are still to do.
    """

    study: Study
    result: StudyResult
    figures: Figures
    left: int
    files: tuple[str, ...]

    @property
    def incomplete(self) -> bool:
        """Whether anything failed, or something given was of no use."""
        problems = [each for case in self.result.cases for each in case.problems if each.code not in HARMLESS]
        broken = [each for each in self.result.unread if each.code != UNUSED]
        return bool(problems or broken or not self.result.scored)

    @property
    def told(self) -> tuple[tuple[int, str], ...]:
        """What went wrong, in lines with their counts."""
        counts = Counter(
            f"{each.code} {each.model or each.reference}".strip()
            for case in self.result.cases
            for each in case.problems
        )
        counts.update(f"{each.code} (not read)" for each in self.result.unread)
        without = len(self.result.cases) - len(self.result.scored)
        rows = [(count, text) for text, count in counts.most_common()]
        return (*rows, *([(without, "series without a reference")] if without else []))

    def document(self) -> dict[str, object]:
        """For ``--json``; null where there is no value."""
        return {
            "source": self.study.source,
            "command": self.study.command,
            "models": [asdict(each) for each in self.result.models],
            "series": len(self.result.scored),
            "series_without_reference": len(self.result.cases) - len(self.result.scored),
            "left": self.left,
            "leaderboard": [_plain(asdict(each)) for each in self.figures.leaderboard],
            "retest": [_plain(each.row) for each in self.figures.retest],
            "froc": [_plain(each.row) for each in self.figures.frocs],
            "problems": [
                {"series": case.series_instance_uid, **asdict(each)}
                for case in self.result.cases
                for each in case.problems
            ],
            "unread": [asdict(each) for each in self.result.unread],
            "report": str(self.study.out / PAGE),
            "files": list(self.files),
        }


def rules_of(
    references: Sequence[str],
    labels: Path | None,
    crosswalk: Path | None,
    threshold: float,
    tolerances: Sequence[float],
) -> Rules:
    """How cases are read and scored; files of the user are judged before any work.

    Raises
    ------
    InvalidLabelTable, InvalidCrosswalk
        If such a file cannot be read.
    """
    reading = read_label_table(labels, threshold=threshold) if labels else Reading(threshold)
    load_crosswalk(crosswalk)
    return Rules(
        references=tuple(references),
        reading=reading,
        tolerances_mm=tuple(tolerances) or TOLERANCES_MM,
        crosswalk=str(crosswalk.resolve()) if crosswalk else "",
    )


def run_benchmark(study: Study, plan: Plan, stop: Event, console: Console) -> Benchmark:
    """All of it; what an earlier command did stays done.

    Raises
    ------
    NoReference
        If no reference can be read.
    RunMismatch, SearchError, AccessDenied
        As of ``enrich``.
    """
    references, unread = _places(study, study.rules.references, "references")
    predictions, more = _places(study, [each.place for each in study.predictions], "predictions")
    named = dict(zip((each.name for each in study.predictions), predictions, strict=True))
    ran = run_models(plan, study.results, stop, console) if study.wishes else None
    local = replace(study, rules=replace(study.rules, references=tuple(each.path for each in references)))
    state = _state(study, (*references, *predictions))
    pool = CasePool(study.cases, state, study.workers)
    try:
        sides = Sides(references, ran.candidates if ran else {}, named)
        loop = score_all(local, pool, sides, stop.is_set, console)
        result = _result(study, ran, loop, (*unread, *more, *_unused(references, loop)))
        figures = figures_of(result)
        drawn = _drawn(pool, figures, loop.requests)
    finally:
        pool.close()
    files = write_score_tables(result, figures)
    write_text(study.out / PAGE, benchmark_page(result, figures, drawn, files))
    left = loop.left + (ran.open if ran else 0)
    if not left:
        _remove_old_reports(study, result)
    return Benchmark(study, result, figures, left, files)


def _remove_old_reports(study: Study, result: StudyResult) -> None:
    """SR of an earlier command with other references or models."""
    kept = {Path(each) for case in result.cases for each in case.reports}
    for path in study.reports.glob("*/*.dcm"):
        if path not in kept:
            path.unlink()


def _places(study: Study, places: Sequence[str], kind: str) -> tuple[tuple[Place, ...], tuple[Unread, ...]]:
    """Places on this machine, and the files there that cannot be read."""
    found = [
        localised(place, study.rules.reading, study.scratch / f"{kind}-{number}")
        for number, place in enumerate(places, start=1)
    ]
    unread = [Unread(kind, each.code, each.reason) for place in found for each in place.references.passed_over]
    return tuple(found), tuple(unread)


def _state(study: Study, places: Sequence[Place]) -> str:
    """Of all files that decide scores beside the images."""
    crosswalk = Path(study.rules.crosswalk).read_bytes() if study.rules.crosswalk else b""
    return hashlib.sha256(crosswalk).hexdigest() + "".join(each.state for each in places)


def _result(study: Study, ran: ModelRun | None, loop: Loop, unread: Sequence[Unread]) -> StudyResult:
    _, faults = usable_pairs(loop.cases, study.retest if not loop.left else ())
    unpaired = [Unread("test and retest", each.code, each.reason) for each in faults]
    rows = unusable_rows(study.detectors, loop.cases) if not loop.left else ()
    unhit = [Unread("candidates", each.code, each.reason) for each in (*rows, *_without_curve(loop))]
    return StudyResult(study, loop.cases, _models(study), _spending(ran), (*loop.unread, *unread, *unpaired, *unhit))


def _without_curve(loop: Loop) -> tuple[Problem, ...]:
    """Detectors and readers without FROC; nothing is known of them while series are left."""
    return () if loop.left else lesionless(case for case in loop.cases if case.readers)


def _unused(references: Sequence[Place], loop: Loop) -> list[Unread]:
    """References of no series of the source; nothing is known of them while series are left."""
    claimed = {each.path for case in loop.cases for each in case.claimed}
    refused = [each.reason for case in loop.cases for each in case.problems]
    files = [file.path for place in references for file in place.references.files]
    reason = "is of no series of the source that could be read, or is an image beside its mask"
    return [
        Unread(str(path), UNUSED, reason)
        for path in files
        if str(path) not in claimed and not any(each.startswith(f"reference {path}: ") for each in refused)
    ]


def _models(study: Study) -> tuple[ModelSource, ...]:
    own = [
        ModelSource(
            each.card.name,
            each.card.version,
            each.card.weights_sha256,
            "this run",
            ", ".join(f"{name}={value}" for name, value in each.parameters),
        )
        for each in study.wishes
    ]
    made = [ModelSource(each.name, "", "", each.place) for each in study.predictions]
    detectors = [ModelSource(each.name, "", "", each.place) for each in study.detectors]
    return (*own, *made, *detectors)


def _spending(ran: ModelRun | None) -> tuple[Spending, ...]:
    if ran is None:
        return ()
    price = ran.summary.price
    told = f"{price.usd_per_hour} US$ an hour for {price.machine}, {price.dated}, {price.source}"
    usd: dict[str, dict[str, float]] = {}
    for row in ran.summary.series:
        if row.result == "completed":
            usd.setdefault(row.model, {})[row.series_instance_uid] = float(row.usd_loaded)
    return tuple(Spending(model, of, told) for model, of in usd.items())


def _drawn(pool: CasePool, figures: Figures, requests: dict[str, CaseRequest]) -> tuple[Picked, ...]:
    """The worst cases with pictures of their worst structure."""
    asked = [
        PictureRequest(requests[each.series_instance_uid], each.model, figures.reference, each.structures[0][0])
        for each in figures.worst
    ]
    return tuple(Picked(case, seen) for case, seen in zip(figures.worst, pool.draw(asked), strict=True))


def _plain(value: object) -> object:
    """Values that JSON holds: NaN is null."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
