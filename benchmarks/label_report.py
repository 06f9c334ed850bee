"""Tables and page of labels of whole images."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from ..enrich.atomic import write_text
from ..runners.environment import git_commit, software
from ..runners.page import Link, render
from .benchmark_page import MOST_ROWS, value
from .label_agreement import Answers, LabelScore
from .metrics.cohen_kappa import Kappa
from .score_tables import write_table

PAGE = "report.html"
DOCUMENT = "labels.json"


def write_label_report(
    answers: Sequence[Answers], left_out: Sequence[tuple[str, int]], command: str, out: Path
) -> dict[str, object]:
    """Write everything into a folder, each file whole or not at all; what the JSON document holds.

    Parameters
    ----------
    left_out : sequence of (str, int)
        Labels that answer none of the questions, and how often they were given.
    """
    tables = {
        "label-agreement": [row for each in answers for row in _score_rows(each)],
        "label-confusion": [row for each in answers for row in _confusion_rows(each)],
        "agreed-labels": [row for each in answers for row in _agreed_rows(each)],
        "label-problems": [row for each in answers for row in _problem_rows(each)],
    }
    files = [f"{name}.csv" for name, rows in tables.items() if write_table(out / f"{name}.csv", rows)]
    document: dict[str, object] = {
        "command": command,
        "questions": [_question(each) for each in answers],
        "labels_left_out": dict(left_out),
        **{name.replace("-", "_"): rows for name, rows in tables.items()},
        "files": [PAGE, DOCUMENT, *files],
    }
    write_text(out / DOCUMENT, json.dumps(document, indent=1, allow_nan=False))
    page = render(
        "benchmark_labels.html",
        answers=answers,
        left_out=left_out,
        command=command,
        at=datetime.now(UTC),
        files=[Link(name, name) for name in (DOCUMENT, *files)],
        problems=tables["label-problems"],
        most=MOST_ROWS,
        software=software(),
        commit=git_commit(),
        value=value,
    )
    write_text(out / PAGE, page)
    return document


def _question(each: Answers) -> dict[str, object]:
    return {
        "question": each.question.name,
        "readers": list(each.readers),
        "images_agreed": len(each.agreed),
        "fleiss_kappa": _number(each.fleiss.value),
        "fleiss_images": each.fleiss.images,
        "fleiss_raters": each.fleiss.raters,
    }


def _score_rows(answers: Answers) -> Iterator[dict[str, object]]:
    for each in answers.scores:
        yield {
            "question": answers.question.name,
            "reference": each.reference,
            "model": each.model,
            "images": each.images,
            "failed": each.failed,
            "accuracy": each.accuracy,
            **_kappa("kappa", each.kappa),
            **_kappa("kappa_linear", each.linear),
            **_kappa("kappa_quadratic", each.quadratic),
        }


def _kappa(name: str, kappa: Kappa) -> dict[str, object]:
    ends = {"low": kappa.interval.low, "high": kappa.interval.high}
    return {name: _number(kappa.value), **{f"{name}_{end}": _number(at) for end, at in ends.items()}}


def _confusion_rows(answers: Answers) -> Iterator[dict[str, object]]:
    for score in answers.scores:
        for reference, model, images in _cells(score):
            yield {
                "question": answers.question.name,
                "reference": score.reference,
                "model": score.model,
                "reference_label": reference,
                "model_label": model,
                "images": images,
            }


def _cells(score: LabelScore) -> Iterator[tuple[str, str, int]]:
    for row, reference in enumerate(score.categories):
        for column, model in enumerate(score.categories):
            yield reference, model, int(score.confusion[row, column])


def _agreed_rows(answers: Answers) -> Iterator[dict[str, object]]:
    for image, each in answers.agreed.items():
        yield {
            "question": answers.question.name,
            "image": image,
            "label": each.label,
            "decided_by": each.decided_by.value,
        }


def _problem_rows(answers: Answers) -> Iterator[dict[str, object]]:
    for each in answers.problems:
        yield {
            "question": answers.question.name,
            "code": each.code,
            "image": each.image,
            "rater": each.rater,
            "reason": each.reason,
        }


def _number(number: float) -> float | None:
    """For JSON and tables: nothing where a value is undefined."""
    return None if math.isnan(number) else number
