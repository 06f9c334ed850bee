"""Bootstrap over patients: intervals that know that two series of one patient are not two patients."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

REPLICATES = 2000
SEED = 20240815
CONFIDENCE = 0.95
LEAST_PATIENTS = 2
"""With fewer there is nothing to resample, and no interval."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval; NaN on both sides where there is none."""

    low: float
    high: float


NO_INTERVAL = Interval(math.nan, math.nan)


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """How patients are resampled.

    Attributes
    ----------
    replicates : int
        Samples that are drawn.
    seed : int
        The same seed draws the same patients for every structure, metric and model.
    confidence : float
        Share of the replicates that an interval holds (percentile interval).
    """

    replicates: int = REPLICATES
    seed: int = SEED
    confidence: float = CONFIDENCE

    def mean(self, values: Floats, patient: NDArray[np.intp]) -> Interval:
        """Interval of the mean of values, whole patients being drawn with replacement (cluster bootstrap).

        Parameters
        ----------
        values : ndarray of float64, shape (n,)
            Of series, none NaN.
        patient : ndarray of int, shape (n,)
            Whose each is: 0..P-1, every one present.
        """
        patients = int(patient.max(initial=-1)) + 1
        if patients < LEAST_PATIENTS:
            return NO_INTERVAL
        drawn = _draws(patients, self.replicates, self.seed)
        sums = drawn @ np.bincount(patient, values, patients)
        return self._percentiles(sums / (drawn @ np.bincount(patient, minlength=patients)))

    def median(self, values: Floats, patient: NDArray[np.intp]) -> Interval:
        """Interval of the median of values; parameters as of `mean`."""
        patients = int(patient.max(initial=-1)) + 1
        if patients < LEAST_PATIENTS:
            return NO_INTERVAL
        order = np.argsort(values, kind="stable")
        upto = np.cumsum(_draws(patients, self.replicates, self.seed)[:, patient[order]], axis=1)
        total = upto[:, -1]
        # Position p of the sorted sample holds the first value whose running count exceeds p.
        middle = [(upto <= position[:, None]).sum(axis=1) for position in ((total - 1) // 2, total // 2)]
        return self._percentiles(values[order][np.stack(middle)].mean(axis=0))

    def several(
        self, measure: Callable[[NDArray[np.int64]], Floats], patients: int, numbers: int
    ) -> tuple[Interval, ...]:
        """Intervals of several numbers of a sample of patients.

        Parameters
        ----------
        measure : callable
            From how often each patient is drawn, shape (patients,), to the numbers; NaN where the sample has none.
        numbers : int
            How many it gives.
        """
        if patients < LEAST_PATIENTS:
            return (NO_INTERVAL,) * numbers
        found = np.array([measure(times) for times in _draws(patients, self.replicates, self.seed)])
        return tuple(self._percentiles(column[~np.isnan(column)]) for column in found.T)

    def _percentiles(self, replicates: Floats) -> Interval:
        tail = (1 - self.confidence) / 2
        low, high = np.quantile(replicates, [tail, 1 - tail])
        return Interval(float(low), float(high))


@lru_cache(maxsize=32)
def _draws(patients: int, replicates: int, seed: int) -> NDArray[np.int64]:
    """How often each patient is drawn in each replicate, shape (replicates, patients)."""
    draws = np.random.default_rng(seed).multinomial(patients, np.full(patients, 1 / patients), size=replicates)
    draws.setflags(write=False)
    return draws
