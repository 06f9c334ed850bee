"""Lesions: connected parts of a mask, and which of the prediction's are which of the expert's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from .mask_pair import Mask, MaskPair

LEAST_IOU = 0.1
"""Overlap from which on two lesions are the same one: nnDetection's for 3D (Baumgartner et al., MICCAI 2021)."""
CONNECTIVITY: Final = 26
"""Voxels that share a corner belong to one lesion."""

Labels = NDArray[np.unsignedinteger]


@dataclass(frozen=True, slots=True)
class Match:
    """A lesion of the reference and the one of the prediction that found it, both from 1."""

    reference: int
    prediction: int
    iou: float


@dataclass(frozen=True, slots=True)
class LesionMatches:
    """Which lesions found each other.

    Attributes
    ----------
    reference, prediction : int
        Lesions of either side.
    matches : tuple of Match
        Each lesion at most once; what is not in it is missed or made up.
    """

    reference: int
    prediction: int
    matches: tuple[Match, ...]

    @property
    def hits(self) -> int:
        """Lesions found."""
        return len(self.matches)


def label_lesions(mask: Mask) -> Labels:
    """Lesions of a mask (k, j, i), numbered from 1."""
    if mask.size == 0:
        return np.zeros(mask.shape, np.uint32)
    labels: Labels = cc3d.connected_components(mask.view(np.uint8), connectivity=CONNECTIVITY, out_dtype=np.uint32)
    return labels


def match_lesions(pair: MaskPair, least_iou: float = LEAST_IOU) -> LesionMatches:
    """One-to-one matches of lesions, of all that overlap enough those that add up to the largest sum of overlaps.

    Parameters
    ----------
    pair : MaskPair
        Either mask may be empty.
    least_iou : float
        Intersection over union, above 0, from which on two lesions may match; one that equals it does.
    """
    return match_labels(label_lesions(pair.reference), label_lesions(pair.prediction), least_iou)


def match_labels(reference: Labels, prediction: Labels, least_iou: float = LEAST_IOU) -> LesionMatches:
    """Matches of lesions that are numbered from 1 without gap; else as `match_lesions`."""
    lesions, candidates = int(reference.max(initial=0)), int(prediction.max(initial=0))
    shared = np.zeros((lesions + 1, candidates + 1), np.int64)
    met = (reference > 0) & (prediction > 0)
    np.add.at(shared, (reference[met], prediction[met]), 1)
    overlap = shared[1:, 1:]
    sizes = [
        np.bincount(labels.ravel(), minlength=count + 1)[1:]
        for labels, count in ((reference, lesions), (prediction, candidates))
    ]
    iou = overlap / (sizes[0][:, None] + sizes[1] - overlap)
    rows, columns = linear_sum_assignment(np.where(iou >= least_iou, iou, 0.0), maximize=True)
    found = (
        Match(int(row) + 1, int(column) + 1, float(iou[row, column])) for row, column in zip(rows, columns, strict=True)
    )
    return LesionMatches(lesions, candidates, tuple(match for match in found if match.iou >= least_iou))
