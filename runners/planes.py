"""Which slices of a volume show most of its segments, in a standard orientation."""

from __future__ import annotations

from dataclasses import dataclass

import cc3d
import highdicom as hd
import numpy as np
from numpy.typing import NDArray

from ..models.codes import MORPHOLOGICALLY_ABNORMAL_STRUCTURE
from ..models.segmentation import Segmentation

STANDARD = "FPL"
"""Axes to feet, back and left: rows run down the picture, columns to the viewer's right."""

PLANES = ("axial", "coronal", "sagittal")
"""Names of the planes across each of the three axes of `STANDARD`."""

SAMPLED_VOXELS = 4_000_000
"""Label maps larger than this are looked at in steps where segments, not findings, are weighed."""

UPRIGHT_DEGREES = 1.0
"""Slices tilted by less than this against the patient's axes are taken as upright."""


@dataclass(frozen=True, slots=True, eq=False)
class StandardView:
    """Volume and label map turned, without resampling, as near to `STANDARD` as whole turns go.

    Attributes
    ----------
    volume, labels : numpy.ndarray
        (f, p, l): to the feet, to the back, to the left.
    spacing_mm : tuple of float
        Along the same axes.
    tilt_degrees : float
        Largest angle left between an axis and the patient's.
    """

    volume: NDArray[np.generic]
    labels: NDArray[np.unsignedinteger]
    spacing_mm: tuple[float, float, float]
    tilt_degrees: float

    @property
    def tilted(self) -> bool:
        """Whether the planes are visibly not those of the patient."""
        return self.tilt_degrees > UPRIGHT_DEGREES


def standard_view(volume: hd.Volume, segmentation: Segmentation) -> StandardView:
    """Views on the arrays of both; neither is copied."""
    turned = volume.to_patient_orientation(STANDARD)
    labels = segmentation.labelmap.to_patient_orientation(STANDARD)
    cosines = np.abs(np.diagonal(np.array(turned.unit_vectors())[:, ::-1]))
    tilt = float(np.degrees(np.arccos(np.clip(cosines.min(), -1.0, 1.0))))
    first, second, third = (float(step) for step in turned.spacing)
    return StandardView(turned.array, labels.array, (first, second, third), tilt)


def chosen_slices(view: StandardView, segmentation: Segmentation) -> tuple[int, int, int]:
    """Index of the slice to show along each axis of `STANDARD`.

    With findings, the slices in which the largest has most voxels. Else those in which the
    segments together come nearest to their largest cross-sections. With no voxel segmented,
    the middle.
    """
    findings = [s.number for s in segmentation.segments if s.category == MORPHOLOGICALLY_ABNORMAL_STRUCTURE]
    is_finding = np.zeros(len(segmentation.segments) + 1, bool)
    is_finding[findings] = True
    if findings and (largest := _largest_part(is_finding[view.labels])) is not None:
        return largest
    step = max(1, round((view.labels.size / SAMPLED_VOXELS) ** (1 / 3)))
    sampled = view.labels[::step, ::step, ::step]
    middles = tuple(extent // 2 for extent in view.labels.shape)
    best = [_fullest(sampled, axis, len(segmentation.segments)) for axis in range(3)]
    first, second, third = (middle if b is None else b * step for b, middle in zip(best, middles, strict=True))
    return first, second, third


def _largest_part(mask: NDArray[np.bool_]) -> tuple[int, int, int] | None:
    """Along each axis, the slice with most voxels of the largest connected part; None if there is none."""
    parts = cc3d.largest_k(mask, k=1, connectivity=26)
    if not parts.any():
        return None
    first, second, third = (int(np.argmax(np.count_nonzero(parts, axis=across))) for across in ((1, 2), (0, 2), (0, 1)))
    return first, second, third


def _fullest(labels: NDArray[np.unsignedinteger], axis: int, segments: int) -> int | None:
    """Slice with the largest sum, over segments, of its area as a part of the segment's largest."""
    slices = np.moveaxis(labels, axis, 0)
    areas = np.array([np.bincount(each.ravel(), minlength=segments + 1)[1:] for each in slices], dtype=float)
    largest = areas.max(axis=0, initial=0.0)
    if not largest.any():
        return None
    scores = (areas[:, largest > 0] / largest[largest > 0]).sum(axis=1)
    return int(np.argmax(scores))
