"""Repeatability, intraclass correlation and limits of agreement are those of the papers, and pingouin's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from voxfleet.benchmarks.repeatability import IccForm, UnpairedMeasurements, bland_altman, icc, repeatability

# Bland and Altman, Lancet 1986;327:307, table 1: peak expiratory flow of 17 subjects in l/min, with
# a Wright and a mini meter, twice each.
WRIGHT = [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427]
WRIGHT_AGAIN = [490, 397, 512, 401, 470, 611, 415, 431, 638, 429, 420, 633, 275, 492, 165, 372, 421]
MINI = [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451]

# Shrout and Fleiss, Psychol Bull 1979;86:420, table 2: six targets, four judges; table 4: the coefficients.
RATINGS = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]


def test_limits_of_agreement_as_published():
    """Mini less Wright: mean 2.1, SD 38.8, limits -73.9 and 78.1 by 1.96 SD (published with 2 SD: -75.5 and 79.7)."""
    found = bland_altman(WRIGHT, MINI)
    assert (round(found.bias, 1), round(found.sd, 1)) == (2.1, 38.8)
    assert (round(found.bias - 2 * found.sd, 1), round(found.bias + 2 * found.sd, 1)) == pytest.approx(
        (-75.5, 79.7), abs=0.11
    )
    assert (found.lower, found.upper) == pytest.approx((found.bias - 1.96 * found.sd, found.bias + 1.96 * found.sd))


def test_intervals_of_limits_as_published():
    """Bias from -22.0 to 17.8 and the limits' standard error of 16.3, sides changed (Wright less mini)."""
    found = bland_altman(MINI, WRIGHT)
    assert (found.bias_interval.low, found.bias_interval.high) == pytest.approx((-22.0, 17.8), abs=0.1)
    # The paper of 1986 rounds the factor 1 / n + 1.96**2 / 2 / (n - 1) to 3 / n.
    for interval in (found.lower_interval, found.upper_interval):
        assert (interval.high - interval.low) / 2 / stats.t.ppf(0.975, 16) == pytest.approx(16.3, rel=0.01)


def test_repeatability_as_published():
    """The Wright meter's within-subject SD is 15.3 l/min, so that 95 % of repeats lie within 42.4."""
    found = repeatability(WRIGHT, WRIGHT_AGAIN)
    assert found.subjects == 17
    assert round(found.within_subject_sd, 1) == 15.3
    assert found.coefficient == pytest.approx(1.96 * math.sqrt(2) * found.within_subject_sd)


def test_repeatability_by_hand():
    """Differences 2, -2, 4: sum of squares 24, within-subject variance 24 / 6 = 4."""
    found = repeatability([10, 20, 30], [12, 18, 34])
    assert found.within_subject_sd == pytest.approx(2.0)
    assert found.coefficient == pytest.approx(1.96 * math.sqrt(8))
    # Relative differences 2/11, 2/19, 4/32.
    squares = (2 / 11) ** 2 + (2 / 19) ** 2 + (4 / 32) ** 2
    assert found.within_subject_cv_percent == pytest.approx(100 * math.sqrt(squares / 6))


def test_repeatability_interval_holds_the_truth():
    """Of 400 studies with a known coefficient about 95 % have it in their interval."""
    generator = np.random.default_rng(6)
    truth = 1.96 * math.sqrt(2) * 3.0
    held = 0
    for _ in range(400):
        level = generator.normal(100, 20, 12)
        found = repeatability(level + generator.normal(0, 3, 12), level + generator.normal(0, 3, 12))
        held += found.interval.low <= truth <= found.interval.high
    assert held / 400 == pytest.approx(0.95, abs=0.03)


@pytest.mark.parametrize(
    ("form", "published"), [(IccForm.ONE_WAY, 0.17), (IccForm.AGREEMENT, 0.29), (IccForm.CONSISTENCY, 0.71)]
)
def test_icc_as_published(form, published):
    """The three single-rater coefficients of Shrout and Fleiss."""
    assert round(icc(RATINGS, form).value, 2) == published


@pytest.mark.parametrize("seed", range(4))
def test_icc_equals_pingouin(seed):
    """Values and 95 % intervals are pingouin's."""
    pingouin = pytest.importorskip("pingouin")
    pandas = pytest.importorskip("pandas")
    generator = np.random.default_rng(seed)
    table = generator.normal(50, 10, (12, 1)) + generator.normal(0, 4, (12, 3)) + generator.normal(0, 3, (1, 3))
    long = pandas.DataFrame(
        [(n, k, table[n, k]) for n, k in np.ndindex(table.shape)], columns=["subject", "rater", "value"]
    )
    theirs = pingouin.intraclass_corr(long, "subject", "rater", "value")
    for form, row in zip(IccForm, range(3), strict=True):
        ours = icc(table.tolist(), form)
        assert ours.value == pytest.approx(theirs["ICC"].iloc[row], abs=1e-9)
        low, high = next(theirs[name].iloc[row] for name in theirs.columns if name.startswith("CI95"))
        assert (ours.interval.low, ours.interval.high) == pytest.approx((low, high), abs=0.0051)


def test_perfect_and_flat():
    """Scans that agree have an ICC of 1; where nothing varies there is none."""
    assert icc([[1, 1], [2, 2], [5, 5]]).value == 1.0
    assert math.isnan(icc([[3, 3], [3, 3]]).value)


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        ([1.0], [2.0], "1 subjects: two or more are needed"),
        ([1.0, 2.0], [2.0], "2 first and 1 second measurements"),
        ([1.0, math.nan], [2.0, 3.0], "not a finite number"),
    ],
)
def test_what_is_refused(first, second, reason):
    """Too few, unpaired, or not a number."""
    for measure in (repeatability, bland_altman):
        with pytest.raises(UnpairedMeasurements, match=reason):
            measure(first, second)


@pytest.mark.parametrize("scale", [0.1, 0.7, 1 / 3, 463.42])
def test_repeats_without_difference(scale):
    """Each subject measured the same twice: ICC of 1 however numbers round, and an interval of nothing else."""
    for form in IccForm:
        found = icc([(scale * n, scale * n) for n in (1, 3, 4, 7)], form)
        assert found.value == pytest.approx(1.0)
        ends = [end for end in (found.interval.low, found.interval.high) if end == end]  # noqa: PLR0124 - not NaN
        assert ends == pytest.approx([1.0] * len(ends))
