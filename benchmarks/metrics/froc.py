"""FROC: lesions found against false positives for each scan, over all thresholds of confidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ... import Error

RATES = (1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0, 8.0)
"""False positives for each scan at which LUNA16 reads the curve (Setio et al., Med Image Anal 2017;42:1)."""

Floats = NDArray[np.float64]


class NoLesions(Error):
    """A FROC curve of scans without a single lesion of the reference."""

    code = "NO_LESIONS"
    refused = True

    def __init__(self, scans: int) -> None:
        super().__init__(scans)

    def __str__(self) -> str:
        return f"{self.args[0]} scans without a lesion in the reference: sensitivity is undefined"


@dataclass(frozen=True, slots=True)
class Candidate:
    """Something that a model takes for a lesion.

    Attributes
    ----------
    confidence : float
        The higher the surer.
    lesions : tuple of int
        The reference's lesions that it hits, from 1; a false positive hits none.
    """

    confidence: float
    lesions: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Detections:
    """One scan: how many lesions it has, and all candidates that count."""

    lesions: int
    candidates: tuple[Candidate, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Froc:
    """A free-response receiver operating characteristic.

    Attributes
    ----------
    threshold : ndarray of float64, shape (n,)
        Of confidence, falling; candidates at or above it count. The first is infinite: nothing counts.
    false_positives : ndarray of float64, shape (n,)
        For each scan, at that threshold.
    sensitivity : ndarray of float64, shape (n,)
        Share of all lesions that are hit.
    """

    threshold: Floats
    false_positives: Floats
    sensitivity: Floats

    def sensitivity_at(self, rate: float) -> float:
        """Largest sensitivity that costs no more false positives for each scan; the curve is a staircase."""
        return float(self.sensitivity[np.searchsorted(self.false_positives, rate, side="right") - 1])

    @property
    def at_rates(self) -> Floats:
        """Sensitivity at each of `RATES`."""
        return np.array([self.sensitivity_at(rate) for rate in RATES])

    @property
    def score(self) -> float:
        """Mean sensitivity at LUNA16's seven rates (competition performance metric)."""
        return float(self.at_rates.mean())


@dataclass(frozen=True, eq=False)
class PooledDetections:
    """Many scans, to be read once or, with weights, as often as a bootstrap asks."""

    scans: Sequence[Detections]

    def froc(self, weight: NDArray[np.integer] | None = None) -> Froc:
        """The curve. Of several candidates on one lesion the surest counts, and the others not at all.

        Parameters
        ----------
        weight : ndarray of int, shape (scans,), optional
            How often each scan is taken; else once.

        Raises
        ------
        NoLesions
            If no scan that is taken has a lesion.
        """
        times = np.ones(len(self.scans)) if weight is None else weight.astype(np.float64)
        lesions = float(times @ np.array([each.lesions for each in self.scans], np.float64))
        if not lesions:
            raise NoLesions(len(self.scans))
        threshold, false, true = self._steps
        counts = [np.cumsum(np.bincount(at, times[scan], len(threshold))) for at, scan in (false, true)]
        return Froc(threshold, counts[0] / times.sum(), counts[1] / lesions)

    @cached_property
    def _steps(self) -> tuple[Floats, tuple[NDArray[np.intp], ...], tuple[NDArray[np.intp], ...]]:
        """Thresholds; of false positives, and of the lesions hit, at which threshold they appear, in which scan."""
        false = [(c.confidence, n) for n, each in enumerate(self.scans) for c in each.candidates if not c.lesions]
        true = [(confidence, n) for n, each in enumerate(self.scans) for confidence in _surest(each).values()]
        threshold = np.array([np.inf, *sorted({confidence for confidence, _ in (*false, *true)}, reverse=True)])
        return threshold, _places(false, threshold), _places(true, threshold)


def _places(events: Sequence[tuple[float, int]], threshold: Floats) -> tuple[NDArray[np.intp], ...]:
    confidence = np.array([each for each, _ in events], np.float64)
    return np.searchsorted(-threshold, -confidence), np.array([scan for _, scan in events], np.intp)


def _surest(scan: Detections) -> dict[int, float]:
    """Highest confidence on each lesion that is hit."""
    surest: dict[int, float] = {}
    for candidate in scan.candidates:
        for lesion in candidate.lesions:
            surest[lesion] = max(candidate.confidence, surest.get(lesion, candidate.confidence))
    return surest
