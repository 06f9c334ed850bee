"""Accuracy of labels."""

from __future__ import annotations

from collections.abc import Sequence

from .confusion_matrix import confusion_matrix


def accuracy(reference: Sequence[str], prediction: Sequence[str]) -> float:
    """Share of the images whose labels agree.

    Raises
    ------
    LabelsDiffer
        If the labels are not as many, or there are none.
    """
    matrix = confusion_matrix(reference, prediction, sorted({*reference, *prediction}))
    return float(matrix.trace() / matrix.sum())
