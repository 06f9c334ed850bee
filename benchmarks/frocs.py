"""FROC of each detector under each reader, with intervals over patients."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .bootstrap import Bootstrap, Interval
from .case import CaseResult, Problem
from .metrics.froc import RATES, Detections, Froc, NoLesions, PooledDetections

Scan = tuple[str, Detections, int]
"""Of one series: its patient, what was found, and how many candidates were irrelevant."""


@dataclass(frozen=True, slots=True, eq=False)
class ModelFroc:
    """One detector under one reader.

    Attributes
    ----------
    irrelevant : int
        Candidates that count neither as hits nor as false positives.
    intervals : tuple of Interval
        Of the sensitivities at `RATES`, and last of their mean.
    """

    model: str
    reference: str
    series: int
    patients: int
    lesions: int
    candidates: int
    irrelevant: int
    curve: Froc
    intervals: tuple[Interval, ...]

    @property
    def at(self) -> tuple[tuple[float, float, Interval], ...]:
        """Rate, sensitivity and interval."""
        return tuple(zip(RATES, map(float, self.curve.at_rates), self.intervals[:-1], strict=True))

    @property
    def row(self) -> dict[str, object]:
        """Of a table."""
        mean = self.intervals[-1]
        plain: dict[str, object] = {
            "model": self.model,
            "reference": self.reference,
            "series": self.series,
            "patients": self.patients,
            "lesions": self.lesions,
            "candidates": self.candidates,
            "irrelevant": self.irrelevant,
            "cpm": self.curve.score,
            "cpm_low": mean.low,
            "cpm_high": mean.high,
        }
        for rate, sensitivity, interval in self.at:
            key = f"sensitivity_at_{rate:g}"
            plain |= {key: sensitivity, f"{key}_low": interval.low, f"{key}_high": interval.high}
        return plain

    @property
    def steps(self) -> Iterator[dict[str, object]]:
        """Points of the curve, for a table."""
        curve = self.curve
        for points in zip(curve.threshold[1:], curve.false_positives[1:], curve.sensitivity[1:], strict=True):
            names = ("threshold", "false_positives_per_scan", "sensitivity")
            values = dict(zip(names, map(float, points), strict=True))
            yield {"model": self.model, "reference": self.reference, **values}


def frocs_of(cases: Iterable[CaseResult]) -> tuple[ModelFroc, ...]:
    """The curve of each detector and reader with a lesion, the best mean sensitivity first."""
    groups = _groups(cases)
    found = [_froc(*key, scans) for key, scans in groups.items() if _lesions(scans)]
    return tuple(sorted(found, key=lambda each: -each.curve.score))


def lesionless(cases: Iterable[CaseResult]) -> tuple[Problem, ...]:
    """Detectors and readers that have no curve, because no series has a lesion."""
    without = [(key, NoLesions(len(scans))) for key, scans in _groups(cases).items() if not _lesions(scans)]
    return tuple(Problem(exc.code, f"{model}, {reader}: {exc}", model, reader) for (model, reader), exc in without)


def _groups(cases: Iterable[CaseResult]) -> dict[tuple[str, str], list[Scan]]:
    groups: dict[tuple[str, str], list[Scan]] = {}
    for case in cases:
        for each in case.detections:
            groups.setdefault((each.model, each.reference), []).append((case.patient, each.found, each.irrelevant))
    return groups


def _lesions(scans: Iterable[Scan]) -> int:
    return sum(found.lesions for _, found, _ in scans)


def _froc(model: str, reference: str, scans: list[Scan]) -> ModelFroc:
    pooled = PooledDetections([found for _, found, _ in scans])
    names, patient = np.unique([name for name, _, _ in scans], return_inverse=True)

    def sensitivities(times: NDArray[np.int64]) -> NDArray[np.float64]:
        try:
            at = pooled.froc(times[patient]).at_rates
        except NoLesions:
            return np.full(len(RATES) + 1, np.nan)
        return np.append(at, at.mean())

    return ModelFroc(
        model=model,
        reference=reference,
        series=len(scans),
        patients=len(names),
        lesions=_lesions(scans),
        candidates=sum(len(each.candidates) for each in pooled.scans),
        irrelevant=sum(number for _, _, number in scans),
        curve=pooled.froc(),
        intervals=Bootstrap().several(sensitivities, len(names), len(RATES) + 1),
    )
