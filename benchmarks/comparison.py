"""Two models on the same patients: paired differences, their intervals and tests, corrected for many structures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wilcoxon
from statsmodels.stats.multitest import multipletests

from .. import Error
from .bootstrap import Bootstrap, Interval
from .metrics.catalogue import metric_named
from .score import Score
from .statistics import DuplicateScore

EQUAL_DECIMALS = 12
"""Differences that are the same to so many decimals share a rank: 0.3 - 0.2 is not 0.2 - 0.1 in binary fractions."""

Floats = NDArray[np.float64]


class MissingScore(Error):
    """A series that one model was scored on and the other was not."""

    code = "MISSING_SCORE"

    def __init__(self, model: str, series_instance_uid: str, segment: str) -> None:
        super().__init__(model, series_instance_uid, segment)

    def __str__(self) -> str:
        model, uid, segment = self.args
        return f"{model} has no score of {segment} in series {uid}: score it, or give its failure"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Second model less first, one metric of one structure.

    Attributes
    ----------
    patients : int
        With a value; each counts once, with the mean of its series.
    mean_difference, median_difference : float
        Over patients, in the metric's unit; NaN where no patient has a value.
    interval : Interval
        Of the mean difference, by bootstrap over patients.
    p_value : float
        Wilcoxon signed rank, two-sided, zero differences left out; 1 where all are zero, NaN without patients.
    p_adjusted : float
        Holm's, over all structures and pairs of models that were compared under this metric and reference.
    """

    first: str
    second: str
    reference: str
    segment: str
    metric: str
    unit: str
    patients: int
    mean_difference: float
    median_difference: float
    interval: Interval
    p_value: float
    p_adjusted: float


def compare_models(scores: Iterable[Score], bootstrap: Bootstrap | None = None) -> tuple[Comparison, ...]:
    """Each pair of models under each metric, structure by structure, for the structures that both have.

    A series that only one of the two models leaves undefined (it rightly found nothing, the
    other made something up) counts with the metric's best value for that model; one that both
    leave undefined is left out.

    Raises
    ------
    MissingScore
        If a series was scored for one model only: what failed is to be given as a failure.
    DuplicateScore
        If a series is there twice.
    """
    drawing = bootstrap or Bootstrap()
    families: dict[tuple[str, str], dict[str, dict[str, dict[str, Score]]]] = {}
    for score in scores:
        case = score.case
        models = families.setdefault((case.reference, score.metric), {}).setdefault(score.segment, {})
        series = models.setdefault(case.model, {})
        if case.series_instance_uid in series:
            raise DuplicateScore(f"{score.metric} of {score.segment} by {case.model}")
        series[case.series_instance_uid] = score
    compared = []
    for segments in families.values():
        family = [
            _compare(models[first], models[second], drawing)
            for models in segments.values()
            for first, second in combinations(models, 2)
        ]
        compared += _holm(family)
    return tuple(compared)


def _compare(first: Mapping[str, Score], second: Mapping[str, Score], bootstrap: Bootstrap) -> Comparison:
    one, other = next(iter(first.values())), next(iter(second.values()))
    for lacking, having in ((first, second), (second, first)):
        for uid in having.keys() - lacking.keys():
            model = one.case.model if lacking is first else other.case.model
            raise MissingScore(model, uid, one.segment)
    difference = _patient_differences(first, second, metric_named(one.metric).best)
    number = np.arange(len(difference))
    return Comparison(
        first=one.case.model,
        second=other.case.model,
        reference=one.case.reference,
        segment=one.segment,
        metric=one.metric,
        unit=one.unit,
        patients=len(difference),
        mean_difference=float(difference.mean()) if len(difference) else math.nan,
        median_difference=float(np.median(difference)) if len(difference) else math.nan,
        interval=bootstrap.mean(difference, number),
        p_value=_signed_rank(difference),
        p_adjusted=math.nan,
    )


def _patient_differences(first: Mapping[str, Score], second: Mapping[str, Score], best: float) -> Floats:
    """Second less first, a mean for each patient; patients in the order of their names."""
    of_patient: dict[str, list[float]] = {}
    for uid, one in first.items():
        other = second[uid]
        if one.defined or other.defined:
            low, high = (score.value if score.defined else best for score in (one, other))
            of_patient.setdefault(one.case.patient_id, []).append(high - low)
    return np.array([math.fsum(of_patient[name]) / len(of_patient[name]) for name in sorted(of_patient)])


def _signed_rank(difference: Floats) -> float:
    if not len(difference):
        return math.nan
    alike = np.round(difference, EQUAL_DECIMALS)
    return float(wilcoxon(alike).pvalue) if alike.any() else 1.0


def _holm(family: Sequence[Comparison]) -> list[Comparison]:
    """The same with adjusted p-values; those without a p-value are no part of the family."""
    tested = [index for index, each in enumerate(family) if not math.isnan(each.p_value)]
    adjusted = [math.nan] * len(family)
    if tested:
        corrected = multipletests([family[index].p_value for index in tested], method="holm")[1]
        for index, value in zip(tested, corrected, strict=True):
            adjusted[index] = float(value)
    return [replace(each, p_adjusted=value) for each, value in zip(family, adjusted, strict=True)]
