"""Models are compared patient by patient, and structures share the risk of chance."""

from __future__ import annotations

import math

import numpy as np
import pytest
from voxfleet.benchmarks.bootstrap import Bootstrap
from voxfleet.benchmarks.comparison import MissingScore, compare_models
from voxfleet.benchmarks.score import Case, Score

pingouin = pytest.importorskip("pingouin")
FEW = Bootstrap(replicates=200)


def scores_of(model, values, segment="liver", patients=None, metric="dice"):
    """Scores of one model, a series for each value."""
    owners = patients or [f"P{number}" for number in range(len(values))]
    return [
        Score(Case(owner, f"1.{number}", model), segment, metric, value, "1")
        for number, (owner, value) in enumerate(zip(owners, values, strict=True))
    ]


def test_signed_rank_by_hand():
    """Six patients, all better by different amounts: of 64 sign patterns 2 are as extreme, p = 2 / 64."""
    gains = [0.01, 0.02, 0.03, 0.04, 0.05, 0.06]
    (found,) = compare_models(scores_of("A", [0.5] * 6) + scores_of("B", [0.5 + gain for gain in gains]), FEW)
    assert (found.first, found.second, found.patients) == ("A", "B", 6)
    assert found.p_value == found.p_adjusted == pytest.approx(2 / 64)
    assert found.mean_difference == pytest.approx(0.035)
    assert found.median_difference == pytest.approx(0.035)
    assert 0.01 <= found.interval.low < 0.035 < found.interval.high <= 0.06


def test_equals_pingouin():
    """Wilcoxon's p-value is pingouin's, and Holm's correction over structures too."""
    generator = np.random.default_rng(4)
    scores, expected = [], []
    for number in range(6):
        one = generator.random(15)
        other = one + generator.normal(0.02 * number, 0.05, 15)
        scores += scores_of("A", one, str(number)) + scores_of("B", other, str(number))
        expected.append(float(pingouin.wilcoxon(other, one).iloc[0].filter(regex="(?i)^p").iloc[0]))
    found = compare_models(scores, FEW)
    assert [each.p_value for each in found] == pytest.approx(expected)
    assert [each.p_adjusted for each in found] == pytest.approx(pingouin.multicomp(expected, method="holm")[1])


def test_holm_by_hand():
    """Of three structures with p = 1/32, 1/16, 1/8 the smallest is taken three times, the next twice."""
    scores = []
    for segment, patients in (("a", 6), ("b", 5), ("c", 4)):
        scores += scores_of("A", [0.0] * patients, segment)
        scores += scores_of("B", [0.1 * (number + 1) for number in range(patients)], segment)
    found = compare_models(scores, FEW)
    assert [each.p_value for each in found] == pytest.approx([1 / 32, 1 / 16, 1 / 8])
    assert [each.p_adjusted for each in found] == pytest.approx([3 / 32, 2 / 16, 1 / 8])


def test_patients_count_once():
    """Two series of one patient are one difference, their mean."""
    patients = ["P1", "P1", "P2"]
    (found,) = compare_models(
        scores_of("A", [0.5, 0.5, 0.5], patients=patients) + scores_of("B", [0.6, 0.8, 0.5], patients=patients), FEW
    )
    assert found.patients == 2
    assert found.mean_difference == pytest.approx((0.2 + 0.0) / 2)


def test_rightly_empty_is_best():
    """Who finds nothing where nothing is beats who makes something up; where both do, none wins."""
    (found,) = compare_models(scores_of("A", [math.nan, math.nan, 0.5]) + scores_of("B", [0.0, math.nan, 0.5]), FEW)
    assert found.patients == 2
    assert found.mean_difference == pytest.approx((0 - 1) / 2)


def test_no_difference_and_no_values():
    """Models that are alike have p = 1; without a value there is no p, and no part in the correction."""
    (found,) = compare_models(scores_of("A", [0.5, 0.6]) + scores_of("B", [0.5, 0.6]), FEW)
    assert found.p_value == found.p_adjusted == 1.0
    (found,) = compare_models(scores_of("A", [math.nan]) + scores_of("B", [math.nan]), FEW)
    assert found.patients == 0
    assert math.isnan(found.p_value)
    assert math.isnan(found.p_adjusted)


def test_nothing_is_dropped():
    """A series that one model was not scored on is an error that names it."""
    with pytest.raises(MissingScore, match=r"B has no score of liver in series 1\.2: score it, or give its failure"):
        compare_models(scores_of("A", [0.5] * 3) + scores_of("B", [0.5] * 2))
