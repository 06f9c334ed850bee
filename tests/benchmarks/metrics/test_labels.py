"""Metrics of labels are those of other libraries and of the papers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from voxfleet.benchmarks.metrics.accuracy import accuracy
from voxfleet.benchmarks.metrics.cohen_kappa import Weights, cohen_kappa
from voxfleet.benchmarks.metrics.confusion_matrix import LabelsDiffer, confusion_matrix
from voxfleet.benchmarks.metrics.fleiss_kappa import fleiss_kappa

CATEGORIES = ["none", "mild", "moderate", "severe"]
GENERATOR = np.random.default_rng(11)
REFERENCE = [CATEGORIES[n] for n in GENERATOR.integers(0, 4, 60)]
PREDICTION = [label if GENERATOR.random() < 0.6 else CATEGORIES[GENERATOR.integers(0, 4)] for label in REFERENCE]

# Ten subjects, 14 raters, five categories: how many raters chose each.
VOTES = [
    (0, 0, 0, 0, 14),
    (0, 2, 6, 4, 2),
    (0, 0, 3, 5, 6),
    (0, 3, 9, 2, 0),
    (2, 2, 8, 1, 1),
    (7, 7, 0, 0, 0),
    (3, 2, 6, 3, 0),
    (2, 5, 3, 2, 2),
    (6, 5, 2, 1, 0),
    (0, 2, 2, 3, 7),
]


def test_confusion_by_hand():
    """Rows are the reference's."""
    found = confusion_matrix(["a", "a", "b"], ["a", "b", "b"], ["a", "b", "c"])
    assert found.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]


def test_equal_to_scikit_learn():
    """Confusion matrix, accuracy and the three kappas are scikit-learn's."""
    sklearn = pytest.importorskip("sklearn.metrics")
    assert np.array_equal(
        confusion_matrix(REFERENCE, PREDICTION, CATEGORIES),
        sklearn.confusion_matrix(REFERENCE, PREDICTION, labels=CATEGORIES),
    )
    assert accuracy(REFERENCE, PREDICTION) == sklearn.accuracy_score(REFERENCE, PREDICTION)
    for weights in Weights:
        theirs = sklearn.cohen_kappa_score(
            REFERENCE, PREDICTION, labels=CATEGORIES, weights=None if weights is Weights.NONE else weights.value
        )
        assert cohen_kappa(REFERENCE, PREDICTION, CATEGORIES, weights).value == pytest.approx(theirs, rel=1e-9)


def test_kappa_by_hand():
    """20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no: observed 0.7, by chance 0.5 * 0.6 + 0.5 * 0.4, kappa 0.4."""
    pairs = [("y", "y")] * 20 + [("y", "n")] * 5 + [("n", "y")] * 10 + [("n", "n")] * 15
    found = cohen_kappa(*map(list, zip(*pairs, strict=True)), categories=["y", "n"])
    assert found.value == pytest.approx(0.4)
    assert found.interval.low < 0.4 < found.interval.high


def test_weights_count_the_distance():
    """Off by one is better than off by three under linear weights, and the same without."""
    near, far = ["mild", "mild", "severe"], ["severe", "mild", "severe"]
    reference = ["none", "mild", "severe"]
    linear = [cohen_kappa(reference, each, CATEGORIES, Weights.LINEAR).value for each in (near, far)]
    assert linear[0] > linear[1]


def test_fleiss_by_hand():
    """Squares of the votes sum to 828: pairs that agree are (828 - 140) / (10 * 14 * 13).

    The categories have 20, 28, 39, 21 and 32 of 140 votes, squares sum to 4170 / 140**2.
    """
    ratings = [[str(category) for category, times in enumerate(row) for _ in range(times)] for row in VOTES]
    seen, chance = (828 - 140) / (10 * 14 * 13), 4170 / 140**2
    assert fleiss_kappa(ratings) == pytest.approx((seen - chance) / (1 - chance))
    assert fleiss_kappa(ratings) == pytest.approx(0.210, abs=0.0005)


def test_one_category_only():
    """Where only one label occurs there is nothing to agree on beyond chance."""
    assert math.isnan(cohen_kappa(["a"] * 3, ["a"] * 3, ["a", "b"]).value)
    assert math.isnan(fleiss_kappa([["a", "a"], ["a", "a"]]))


def test_what_is_refused():
    """Labels that are unpaired, none or unknown."""
    with pytest.raises(LabelsDiffer, match="1 labels of the reference, 2 of the prediction"):
        accuracy(["a"], ["a", "b"])
    with pytest.raises(LabelsDiffer, match="0 labels of the reference"):
        accuracy([], [])
    with pytest.raises(LabelsDiffer, match="label 'd' is not among the categories a, b"):
        confusion_matrix(["a"], ["d"], ["a", "b"])
    with pytest.raises(LabelsDiffer, match="2 images: each needs a label from as many raters"):
        fleiss_kappa([["a", "b"], ["a"]])
