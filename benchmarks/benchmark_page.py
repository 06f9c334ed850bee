"""The HTML page of a benchmark: self-contained, for the paper's author and its reviewer."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from ..runners.environment import git_commit, software
from ..runners.page import Link, render
from ..runners.pictures import Picture, flattened
from .agreement import BETWEEN_READERS
from .case_picture import COLORS
from .figures import Figures, WorstCase
from .froc_plot import froc_colors, froc_panel
from .involvement import Severity, severity_of
from .metrics.catalogue import metric_named
from .plots import (
    bland_altman_panels,
    box_plot,
    cost_panel,
    model_colors,
    retest_colors,
    retest_panels,
    volume_panel,
)
from .statistics import Summary
from .study import StudyResult

MOST_ROWS = 400
"""Rows of a table on the page; the CSV files have all."""


@dataclass(frozen=True, slots=True)
class Picked:
    """A case that is shown, and how it looks."""

    case: WorstCase
    pictures: tuple[Picture, ...]


@dataclass(frozen=True, slots=True)
class BoardRow:
    """A row of the leaderboard: one model under one reference, by all metrics."""

    model: str
    reference: str
    series: int
    failed: int
    structures: int
    by_metric: dict[str, Summary]


@dataclass(frozen=True, slots=True)
class Grouped:
    """A kind of thing that is listed once, with how often it was so and one example."""

    count: int
    words: tuple[str, ...]
    example: str


def benchmark_page(result: StudyResult, figures: Figures, worst: Sequence[Picked], files: Sequence[str]) -> str:
    """One self-contained HTML document."""
    metrics = list(dict.fromkeys(each.metric for each in (*figures.structures, *figures.readers)))
    by_structure = [each for each in (*figures.structures, *figures.readers) if each.metric == "dice"]
    surface = next((name for name in metrics if name.startswith("surface_dice_2")), "") or next(
        (name for name in metrics if name.startswith("surface_dice")), ""
    )
    plots = [box_plot(figures, "dice", "Dice")]
    plots += [box_plot(figures, surface, metric_named(surface).title)] if surface else []
    return render(
        "benchmark.html",
        study=result.study,
        result=result,
        figures=figures,
        at=datetime.now(UTC),
        titles={name: metric_named(name).title for name in metrics},
        units={name: metric_named(name).unit for name in metrics},
        board=_board(figures),
        ceiling=BETWEEN_READERS,
        colors=model_colors(figures),
        boxes=[plot for plot in plots if plot],
        volumes=volume_panel(figures),
        panels=bland_altman_panels(figures),
        cost=cost_panel(figures),
        retest_colors=retest_colors(figures),
        retest_panels=retest_panels(figures),
        froc_colors=froc_colors(figures),
        froc_panel=froc_panel(figures),
        most_rows=MOST_ROWS,
        worst=[(each.case, [(p, flattened(p)) for p in each.pictures]) for each in worst],
        outline_colors={name: f"rgb{color}" for name, color in COLORS.items()},
        severities=[each.value for each in Severity],
        severity_of=lambda percent: severity_of(percent).value,
        problems=_problems(result)[:MOST_ROWS],
        partners=_without_partner(result)[:MOST_ROWS],
        provenance=[(case.series_instance_uid, row) for case in result.scored for row in case.provenance][:MOST_ROWS],
        structures=by_structure[:MOST_ROWS],
        scored=len({each.segment for each in by_structure if each.series > each.undefined}),
        comparisons=[each for each in figures.comparisons if each.metric in ("dice", surface)][:MOST_ROWS],
        patients=len({case.patient for case in result.scored}),
        failed=sum(any(score.failure for score in case.scores) for case in result.scored),
        without_reference=len(result.cases) - len(result.scored),
        files=[Link(name, name) for name in files],
        software=software(),
        commit=git_commit(),
        value=value,
    )


def _board(figures: Figures) -> tuple[BoardRow, ...]:
    """The leaderboard with a row for each model under each reference, in its order."""
    structures: dict[tuple[str, str], set[str]] = {}
    for each in (*figures.structures, *figures.readers):
        if each.series > each.undefined:
            structures.setdefault((each.model, each.reference), set()).add(each.segment)
    rows: dict[tuple[str, str], dict[str, Summary]] = {}
    for each in figures.leaderboard:
        rows.setdefault((each.model, each.reference), {})[each.metric] = each
    return tuple(_board_row(of, len(structures.get(key, ()))) for key, of in rows.items())


def _board_row(of: dict[str, Summary], structures: int) -> BoardRow:
    any_of = next(iter(of.values()))
    return BoardRow(any_of.model, any_of.reference, any_of.series, any_of.failed, structures, of)


def value(number: float) -> str:
    """A score for people; a dash where it is undefined."""
    if math.isnan(number):
        return "–"
    return f"{number:.4f}" if abs(number) < 10 else f"{number:.1f}"  # noqa: PLR2004


def _problems(result: StudyResult) -> list[Grouped]:
    """What went wrong, the most frequent first."""
    counts: Counter[tuple[str, ...]] = Counter()
    examples: dict[tuple[str, ...], str] = {}
    for case in result.cases:
        for each in case.problems:
            key = (each.code, each.model, each.reference)
            counts[key] += 1
            examples.setdefault(key, f"{case.series_instance_uid}: {each.reason}")
    for unread in result.unread:
        key = (unread.code, "", "")
        counts[key] += 1
        examples.setdefault(key, f"{unread.what}: {unread.reason}")
    return [Grouped(count, key, examples[key]) for key, count in counts.most_common()]


def _without_partner(result: StudyResult) -> list[Grouped]:
    """Structures without partner, the expert's first."""
    counts: Counter[tuple[str, ...]] = Counter()
    reasons: dict[tuple[str, ...], str] = {}
    for case in result.scored:
        for each in case.without_partner:
            key = (each.side, each.structure, each.model, each.reference, each.code)
            counts[key] += 1
            reasons.setdefault(key, each.reason)
    ordered = sorted(counts.items(), key=lambda item: (item[0][0], -item[1], item[0]))
    return [Grouped(count, key, reasons[key]) for key, count in ordered]
