"""Labels of whole images, by readers and models: from exports of MD.ai and from tables."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import Error
from .references import mdai_json
from .references.mark import GlobalLabel

IMAGE_COLUMNS = ("image", "series", "study")
"""Column of a table that tells the image: the first of these that is there."""
LEAST_CATEGORIES = 2


class LabelsUnusable(Error):
    """A table or a choice of labels that nothing can be compared by."""

    code = "LABELS_UNUSABLE"

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(where, reason)

    def __str__(self) -> str:
        where, reason = self.args
        return f"{where}: {reason}"


@dataclass(frozen=True, slots=True)
class ImageLabel:
    """What one reader or model says of one image.

    Attributes
    ----------
    image : str
        UID of the study, the series or the instance, as the label is of one or the other.
    """

    image: str
    rater: str
    label: str


@dataclass(frozen=True, slots=True)
class Question:
    """Labels of which an image has one.

    Attributes
    ----------
    categories : tuple of str
        In their order, from least to most, where there is one.
    """

    categories: tuple[str, ...]
    ordered: bool

    @property
    def name(self) -> str:
        """As tables call it."""
        return " | ".join(self.categories)


def read_reader_labels(path: Path) -> tuple[ImageLabel, ...]:
    """Labels of readers: an export of MD.ai, or a CSV table with columns image, reader and label.

    Raises
    ------
    LabelsUnusable
        If a table lacks a column or a value, or nothing is labelled.
    UnreadableReference
        If an export cannot be read.
    """
    if mdai_json.recognises(path):
        found = tuple(_of_export(each) for each in mdai_json.read_labels(path))
        if not found:
            raise LabelsUnusable(str(path), "the export has no label of a study, series or instance as a whole")
        return found
    return tuple(ImageLabel(row["image"], row["reader"], row["label"]) for row in _rows(path, ("reader", "label")))


def read_model_labels(path: Path, model: str) -> tuple[ImageLabel, ...]:
    """Labels of a model: a CSV table with columns image and label.

    Raises
    ------
    LabelsUnusable
        As of `read_reader_labels`.
    """
    return tuple(ImageLabel(row["image"], model, row["label"]) for row in _rows(path, ("label",)))


def questions_of(categories: Sequence[str], labels: Iterable[ImageLabel]) -> tuple[Question, ...]:
    """Questions as the user put them, categories with commas between; else one of all labels there are.

    Raises
    ------
    LabelsUnusable
        If a question has under two categories, or two have one in common.
    """
    if not categories:
        return (Question(tuple(sorted({each.label for each in labels})), ordered=False),)
    questions = tuple(
        Question(tuple(name.strip() for name in text.split(",") if name.strip()), ordered=True) for text in categories
    )
    for text, question in zip(categories, questions, strict=True):
        if len(question.categories) < LEAST_CATEGORIES:
            raise LabelsUnusable(f"--categories {text}", "give two or more with commas between them, least to most")
    counts = Counter(name for question in questions for name in question.categories)
    for name, count in counts.items():
        if count > 1:
            raise LabelsUnusable(f"--categories: {name}", "is there twice: a label answers one question")
    return questions


def _of_export(label: GlobalLabel) -> ImageLabel:
    image = label.sop_instance_uid or label.series_instance_uid or label.study_instance_uid
    return ImageLabel(image, label.reader or label.group, label.name)


def _rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Rows with their image under one name."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            names, rows = reader.fieldnames or (), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        raise LabelsUnusable(str(path), f"is neither an export of MD.ai nor a CSV table: {exc}") from exc
    image = next((name for name in IMAGE_COLUMNS if name in names), None)
    if image is None or not {*columns} <= {*names}:
        wanted = ", ".join((f"one of {', '.join(IMAGE_COLUMNS)}", *columns))
        raise LabelsUnusable(str(path), f"the table's columns are {', '.join(names) or 'none'}: it needs {wanted}")
    found = [{"image": row[image] or "", **{name: row[name] or "" for name in columns}} for row in rows]
    for number, row in enumerate(found, start=2):
        if not all(row.values()):
            raise LabelsUnusable(str(path), f"line {number} lacks {next(name for name in row if not row[name])}")
    if not found:
        raise LabelsUnusable(str(path), "the table has no row")
    return found
