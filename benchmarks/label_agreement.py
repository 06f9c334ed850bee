"""Labels of whole images: what readers agree on, how well they do, and models held against it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from .agreement import LEAST_READERS, AgreedLabel, NoMajority, agree_on_label
from .bootstrap import NO_INTERVAL
from .image_labels import ImageLabel, Question
from .metrics.accuracy import accuracy
from .metrics.cohen_kappa import Kappa, Weights, cohen_kappa
from .metrics.confusion_matrix import confusion_matrix
from .metrics.fleiss_kappa import fleiss_kappa

AGREED = "agreed"
"""Name of the readers' agreed labels as a reference."""
NO_LABEL = "no label"
"""Category of an image that a model gave no label, or several."""
UNDEFINED = Kappa(math.nan, NO_INTERVAL)

Labels = Mapping[str, str]
"""One rater's label by the image."""


@dataclass(frozen=True, slots=True)
class LabelProblem:
    """An image that could not be used as it should be."""

    code: str
    image: str
    rater: str
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class LabelScore:
    """One rater held against another, or against what the readers agreed on.

    Attributes
    ----------
    failed : int
        Images that the model gave no label: they count as wrong, in a category of their own.
    linear, quadratic : Kappa
        Weighted; NaN where categories have no order, or images failed.
    confusion : ndarray of int, shape (n, n)
        Reference in rows, model in columns, in the order of `categories`.
    """

    reference: str
    model: str
    images: int
    failed: int
    accuracy: float
    kappa: Kappa
    linear: Kappa
    quadratic: Kappa
    categories: tuple[str, ...]
    confusion: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Fleiss:
    """Fleiss' kappa of the images that as many readers labelled as most; NaN where there are none."""

    value: float
    images: int
    raters: int


@dataclass(frozen=True, slots=True)
class Answers:
    """All that is known of one question.

    Attributes
    ----------
    agreed : mapping of str to AgreedLabel
        By the image; not there: no majority and no adjudicator.
    """

    question: Question
    readers: tuple[str, ...]
    fleiss: Fleiss
    agreed: Mapping[str, AgreedLabel]
    scores: tuple[LabelScore, ...]
    problems: tuple[LabelProblem, ...]


def answer(
    question: Question, readers: Iterable[ImageLabel], models: Iterable[ImageLabel], adjudicator: str = ""
) -> Answers:
    """Agreement of readers among each other and of models with them, on one question.

    Parameters
    ----------
    adjudicator : str
        The reader who decides where the others have no majority, and is none of them; empty for none.
    """
    problems: list[LabelProblem] = []
    of_readers = _by_rater(question, readers, problems)
    of_models = _by_rater(question, models, problems)
    decides = of_readers.pop(adjudicator, {})
    agreed = _agreed(of_readers, decides, problems)
    scores = [
        _score(question, (first, one), (second, {image: other[image] for image in one if image in other}))
        for (first, one), (second, other) in combinations(of_readers.items(), 2)
    ]
    references = {AGREED: {image: each.label for image, each in agreed.items()}, **of_readers}
    for model in of_models.items():
        scores += [_score(question, reference, model, whole=True) for reference in references.items()]
    return Answers(
        question=question,
        readers=tuple(of_readers),
        fleiss=_fleiss(_by_image(of_readers)),
        agreed=agreed,
        scores=tuple(each for each in scores if each is not None),
        problems=tuple(problems),
    )


def _by_rater(
    question: Question, labels: Iterable[ImageLabel], problems: list[LabelProblem]
) -> dict[str, dict[str, str]]:
    """The one label of each image by each rater; one of several minds has said nothing."""
    said: dict[str, dict[str, set[str]]] = {}
    for each in labels:
        if each.label in question.categories:
            said.setdefault(each.rater, {}).setdefault(each.image, set()).add(each.label)
    for rater, images in said.items():
        problems += [
            LabelProblem("SEVERAL_LABELS", image, rater, f"has {' and '.join(sorted(names))}: see --categories")
            for image, names in images.items()
            if len(names) > 1
        ]
    return {
        rater: {image: next(iter(names)) for image, names in images.items() if len(names) == 1}
        for rater, images in said.items()
    }


def _by_image(readers: Mapping[str, Labels]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for labels in readers.values():
        for image, label in labels.items():
            found.setdefault(image, []).append(label)
    return found


def _agreed(readers: Mapping[str, Labels], decides: Labels, problems: list[LabelProblem]) -> dict[str, AgreedLabel]:
    labels = _by_image(readers)
    agreed = {}
    for image in dict.fromkeys((*labels, *decides)):
        try:
            agreed[image] = agree_on_label(labels.get(image, ()), decides.get(image))
        except NoMajority as exc:
            problems.append(LabelProblem(exc.code, image, "", str(exc)))
    return agreed


def _fleiss(labels: Mapping[str, Sequence[str]]) -> Fleiss:
    counts = Counter(len(each) for each in labels.values() if len(each) >= LEAST_READERS)
    if not counts:
        return Fleiss(math.nan, 0, 0)
    raters = max(counts, key=lambda number: (counts[number], number))
    ratings = [each for each in labels.values() if len(each) == raters]
    return Fleiss(fleiss_kappa(ratings), len(ratings), raters)


def _score(
    question: Question, reference: tuple[str, Labels], model: tuple[str, Labels], *, whole: bool = False
) -> LabelScore | None:
    """A rater under a reference; `whole`: on all of its images. None without an image."""
    (reference_name, truth), (name, found) = reference, model
    images = [image for image in truth if whole or image in found]
    if not images:
        return None
    one, other = [truth[image] for image in images], [found.get(image, NO_LABEL) for image in images]
    failed = other.count(NO_LABEL)
    categories = (*question.categories, *([NO_LABEL] if failed else []))
    weighted = question.ordered and not failed
    linear, quadratic = (
        cohen_kappa(one, other, categories, weights) if weighted else UNDEFINED
        for weights in (Weights.LINEAR, Weights.QUADRATIC)
    )
    return LabelScore(
        reference=reference_name,
        model=name,
        images=len(images),
        failed=failed,
        accuracy=accuracy(one, other),
        kappa=cohen_kappa(one, other, categories),
        linear=linear,
        quadratic=quadratic,
        categories=categories,
        confusion=confusion_matrix(one, other, categories),
    )
