"""The command ``voxfleet benchmark-labels``: readers' labels of whole images, and models held against them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from ..runners.cli import EXIT_INCOMPLETE
from .command import predictions_of, typed
from .study import check_installed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .label_agreement import Answers


def benchmark_labels(
    reference: Annotated[
        list[Path],
        typer.Argument(exists=True, dir_okay=False, help="Readers' labels: MD.ai JSON, or CSV image,reader,label."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for page and tables; made if absent.")],
    predictions: Annotated[
        list[str] | None,
        typer.Option("--predictions", "-p", help="A model's labels, CSV image,label: FILE or FILE=NAME; repeatable."),
    ] = None,
    categories: Annotated[
        list[str] | None,
        typer.Option(help="Labels that exclude each other, least to most, with commas between; one for each question."),
    ] = None,
    adjudicator: Annotated[str, typer.Option(help="Reader who decides where the others have no majority.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of a table.")] = False,
) -> None:
    """Labels of whole images, as of radiographs: what readers agree on, their kappas, and models against them.

    RICORD's rule: what more than half of the readers say, else the adjudicator. Exit code 0: every image has
    its label; 3: images without a majority or with several labels by one reader, or models without a label;
    1: error.
    """
    check_installed()
    from .image_labels import LabelsUnusable, questions_of, read_model_labels, read_reader_labels
    from .label_agreement import answer
    from .label_report import PAGE, write_label_report

    named = [predictions_of(each) for each in predictions or []]
    readers = [label for path in reference for label in read_reader_labels(path)]
    models = [label for each in named for label in read_model_labels(Path(each.place), each.name)]
    if adjudicator and adjudicator not in {each.rater for each in readers}:
        known = ", ".join(sorted({each.rater for each in readers}))
        raise LabelsUnusable(f"--adjudicator {adjudicator}", f"labels nothing; readers are {known}")
    questions = questions_of(categories or [], [*readers, *models])
    asked = {name for question in questions for name in question.categories}
    left_out = Counter(each.label for each in (*readers, *models) if each.label not in asked).most_common()
    answers = [answer(question, readers, models, adjudicator) for question in questions]
    out.mkdir(parents=True, exist_ok=True)
    document = write_label_report(answers, left_out, typed(), out)
    if as_json:
        Console(soft_wrap=True, highlight=False).print_json(json.dumps(document, allow_nan=False))
    else:
        _show(answers, left_out, out / PAGE)
    incomplete = any(each.problems or any(score.failed for score in each.scores) for each in answers)
    raise typer.Exit(EXIT_INCOMPLETE if incomplete else 0)


def _show(answers: Sequence[Answers], left_out: Sequence[tuple[str, int]], page: Path) -> None:
    """A table for each question, and what is wrong."""
    from .benchmark_page import value

    console = Console(soft_wrap=True, highlight=False)
    for each in answers:
        table = Table(Column("model", overflow="fold"), Column("reference", overflow="fold"), title=each.question.name)
        for name in ("images", "failed", "accuracy", "kappa"):
            table.add_column(name)
        for score in each.scores:
            numbers = (str(score.images), str(score.failed), value(score.accuracy), value(score.kappa.value))
            table.add_row(score.model, score.reference, *numbers)
        console.print(table)
        of = f"{each.fleiss.raters} readers of {each.fleiss.images} images"
        console.print(f"Fleiss' kappa of {of}: {value(each.fleiss.value)}; {len(each.agreed)} images have a label")
        for code, count in Counter(problem.code for problem in each.problems).most_common():
            console.print(f"{count:6} {code}")
    for label, count in left_out:
        console.print(f"{count:6} labels {label} answer no --categories", markup=False)
    console.print(f"page: {page}")
