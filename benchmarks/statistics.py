"""Scores summed up: per structure, over structures, with intervals over patients and failures counted."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .. import Error
from .bootstrap import NO_INTERVAL, Bootstrap, Interval
from .score import Score

ALL_STRUCTURES = "all structures"
"""Segment of the scores that `pool_structures` gives."""

QUARTILES = (0.25, 0.5, 0.75)

Group = tuple[str, str, str, str]


class DuplicateScore(Error):
    """Two scores of one metric, segment, model and reference for one series."""

    code = "DUPLICATE_SCORE"

    def __init__(self, score: str) -> None:
        super().__init__(score)

    def __str__(self) -> str:
        return f"{self.args[0]} is there twice: give each series once"


@dataclass(frozen=True, slots=True)
class Summary:
    """One metric of one structure over all series of a model.

    Attributes
    ----------
    series, patients : int
        All, failed and undefined ones included.
    failed : int
        Series without a prediction; they count with the metric's worst value.
    undefined : int
        Series where the metric has no value: mostly, the structure is in neither mask. They
        are in no mean and no median.
    median, q1, q3, mean : float
        Over the series that have a value; NaN where none has. Quartiles interpolate linearly.
    median_interval, mean_interval : Interval
        By bootstrap over patients; NaN under two patients.
    """

    model: str
    reference: str
    segment: str
    metric: str
    unit: str
    series: int
    patients: int
    failed: int
    undefined: int
    median: float
    q1: float
    q3: float
    mean: float
    median_interval: Interval
    mean_interval: Interval


def summarise(scores: Iterable[Score], bootstrap: Bootstrap | None = None) -> tuple[Summary, ...]:
    """A summary for each model, reference, segment and metric, in the order in which these first occur.

    Raises
    ------
    DuplicateScore
        If a series is there twice.
    """
    drawing = bootstrap or Bootstrap()
    groups: dict[Group, list[Score]] = {}
    for score in scores:
        key = (score.case.model, score.case.reference, score.segment, score.metric)
        groups.setdefault(key, []).append(score)
    return tuple(_summary(group, drawing) for group in groups.values())


def pool_structures(scores: Iterable[Score]) -> list[Score]:
    """One score for each series and metric: the mean over the structures that have a value.

    For a leaderboard: give the result to `summarise` or `compare_models`. A structure that is
    in neither mask has no part in the mean; a failure keeps its reason.
    """
    groups: dict[tuple[object, str], list[Score]] = {}
    for score in scores:
        groups.setdefault((score.case, score.metric), []).append(score)
    return [_pooled(group) for group in groups.values()]


def _pooled(group: Sequence[Score]) -> Score:
    values = [score.value for score in group if score.defined]
    mean = math.fsum(values) / len(values) if values else math.nan
    failure = next((score.failure for score in group if score.failure), None)
    return replace(group[0], segment=ALL_STRUCTURES, value=mean, failure=failure)


def _summary(group: Sequence[Score], bootstrap: Bootstrap) -> Summary:
    first = group[0]
    uids = {score.case.series_instance_uid for score in group}
    if len(uids) != len(group):
        raise DuplicateScore(f"{first.metric} of {first.segment} by {first.case.model}")
    counted = [score for score in group if score.defined]
    values = np.array([score.value for score in counted])
    names, patient = np.unique([score.case.patient_id for score in counted], return_inverse=True)
    q1, median, q3 = np.quantile(values, QUARTILES) if len(values) else (math.nan,) * 3
    return Summary(
        model=first.case.model,
        reference=first.case.reference,
        segment=first.segment,
        metric=first.metric,
        unit=first.unit,
        series=len(group),
        patients=len({score.case.patient_id for score in group}),
        failed=sum(score.failure is not None for score in group),
        undefined=len(group) - len(counted),
        median=float(median),
        q1=float(q1),
        q3=float(q3),
        mean=float(values.mean()) if len(values) else math.nan,
        median_interval=bootstrap.median(values, patient) if len(names) else NO_INTERVAL,
        mean_interval=bootstrap.mean(values, patient) if len(names) else NO_INTERVAL,
    )
