"""Test and retest, and two ways of measuring one thing: repeatability, intraclass correlation, limits of agreement."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from .. import Error
from .bootstrap import NO_INTERVAL, Interval

CONFIDENCE = 0.95
NORMAL_QUANTILE = 1.96
"""Of the standard normal, as Bland and Altman write it: 95 % of the differences lie within."""
LEAST_SUBJECTS = 2

Floats = NDArray[np.float64]


class UnpairedMeasurements(Error):
    """Measurements that do not come in pairs, too few of them, or not finite."""

    code = "UNPAIRED_MEASUREMENTS"
    refused = True

    def __init__(self, reason: str) -> None:
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class Repeatability:
    """How far two measurements of one subject lie apart.

    Attributes
    ----------
    subjects : int
    within_subject_sd : float
        Square root of the mean of d**2 / 2, in the measurements' unit.
    coefficient : float
        1.96 times the square root of two times `within_subject_sd`: 95 % of absolute
        differences are below it.
    interval : Interval
        Of the coefficient, from the chi-squared distribution with a degree of freedom for each subject.
    within_subject_cv_percent : float
        Root mean square of each subject's SD over its mean, in per cent; NaN where a mean is not above 0.
    """

    subjects: int
    within_subject_sd: float
    coefficient: float
    interval: Interval
    within_subject_cv_percent: float


@dataclass(frozen=True, slots=True)
class BlandAltman:
    """Bias and 95 % limits of agreement of second less first.

    Attributes
    ----------
    bias, sd : float
        Mean and standard deviation (n - 1) of the differences.
    lower, upper : float
        Bias less and plus 1.96 SD.
    bias_interval, lower_interval, upper_interval : Interval
        By the t distribution; the limits' standard error is that of Bland and Altman 1999.
    """

    subjects: int
    bias: float
    sd: float
    lower: float
    upper: float
    bias_interval: Interval
    lower_interval: Interval
    upper_interval: Interval


class IccForm(StrEnum):
    """Forms of Shrout and Fleiss 1979, with McGraw and Wong's 1996 names."""

    ONE_WAY = "ICC(1,1)"
    """One-way random, single rater, absolute agreement: each subject has raters of its own. ICC(1)."""
    AGREEMENT = "ICC(2,1)"
    """Two-way random, single rater, absolute agreement: a rater's constant error counts. ICC(A,1)."""
    CONSISTENCY = "ICC(3,1)"
    """Two-way mixed, single rater, consistency: a rater's constant error does not count. ICC(C,1)."""


@dataclass(frozen=True, slots=True)
class Icc:
    """Intraclass correlation coefficient.

    Attributes
    ----------
    value : float
        At most 1; NaN where nothing varies.
    interval : Interval
        95 %, McGraw and Wong 1996, table 7.
    """

    form: IccForm
    subjects: int
    raters: int
    value: float
    interval: Interval


def repeatability(first: Sequence[float], second: Sequence[float]) -> Repeatability:
    """Repeatability coefficient of test and retest (Bland and Altman 1999; Raunig et al. 2015).

    Parameters
    ----------
    first, second : sequence of float
        Of one subject each, e.g. the volume in two scans.

    Raises
    ------
    UnpairedMeasurements
        If they are not as many, under two, or not finite.
    """
    one, other = _paired(first, second)
    subjects = len(one)
    squares = float(((other - one) ** 2).sum()) / 2
    within = math.sqrt(squares / subjects)
    factor = NORMAL_QUANTILE * math.sqrt(2)
    tails = stats.chi2.ppf([(1 + CONFIDENCE) / 2, (1 - CONFIDENCE) / 2], subjects)
    low, high = (factor * math.sqrt(squares / tail) for tail in tails)
    means = (one + other) / 2
    cv = math.nan
    if (means > 0).all():
        cv = 100 * math.sqrt(float((((other - one) / means) ** 2).mean()) / 2)
    return Repeatability(subjects, within, factor * within, Interval(low, high), cv)


def bland_altman(first: Sequence[float], second: Sequence[float]) -> BlandAltman:
    """Limits of agreement (Bland and Altman, Lancet 1986;327:307, and Stat Methods Med Res 1999;8:135).

    Parameters and errors are those of `repeatability`; the differences are second less first.
    """
    one, other = _paired(first, second)
    difference, subjects = other - one, len(one)
    bias, sd = float(difference.mean()), float(difference.std(ddof=1))
    quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, subjects - 1))
    of_bias = quantile * sd / math.sqrt(subjects)
    of_limit = quantile * sd * math.sqrt(1 / subjects + NORMAL_QUANTILE**2 / (2 * (subjects - 1)))
    lower, upper = bias - NORMAL_QUANTILE * sd, bias + NORMAL_QUANTILE * sd
    return BlandAltman(
        subjects, bias, sd, lower, upper, _round(bias, of_bias), _round(lower, of_limit), _round(upper, of_limit)
    )


def icc(ratings: Sequence[Sequence[float]], form: IccForm = IccForm.AGREEMENT) -> Icc:
    """Intraclass correlation of a single rating.

    Shrout and Fleiss, Psychol Bull 1979;86:420; intervals by McGraw and Wong, Psychol Methods
    1996;1:30. For test and retest, and for a model against an expert: ``ICC(2,1)``.

    Parameters
    ----------
    ratings : sequence of sequences of float
        A row for each subject with one value for each rater or scan.

    Raises
    ------
    UnpairedMeasurements
        If rows differ in length, or there are under two subjects or raters.
    """
    table = _table(ratings)
    subjects, raters = table.shape
    rows, columns, error, within = _mean_squares(table)
    if form is IccForm.ONE_WAY:
        value = _ratio(rows - within, rows + (raters - 1) * within)
        interval = _interval_of_f(rows, within, (subjects - 1, subjects * (raters - 1)), raters)
    elif form is IccForm.CONSISTENCY:
        value = _ratio(rows - error, rows + (raters - 1) * error)
        interval = _interval_of_f(rows, error, (subjects - 1, (subjects - 1) * (raters - 1)), raters)
    else:
        value = _ratio(rows - error, rows + (raters - 1) * error + raters * (columns - error) / subjects)
        interval = _interval_of_agreement((rows, columns, error), value, (subjects, raters))
    return Icc(form, subjects, raters, value, interval)


def _mean_squares(table: Floats) -> tuple[float, float, float, float]:
    """Of subjects, of raters, of the error, and within subjects (raters and error together)."""
    subjects, raters = table.shape
    mean = table.mean()
    by_subject = raters * float(((table.mean(axis=1) - mean) ** 2).sum())
    by_rater = subjects * float(((table.mean(axis=0) - mean) ** 2).sum())
    rest = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0) + mean
    error = float((rest**2).sum())
    return (
        by_subject / (subjects - 1),
        by_rater / (raters - 1),
        error / ((subjects - 1) * (raters - 1)),
        (by_rater + error) / (subjects * (raters - 1)),
    )


def _ratio(above: float, below: float) -> float:
    return above / below if below else math.nan


def _interval_of_f(between: float, within: float, degrees: tuple[int, int], raters: int) -> Interval:
    """From the distribution of the ratio of two mean squares."""
    if not within:
        return NO_INTERVAL
    ratio, quantile = between / within, (1 + CONFIDENCE) / 2
    low = ratio / stats.f.ppf(quantile, *degrees)
    high = ratio * stats.f.ppf(quantile, *reversed(degrees))
    return Interval(float((low - 1) / (low + raters - 1)), float((high - 1) / (high + raters - 1)))


def _interval_of_agreement(squares: tuple[float, float, float], value: float, size: tuple[int, int]) -> Interval:
    """Of ICC(2,1), by Satterthwaite's degrees of freedom."""
    rows, columns, error = squares
    n, k = size
    if not error or not value < 1:  # nothing varies, or no more than a rounding
        return NO_INTERVAL
    a, b = k * value / (n * (1 - value)), 1 + k * value * (n - 1) / (n * (1 - value))
    degrees = (a * columns + b * error) ** 2 / ((a * columns) ** 2 / (k - 1) + (b * error) ** 2 / ((n - 1) * (k - 1)))
    quantile, spread = (1 + CONFIDENCE) / 2, k * columns + (k * n - k - n) * error
    low, high = stats.f.ppf(quantile, n - 1, degrees), stats.f.ppf(quantile, degrees, n - 1)
    return Interval(
        float(n * (rows - low * error) / (low * spread + n * rows)),
        float(n * (high * rows - error) / (spread + n * high * rows)),
    )


def _round(centre: float, half: float) -> Interval:
    return Interval(centre - half, centre + half)


def _paired(first: Sequence[float], second: Sequence[float]) -> tuple[Floats, Floats]:
    if len(first) != len(second):
        raise UnpairedMeasurements(
            f"{len(first)} first and {len(second)} second measurements: give both of each subject"
        )
    table = _table(list(zip(first, second, strict=True)))
    return table[:, 0], table[:, 1]


def _table(ratings: Sequence[Sequence[float]]) -> Floats:
    """A row for each subject, checked."""
    if len(ratings) < LEAST_SUBJECTS or len({len(row) for row in ratings}) != 1 or len(ratings[0]) < LEAST_SUBJECTS:
        raise UnpairedMeasurements(
            f"{len(ratings)} subjects: two or more are needed, each with as many measurements, two or more"
        )
    table = np.array(ratings, np.float64)
    if not np.isfinite(table).all():
        raise UnpairedMeasurements("a measurement is not a finite number: leave the subject out, and say so")
    return table
