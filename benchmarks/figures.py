"""The figures of a benchmark: all that tables and report tell, from the results of its cases."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .agreement import BETWEEN_READERS, MAJORITY_VOTE
from .case import CaseResult, Involvement, Volumes
from .comparison import Comparison, compare_models
from .frocs import ModelFroc, frocs_of
from .involvement import InvolvementAgreement, compare_involvement
from .repeatability import LEAST_SUBJECTS, BlandAltman, bland_altman
from .retest import Retest, retests_of, usable_pairs
from .score import Score
from .statistics import ALL_STRUCTURES, Summary, pool_structures, summarise
from .study import StudyResult
from .subgroups import SubgroupSummary, summarise_subgroups

DICE = "dice"
WORST = 10
"""Cases that are shown with pictures."""


@dataclass(frozen=True, slots=True)
class WorstCase:
    """One series of one model, by the mean Dice over its structures.

    Attributes
    ----------
    mean : float
    structures : tuple of (str, float)
        Those with the least Dice, the worst first; of the same Dice those that both sides have, the larger first.
    """

    series_instance_uid: str
    model: str
    mean: float
    structures: tuple[tuple[str, float], ...]
    failure: str


@dataclass(frozen=True, slots=True)
class VolumeAgreement:
    """Volumes of one structure by one model against the expert's.

    Attributes
    ----------
    limits : BlandAltman or None
        None under two series.
    """

    model: str
    segment: str
    pairs: tuple[tuple[float, float], ...]
    limits: BlandAltman | None


@dataclass(frozen=True, slots=True)
class ModelInvolvement:
    """Lung involvement by one model against one reader.

    Attributes
    ----------
    rows : tuple of (str, Involvement)
        By Series Instance UID.
    agreement : InvolvementAgreement or None
        None under two series.
    """

    model: str
    reference: str
    rows: tuple[tuple[str, Involvement], ...]
    agreement: InvolvementAgreement | None


@dataclass(frozen=True, slots=True)
class PricedModel:
    """What a model's mean Dice costs."""

    model: str
    series: int
    mean: float
    cents: float
    price: str
    points: tuple[tuple[float, float], ...]
    """Cents and Dice of each series."""


@dataclass(frozen=True, slots=True)
class Figures:
    """All that is summed up.

    Attributes
    ----------
    reference : str
        The one whose scores plots and worst cases are of: the readers' majority, or the reader of most series.
    leaderboard : tuple of Summary
        Over structures; the best Dice first, then readers among each other.
    not_compared : tuple of str
        Structures that only some series of a model were scored on.
    """

    scores: tuple[Score, ...]
    reference: str
    leaderboard: tuple[Summary, ...]
    structures: tuple[Summary, ...]
    readers: tuple[Summary, ...]
    comparisons: tuple[Comparison, ...]
    not_compared: tuple[str, ...]
    subgroups: tuple[SubgroupSummary, ...]
    worst: tuple[WorstCase, ...]
    volumes: tuple[VolumeAgreement, ...]
    involvement: tuple[ModelInvolvement, ...]
    priced: tuple[PricedModel, ...]
    retest: tuple[Retest, ...]
    frocs: tuple[ModelFroc, ...]


def figures_of(result: StudyResult) -> Figures:
    """Everything, from the scores."""
    scores = tuple(score for case in result.scored for score in case.scores)
    agreement = [score for case in result.scored for score in case.agreement]
    reference = _main_reference(scores)
    main = [score for score in scores if score.case.reference == reference]
    pooled = pool_structures(scores)
    comparable, not_compared = _comparable(scores)
    return Figures(
        scores=scores,
        reference=reference,
        leaderboard=_ranked((*summarise(pooled), *summarise(pool_structures(agreement))), reference),
        structures=summarise(scores),
        readers=summarise(agreement),
        comparisons=compare_models([*_comparable(pooled)[0], *comparable]) if len(result.study.models) > 1 else (),
        not_compared=not_compared,
        subgroups=summarise_subgroups(
            [score for score in pool_structures(main) if score.metric == DICE],
            {case.series_instance_uid: case.attributes for case in result.scored},
        ),
        worst=_worst(main, result.scored),
        volumes=_volumes(result.scored, reference),
        involvement=_involvement(result.scored),
        priced=_priced(result, main),
        retest=retests_of(result.scored, usable_pairs(result.scored, result.study.retest)[0]),
        frocs=frocs_of(result.scored),
    )


def _main_reference(scores: Sequence[Score]) -> str:
    """Majority vote where there is one, else whose word most series have; of equals the first."""
    series: dict[str, set[str]] = {}
    for score in scores:
        series.setdefault(score.case.reference, set()).add(score.case.series_instance_uid)
    if MAJORITY_VOTE in series:
        return MAJORITY_VOTE
    return max(series, key=lambda name: len(series[name]), default="")


def _ranked(summaries: Sequence[Summary], main: str) -> tuple[Summary, ...]:
    """The main reference first, under each the model with the best Dice first; the readers' ceiling last."""
    dice = {(each.reference, each.model): each.mean for each in summaries if each.metric == DICE}

    def place(each: Summary) -> tuple[bool, bool, str, float, str]:
        mean = dice.get((each.reference, each.model), math.nan)
        rank = 1.0 if math.isnan(mean) else -mean
        return each.reference == BETWEEN_READERS, each.reference != main, each.reference, rank, each.model

    return tuple(sorted(summaries, key=place))


def _comparable(scores: Sequence[Score]) -> tuple[list[Score], tuple[str, ...]]:
    """Scores of structures that every model which has them was scored on in the same series; names of others."""
    series: dict[tuple[str, str], dict[str, set[str]]] = {}
    for score in scores:
        of = series.setdefault((score.case.reference, score.segment), {})
        of.setdefault(score.case.model, set()).add(score.case.series_instance_uid)
    uneven = {key for key, models in series.items() if len({frozenset(each) for each in models.values()}) > 1}
    kept = [score for score in scores if (score.case.reference, score.segment) not in uneven]
    return kept, tuple(sorted({segment for _, segment in uneven if segment != ALL_STRUCTURES}))


def _worst(scores: Sequence[Score], cases: Iterable[CaseResult]) -> tuple[WorstCase, ...]:
    """Series with the least mean Dice over their structures; a failure counts as it is counted.

    Of structures of the same Dice those come first that both sides have, and the larger ones: the first is drawn.
    """
    volumes = {(case.series_instance_uid, v.model, v.reference, v.segment): v for case in cases for v in case.volumes}

    def badness(score: Score) -> tuple[float, float, float]:
        case = score.case
        found = volumes.get((case.series_instance_uid, case.model, case.reference, score.segment))
        sides = (found.expert_ml, found.model_ml) if found else (0.0, 0.0)
        return score.value, -min(sides), -max(sides)

    groups: dict[tuple[str, str], list[Score]] = {}
    for score in scores:
        if score.metric == DICE and score.defined:
            groups.setdefault((score.case.series_instance_uid, score.case.model), []).append(score)
    found = []
    for (series, model), group in groups.items():
        low = sorted(group, key=badness)
        failure = next((score.failure for score in group if score.failure), None)
        mean = math.fsum(score.value for score in group) / len(group)
        found.append(WorstCase(series, model, mean, tuple((s.segment, s.value) for s in low[:5]), failure or ""))
    return tuple(sorted(found, key=lambda each: each.mean)[:WORST])


def _volumes(cases: Iterable[CaseResult], reference: str) -> tuple[VolumeAgreement, ...]:
    groups: dict[tuple[str, str], list[Volumes]] = {}
    for case in cases:
        for each in case.volumes:
            if each.reference == reference:
                groups.setdefault((each.model, each.segment), []).append(each)
    found = []
    for (model, segment), group in groups.items():
        pairs = tuple((each.expert_ml, each.model_ml) for each in group)
        limits = bland_altman(*zip(*pairs, strict=True)) if len(pairs) >= LEAST_SUBJECTS else None
        found.append(VolumeAgreement(model, segment, pairs, limits))
    return tuple(found)


def _involvement(cases: Iterable[CaseResult]) -> tuple[ModelInvolvement, ...]:
    groups: dict[tuple[str, str], list[tuple[str, Involvement]]] = {}
    for case in cases:
        for each in case.involvement:
            groups.setdefault((each.model, each.reference), []).append((case.series_instance_uid, each))
    found = []
    for (model, reference), rows in groups.items():
        expert, own = ([getattr(row, side) for _, row in rows] for side in ("expert_percent", "model_percent"))
        agreement = compare_involvement(expert, own) if len(rows) >= LEAST_SUBJECTS else None
        found.append(ModelInvolvement(model, reference, tuple(rows), agreement))
    return tuple(found)


def _priced(result: StudyResult, scores: Sequence[Score]) -> tuple[PricedModel, ...]:
    """Models that were run here, with what a series cost."""
    pooled = [score for score in pool_structures(scores) if score.metric == DICE and score.defined]
    found = []
    for spent in result.spending:
        points = tuple(
            (spent.usd[score.case.series_instance_uid] * 100, score.value)
            for score in pooled
            if score.case.model == spent.model and score.case.series_instance_uid in spent.usd
        )
        if points:
            cents, mean = (math.fsum(each) / len(points) for each in zip(*points, strict=True))
            found.append(PricedModel(spent.model, len(points), mean, cents, spent.price, points))
    return tuple(found)
