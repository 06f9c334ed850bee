"""Confusion matrix of labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ... import Error


class LabelsDiffer(Error):
    """Labels that cannot be held against each other: not as many, none, or not among the categories."""

    code = "LABELS_DIFFER"
    refused = True

    def __init__(self, reason: str) -> None:
        super().__init__(reason)


def confusion_matrix(
    reference: Sequence[str], prediction: Sequence[str], categories: Sequence[str]
) -> NDArray[np.int64]:
    """How often each category of the reference (row) was called which category (column).

    Parameters
    ----------
    reference, prediction : sequence of str
        One label for each image; a failed image has a category of its own, so that it counts.
    categories : sequence of str
        All, in the order of rows and columns; ordinal ones from least to most.

    Raises
    ------
    LabelsDiffer
        If the labels are not as many, there are none, or one is not among the categories.
    """
    if len(reference) != len(prediction) or not reference:
        raise LabelsDiffer(f"{len(reference)} labels of the reference, {len(prediction)} of the prediction")
    if unknown := ({*reference, *prediction} - {*categories}):
        raise LabelsDiffer(f"label {min(unknown)!r} is not among the categories {', '.join(categories)}")
    number = {category: index for index, category in enumerate(categories)}
    matrix = np.zeros((len(categories), len(categories)), np.int64)
    np.add.at(matrix, ([number[each] for each in reference], [number[each] for each in prediction]), 1)
    return matrix
