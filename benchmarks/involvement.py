"""Lung involvement: the share of the lungs that a finding takes, in classes too, and how two sides agree on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from .. import Error
from .metrics.cohen_kappa import Kappa, Weights, cohen_kappa
from .metrics.confusion_matrix import confusion_matrix
from .references.packed_mask import PackedMask
from .repeatability import BlandAltman, Icc, bland_altman, icc

MILD_UPTO_PERCENT = 25.0
MODERATE_UPTO_PERCENT = 50.0


class Severity(StrEnum):
    """Class of involvement, from least to most.

    The CT 0-4 grades of MosMedData (Morozov et al. 2020, arXiv:2005.06465) with the two
    above half of the lungs as one: CT-0, CT-1 up to 25 %, CT-2 up to 50 %, CT-3 and CT-4.
    Over half of the lungs is also among the marks of severe disease of Wu and McGoogan (JAMA 2020;323:1239).
    """

    NONE = "none"
    MILD = "mild"
    MODERATE = "moderate"
    SEVERE = "severe"


class NoInvolvement(Error):
    """A share of lungs that are not there, or no share at all."""

    code = "NO_INVOLVEMENT"
    refused = True

    def __init__(self, reason: str) -> None:
        super().__init__(reason)


@dataclass(frozen=True, slots=True, eq=False)
class InvolvementAgreement:
    """How a model's involvement agrees with the expert's.

    Attributes
    ----------
    series : int
    confusion : ndarray of int, shape (4, 4)
        Severity by the expert (row) and by the model (column), in the order of `Severity`.
    weighted_kappa : Kappa
        Of severity, with linear weights.
    limits : BlandAltman
        Of the percentages, model less expert, in percentage points.
    icc : Icc
        ICC(2,1) of the percentages.
    """

    series: int
    confusion: NDArray[np.int64]
    weighted_kappa: Kappa
    limits: BlandAltman
    icc: Icc


def involvement_percent(finding: PackedMask, lungs: PackedMask) -> float:
    """Share of the lungs' voxels that the finding takes, in per cent; what lies outside the lungs does not count.

    Raises
    ------
    NoInvolvement
        If the lungs are empty, or the masks are not on one grid.
    """
    if finding.shape != lungs.shape:
        raise NoInvolvement(f"finding on {finding.shape}, lungs on {lungs.shape} voxels: resample one onto the other")
    if lungs.empty:
        raise NoInvolvement("the lungs have no voxel: give the expert's or the model's lung")
    inside = np.count_nonzero(finding.cut(lungs.box) & lungs.cropped())
    return 100 * inside / lungs.voxels


def severity_of(percent: float) -> Severity:
    """Class of an involvement in per cent of the lungs.

    Raises
    ------
    NoInvolvement
        If it is not from 0 to 100.
    """
    if not 0 <= percent <= 100:  # noqa: PLR2004 - per cent
        raise NoInvolvement(f"involvement of {percent} % is not from 0 to 100")
    if percent == 0:
        return Severity.NONE
    if percent <= MILD_UPTO_PERCENT:
        return Severity.MILD
    return Severity.MODERATE if percent <= MODERATE_UPTO_PERCENT else Severity.SEVERE


def compare_involvement(expert: Sequence[float], model: Sequence[float]) -> InvolvementAgreement:
    """Agreement of percentages, one of each side for each series.

    A series that failed has no percentage: give 0, what a program that finds nothing says, and
    count it apart.

    Raises
    ------
    NoInvolvement
        If a percentage is not from 0 to 100.
    UnpairedMeasurements
        If they are not as many, or under two.
    """
    limits, correlation = bland_altman(expert, model), icc(list(zip(expert, model, strict=True)))
    one, other = ([severity_of(percent).value for percent in side] for side in (expert, model))
    order = [each.value for each in Severity]
    return InvolvementAgreement(
        series=len(expert),
        confusion=confusion_matrix(one, other, order),
        weighted_kappa=cohen_kappa(one, other, order, Weights.LINEAR),
        limits=limits,
        icc=correlation,
    )
