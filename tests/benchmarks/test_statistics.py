"""Summaries count everything, and say apart what failed and what was not there."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from voxfleet.benchmarks.bootstrap import Bootstrap
from voxfleet.benchmarks.score import Case, Score
from voxfleet.benchmarks.statistics import ALL_STRUCTURES, DuplicateScore, pool_structures, summarise

FEW = Bootstrap(replicates=50)


def score(patient, series, value, segment="liver", failure=None, model="A"):
    """A score of a series."""
    return Score(Case(patient, series, model), segment, "dice", value, "1", failure)


def test_summary_by_hand():
    """Five values 0, 0.4, 0.6, 0.8, 1 (the first a failure) and one undefined, of three patients."""
    scores = [
        score("P1", "1", 0.4),
        score("P1", "2", 0.8),
        score("P2", "3", 1.0),
        score("P2", "4", 0.6),
        score("P3", "5", 0.0, failure="OUT_OF_MEMORY"),
        score("P3", "6", math.nan),
    ]
    (summary,) = summarise(scores, FEW)
    assert (summary.series, summary.patients, summary.failed, summary.undefined) == (6, 3, 1, 1)
    # Sorted 0, 0.4, 0.6, 0.8, 1: the quartiles are the 2nd and 4th, the median the 3rd.
    assert (summary.q1, summary.median, summary.q3) == pytest.approx((0.4, 0.6, 0.8))
    assert summary.mean == pytest.approx(2.8 / 5)
    assert summary.mean_interval.low <= summary.mean <= summary.mean_interval.high


def test_a_failure_lowers_the_mean():
    """Left out, the failure would flatter: it counts as 0."""
    good = [score("P1", "1", 0.9), score("P2", "2", 0.9)]
    (without,) = summarise(good, FEW)
    (with_failure,) = summarise([*good, score("P3", "3", 0.0, failure="CRASH")], FEW)
    assert (without.mean, with_failure.mean) == pytest.approx((0.9, 0.6))


def test_groups_stay_apart_and_in_order():
    """A summary for each model, segment and metric, in the order in which they come."""
    scores = [score("P1", "1", 0.5, segment, model=model) for model in "BA" for segment in ("spleen", "liver")]
    assert [(each.model, each.segment) for each in summarise(scores, FEW)] == [
        ("B", "spleen"),
        ("B", "liver"),
        ("A", "spleen"),
        ("A", "liver"),
    ]


def test_nothing_defined():
    """A structure that is never there has counts and no values."""
    (summary,) = summarise([score("P1", "1", math.nan), score("P2", "2", math.nan)], FEW)
    assert (summary.series, summary.undefined) == (2, 2)
    assert all(math.isnan(value) for value in (summary.median, summary.mean, summary.mean_interval.low))


def test_twice_is_refused():
    """A series that is there twice would count twice."""
    with pytest.raises(DuplicateScore, match="dice of liver by A is there twice"):
        summarise([score("P1", "1", 0.5), score("P1", "1", 0.6)])


def test_structures_are_pooled_by_series():
    """One value a series: the mean of what is there; a failure stays one."""
    scores = [
        score("P1", "1", 0.5),
        score("P1", "1", 0.9, "spleen"),
        score("P1", "1", math.nan, "uterus"),
        score("P2", "2", 0.0, failure="CRASH"),
        score("P2", "2", 0.0, "spleen", failure="CRASH"),
    ]
    pooled = pool_structures(scores)
    assert [(each.segment, each.value, each.failure) for each in pooled] == [
        (ALL_STRUCTURES, pytest.approx(0.7), None),
        (ALL_STRUCTURES, 0.0, "CRASH"),
    ]


def test_a_large_study_takes_seconds():
    """104 structures of 100 patients and two models, with intervals, in CPU seconds."""
    values = np.random.default_rng(0).random((2, 104, 100))
    scores = [
        score(f"P{patient}", str(patient), float(values[model, segment, patient]), str(segment), model="AB"[model])
        for model, segment, patient in np.ndindex(values.shape)
    ]
    start = time.process_time()
    assert len(summarise(scores)) == 208
    assert time.process_time() - start < 20
