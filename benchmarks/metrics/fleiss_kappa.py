"""Fleiss' kappa of several raters."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from statsmodels.stats import inter_rater

from .confusion_matrix import LabelsDiffer

LEAST_RATERS = 2


def fleiss_kappa(ratings: Sequence[Sequence[str]]) -> float:
    """Agreement beyond chance of several raters (Fleiss, Psychol Bull 1971;76:378), by statsmodels.

    Parameters
    ----------
    ratings : sequence of sequences of str
        For each image one label from each rater; each image has as many, not necessarily by the same people.

    Returns
    -------
    float
        1 perfect, 0 as by chance; NaN where only one category occurs.

    Raises
    ------
    LabelsDiffer
        If there is no image, an image has other numbers of labels than the rest, or under two.
    """
    if not ratings or len({len(labels) for labels in ratings}) != 1 or len(ratings[0]) < LEAST_RATERS:
        raise LabelsDiffer(f"{len(ratings)} images: each needs a label from as many raters, two or more")
    categories = sorted({label for labels in ratings for label in labels})
    if len(categories) == 1:
        return math.nan
    table = np.array([[list(labels).count(category) for category in categories] for labels in ratings])
    return float(inter_rater.fleiss_kappa(table))
