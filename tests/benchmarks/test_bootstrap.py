"""Intervals are those of SciPy where each patient has one series, and wider where series hang together."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from voxfleet.benchmarks.bootstrap import Bootstrap

VALUES = np.random.default_rng(5).beta(8, 2, 40)
MANY = Bootstrap(replicates=20_000, seed=1)


@pytest.mark.parametrize("statistic", ["mean", "median"])
def test_equals_scipy_up_to_chance(statistic):
    """Percentile intervals agree with scipy.stats.bootstrap to a twentieth of their width."""
    theirs = stats.bootstrap(
        (VALUES,), getattr(np, statistic), n_resamples=20_000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    ours = getattr(MANY, statistic)(VALUES, np.arange(len(VALUES)))
    assert [ours.low, ours.high] == pytest.approx([theirs.low, theirs.high], abs=(theirs.high - theirs.low) / 20)


def test_series_of_one_patient_are_drawn_together():
    """Each series twice tells nothing new: the interval stays that of the patients, and does not shrink."""
    patient = np.arange(len(VALUES))
    for statistic in ("mean", "median"):
        once = getattr(MANY, statistic)(VALUES, patient)
        twice = getattr(MANY, statistic)(np.repeat(VALUES, 2), np.repeat(patient, 2))
        assert (twice.low, twice.high) == pytest.approx((once.low, once.high), abs=1e-12)
        independent = getattr(MANY, statistic)(np.repeat(VALUES, 2), np.arange(2 * len(VALUES)))
        assert independent.high - independent.low < 0.85 * (once.high - once.low)


def test_median_by_hand():
    """Two patients with 0 and 1: of the samples a quarter is 00, half 01, a quarter 11; medians 0, 1/2, 1."""
    found = Bootstrap(replicates=4000, confidence=0.4).median(np.array([1.0, 0.0]), np.array([0, 1]))
    assert (found.low, found.high) == (0.5, 0.5)
    found = Bootstrap(replicates=4000, confidence=0.95).median(np.array([1.0, 0.0]), np.array([0, 1]))
    assert (found.low, found.high) == (0.0, 1.0)


def test_seed_decides():
    """The same seed gives the same interval, another one another."""
    patient = np.arange(len(VALUES))
    assert Bootstrap(seed=7).mean(VALUES, patient) == Bootstrap(seed=7).mean(VALUES, patient)
    assert Bootstrap(seed=7).mean(VALUES, patient) != Bootstrap(seed=8).mean(VALUES, patient)


@pytest.mark.parametrize("statistic", ["mean", "median"])
def test_one_patient_has_no_interval(statistic):
    """Of one patient, however many series, nothing is known of others."""
    found = getattr(Bootstrap(), statistic)(np.array([0.5, 0.9]), np.array([0, 0]))
    assert math.isnan(found.low)
    assert math.isnan(found.high)
