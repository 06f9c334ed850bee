"""Cohen's kappa of two raters, plain or weighted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from statsmodels.stats.inter_rater import cohens_kappa

from ..bootstrap import NO_INTERVAL, Interval
from .confusion_matrix import confusion_matrix


class Weights(StrEnum):
    """How much a disagreement counts."""

    NONE = "none"
    """Every one alike: for categories without order (Cohen 1960)."""
    LINEAR = "linear"
    """By the number of categories between: for ordinal ones."""
    QUADRATIC = "quadratic"
    """By its square (Fleiss and Cohen 1973)."""


@dataclass(frozen=True, slots=True)
class Kappa:
    """Agreement beyond chance.

    Attributes
    ----------
    value : float
        1 perfect, 0 as by chance; NaN where both raters know one category only.
    interval : Interval
        95 %, from the large-sample standard error (Fleiss, Cohen and Everitt 1969).
    """

    value: float
    interval: Interval


_STATSMODELS = {Weights.NONE: None, Weights.LINEAR: "linear", Weights.QUADRATIC: "fc"}


def cohen_kappa(
    reference: Sequence[str], prediction: Sequence[str], categories: Sequence[str], weights: Weights = Weights.NONE
) -> Kappa:
    """Kappa of a model and a reader, or of two readers, by statsmodels.

    Parameters and errors are those of ``confusion_matrix``; weights take the categories to be in order.
    """
    matrix = confusion_matrix(reference, prediction, categories)
    if max(matrix.sum(axis=0).max(), matrix.sum(axis=1).max()) == matrix.sum() == matrix.trace():
        return Kappa(math.nan, NO_INTERVAL)
    found = cohens_kappa(matrix, wt=_STATSMODELS[weights])
    return Kappa(float(found.kappa), Interval(float(found.kappa_low), float(found.kappa_upp)))
