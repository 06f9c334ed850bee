"""FROC: lesions found against false positives for each series, over all thresholds of confidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ... import Error
from ..lesions import LEAST_IOU, label_lesions, match_labels
from ..mask_pair import MaskPair, MasksDiffer

RATES = (1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0, 8.0)
"""False positives for each series at which LUNA16 reads the curve (Setio et al., Med Image Anal 2017;42:1)."""

Floats = NDArray[np.float64]


class NoLesions(Error):
    """A FROC curve of series without a single lesion of the reference."""

    code = "NO_LESIONS"
    refused = True

    def __init__(self, series: int) -> None:
        super().__init__(series)

    def __str__(self) -> str:
        return f"{self.args[0]} series without a lesion in the reference: sensitivity is undefined"


@dataclass(frozen=True, slots=True)
class Candidate:
    """Something that a model takes for a lesion.

    Attributes
    ----------
    confidence : float
        The higher the surer.
    lesion : int or None
        The reference's lesion that it hits; None for a false positive.
    """

    confidence: float
    lesion: int | None


@dataclass(frozen=True, slots=True)
class Detections:
    """One series: how many lesions it has, from 1, and all candidates. A failed series has none."""

    lesions: int
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Froc:
    """A free-response receiver operating characteristic.

    Attributes
    ----------
    threshold : ndarray of float64, shape (n,)
        Of confidence, falling; candidates at or above it count. The first is infinite: nothing counts.
    false_positives : ndarray of float64, shape (n,)
        For each series, at that threshold.
    sensitivity : ndarray of float64, shape (n,)
        Share of all lesions that are hit.
    """

    threshold: Floats
    false_positives: Floats
    sensitivity: Floats

    def sensitivity_at(self, rate: float) -> float:
        """Largest sensitivity that costs no more false positives for each series; the curve is a staircase."""
        return float(self.sensitivity[np.flatnonzero(self.false_positives <= rate)[-1]])

    @property
    def score(self) -> float:
        """Mean sensitivity at LUNA16's seven rates (competition performance metric)."""
        return float(np.mean([self.sensitivity_at(rate) for rate in RATES]))


def froc(series: Sequence[Detections]) -> Froc:
    """The curve of many series. Of several candidates on one lesion the surest counts, and the others not at all.

    Raises
    ------
    NoLesions
        If no series has a lesion.
    """
    lesions = sum(each.lesions for each in series)
    if not lesions:
        raise NoLesions(len(series))
    false = np.array([c.confidence for each in series for c in each.candidates if c.lesion is None])
    true = np.array([confidence for each in series for confidence in _surest(each).values()])
    threshold = np.concatenate([[np.inf], np.unique(np.concatenate([false, true]))[::-1]])
    return Froc(threshold, _at_or_above(false, threshold) / len(series), _at_or_above(true, threshold) / lesions)


def detections_of(pair: MaskPair, probability: Floats, least_iou: float = LEAST_IOU) -> Detections:
    """Lesions and candidates of one series; a candidate is as sure as its most probable voxel.

    Parameters
    ----------
    pair : MaskPair
        Reference, and prediction at the lowest threshold of interest.
    probability : ndarray of float, shape (k, j, i)
        Of the prediction, cut as the masks are.
    least_iou : float
        As of ``lesions.match_lesions``.

    Raises
    ------
    MasksDiffer
        If the probability is not on the masks' grid.
    """
    if probability.shape != pair.prediction.shape:
        raise MasksDiffer(f"probability of {probability.shape}, masks of {pair.prediction.shape} voxels")
    reference, prediction = label_lesions(pair.reference), label_lesions(pair.prediction)
    matched = match_labels(reference, prediction, least_iou)
    hit = {match.prediction: match.reference for match in matched.matches}
    surest = np.full(matched.prediction + 1, -np.inf)
    np.maximum.at(surest, prediction.ravel(), probability.ravel())
    numbers = range(1, matched.prediction + 1)
    return Detections(matched.reference, tuple(Candidate(float(surest[n]), hit.get(n)) for n in numbers))


def _surest(series: Detections) -> dict[int, float]:
    """Highest confidence on each lesion that is hit."""
    surest: dict[int, float] = {}
    for candidate in series.candidates:
        if candidate.lesion is not None:
            surest[candidate.lesion] = max(candidate.confidence, surest.get(candidate.lesion, candidate.confidence))
    return surest


def _at_or_above(confidence: Floats, threshold: Floats) -> Floats:
    """How many are at or above each threshold."""
    return len(confidence) - np.searchsorted(np.sort(confidence), threshold, side="left").astype(np.float64)
