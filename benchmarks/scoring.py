"""All scores of one series: each structure under each metric, cut to the box that holds it on both sides."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .mask_pair import Grid, MaskPair, MasksDiffer
from .metric import SegmentMetric
from .metrics.catalogue import segment_metrics
from .pairing import Pair
from .references.packed_mask import NOWHERE, PackedMask, joint_box
from .references.reference import Annotation
from .score import Case, Score


@dataclass(frozen=True, slots=True, eq=False)
class StructureMasks:
    """One structure on both sides; structures may share voxels.

    Attributes
    ----------
    segment : str
        Name in scores and reports, the same for every model.
    reference, prediction : PackedMask
        On the image's grid.
    """

    segment: str
    reference: PackedMask
    prediction: PackedMask


def paired_masks(pairs: Iterable[Pair], expert: Annotation, prediction: Annotation) -> Iterator[StructureMasks]:
    """Masks of structures that were paired by code, one after the other: only one is unpacked at a time."""
    for pair in pairs:
        yield StructureMasks(pair.name, pair.expert.mask(expert), pair.prediction.mask(prediction))


def score_structures(
    structures: Iterable[StructureMasks], grid: Grid, case: Case, metrics: Sequence[SegmentMetric] | None = None
) -> list[Score]:
    """Scores of all structures, one after the other and in the order of the metrics.

    Parameters
    ----------
    structures : iterable of StructureMasks
        Of `paired_masks`, or of label maps by ``pack_labels``.
    grid : Grid
        Shape and spacing of the image.
    metrics : sequence of SegmentMetric, optional
        All of ``segment_metrics()`` where none are given.

    Raises
    ------
    MasksDiffer
        If a mask is not on the grid.
    """
    chosen = segment_metrics() if metrics is None else metrics
    return [
        Score(case, structure.segment, metric.name, metric.value(masks), metric.unit)
        for structure, masks in ((each, unpack_pair(each, grid)) for each in structures)
        for metric in chosen
    ]


def score_failure(
    references: Mapping[str, PackedMask],
    grid: Grid,
    case: Case,
    reason: str,
    metrics: Sequence[SegmentMetric] | None = None,
) -> list[Score]:
    """Scores of a series for which the model gave nothing: the worst value of each metric, with the reason.

    Parameters
    ----------
    references : mapping of str to PackedMask
        The expert's mask of each structure that the model is asked for, by the segment's name.
    grid, case, metrics
        As of `score_structures`.
    reason : str
        Why there is no prediction.

    Raises
    ------
    MasksDiffer
        If a mask is not on the grid.
    """
    chosen = segment_metrics() if metrics is None else metrics
    nothing = PackedMask(grid.shape, NOWHERE, 0, np.zeros(0, np.uint8))
    return [
        Score(case, segment, metric.name, metric.worst(masks), metric.unit, reason)
        for segment, masks in (
            (name, unpack_pair(StructureMasks(name, mask, nothing), grid)) for name, mask in references.items()
        )
        for metric in chosen
    ]


def unpack_pair(structure: StructureMasks, grid: Grid) -> MaskPair:
    """Both masks, cut to the smallest box that holds them."""
    for mask in (structure.reference, structure.prediction):
        if mask.shape != grid.shape:
            raise MasksDiffer(
                f"{structure.segment}: mask of {mask.shape}, image of {grid.shape} voxels: resample it onto the image"
            )
    box = joint_box((structure.reference, structure.prediction))
    return MaskPair(structure.reference.cut(box), structure.prediction.cut(box), grid)
