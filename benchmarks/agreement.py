"""Several readers: how they agree, and their consensus."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import combinations

import numpy as np
import SimpleITK as sitk  # noqa: N813 - its own documentation's name

from .. import Error
from .mask_pair import Grid
from .metric import SegmentMetric
from .metrics.catalogue import segment_metrics
from .references.packed_mask import PackedMask, joint_box, pack
from .score import Case, Score
from .scoring import StructureMasks, score_structures

MAJORITY_VOTE = "majority vote"
STAPLE = "STAPLE"
BETWEEN_READERS = "between readers"
"""Model and reference of the scores of `inter_observer`: the ceiling that a model is held against."""
STAPLE_THRESHOLD = 0.5
"""Voxels that are at least as probable belong to the consensus."""
STAPLE_ITERATIONS = 200
LEAST_READERS = 2

Reading = Mapping[str, PackedMask]
"""What one reader outlined, by the segment's name. Empty mask: looked and found nothing. Not there: did not look."""


class TooFewReaders(Error):
    """A consensus of fewer readers than it takes."""

    code = "TOO_FEW_READERS"
    refused = True

    def __init__(self, what: str, readers: int) -> None:
        super().__init__(what, readers)

    def __str__(self) -> str:
        what, readers = self.args
        return f"{what} takes {LEAST_READERS} readers or more, not {readers}"


class NoMajority(Error):
    """Readers whose labels differ, and no adjudicator."""

    code = "NO_MAJORITY"
    refused = True

    def __init__(self, labels: tuple[str, ...]) -> None:
        super().__init__(labels)

    def __str__(self) -> str:
        return f"no majority among {', '.join(self.args[0]) or 'no labels'}: give the adjudicator's label"


@dataclass(frozen=True, slots=True)
class ReadSeries:
    """A series that several readers outlined.

    Attributes
    ----------
    readers : mapping of str to Reading
        By the reader's name.
    """

    patient_id: str
    series_instance_uid: str
    grid: Grid
    readers: Mapping[str, Reading]


@dataclass(frozen=True, slots=True, eq=False)
class StapleConsensus:
    """Consensus by STAPLE and how well each reader performed against it.

    Attributes
    ----------
    sensitivity, specificity : tuple of float
        Of each reader, in the order given; NaN where nobody marked anything.
    """

    mask: PackedMask
    sensitivity: tuple[float, ...]
    specificity: tuple[float, ...]


class DecidedBy(StrEnum):
    """How a label was agreed on."""

    ALL = "all readers"
    MAJORITY = "majority"
    ADJUDICATOR = "adjudicator"


@dataclass(frozen=True, slots=True)
class AgreedLabel:
    """The label of an image and how it came about."""

    label: str
    decided_by: DecidedBy


def score_readers(series: ReadSeries, metrics: Sequence[SegmentMetric] | None = None) -> list[Score]:
    """Each two readers against each other, in the structures that both looked for.

    The scores name the reader who comes first as reference and the other as model. Where no
    metrics are given, all symmetric ones: for the others it would matter who comes first.
    """
    chosen = metrics or [metric for metric in segment_metrics() if metric.symmetric]
    scores = []
    for first, second in combinations(series.readers, 2):
        case = Case(series.patient_id, series.series_instance_uid, second, first)
        shared = _shared(series.readers[first], series.readers[second])
        scores += score_structures(shared, series.grid, case, chosen)
    return scores


def inter_observer(scores: Iterable[Score]) -> list[Score]:
    """One score for each series, segment and metric: the mean over all pairs of readers.

    Give the result to ``statistics.summarise`` beside the model's: no model can be shown to be
    better than this by these readers. Pairs where the metric is undefined have no part.
    """
    groups: dict[tuple[str, str, str], list[Score]] = {}
    for score in scores:
        groups.setdefault((score.case.series_instance_uid, score.segment, score.metric), []).append(score)
    return [_mean_of(group) for group in groups.values()]


def _mean_of(group: Sequence[Score]) -> Score:
    values = [score.value for score in group if score.defined]
    case = replace(group[0].case, model=BETWEEN_READERS, reference=BETWEEN_READERS)
    return replace(group[0], case=case, value=math.fsum(values) / len(values) if values else math.nan)


def consensus(readers: Mapping[str, Reading]) -> dict[str, Reading]:
    """Majority vote and STAPLE of all structures that two readers or more looked for."""
    by_segment: dict[str, list[PackedMask]] = {}
    for reading in readers.values():
        for segment, mask in reading.items():
            by_segment.setdefault(segment, []).append(mask)
    several = {segment: masks for segment, masks in by_segment.items() if len(masks) >= LEAST_READERS}
    return {
        MAJORITY_VOTE: {segment: majority_vote(masks) for segment, masks in several.items()},
        STAPLE: {segment: staple(masks).mask for segment, masks in several.items()},
    }


def majority_vote(masks: Sequence[PackedMask]) -> PackedMask:
    """Voxels that more than half of the readers marked; of an even number, half is not enough.

    Raises
    ------
    TooFewReaders
        If there are fewer than two.
    """
    if len(masks) < LEAST_READERS:
        raise TooFewReaders("a majority vote", len(masks))
    box = joint_box(masks)
    votes = np.zeros([side.stop - side.start for side in box], np.uint16)
    for mask in masks:
        votes += mask.cut(box)
    return pack(2 * votes > len(masks), masks[0].shape, (box[0].start, box[1].start, box[2].start))


def staple(masks: Sequence[PackedMask]) -> StapleConsensus:
    """Consensus by simultaneous truth and performance level estimation (Warfield et al., IEEE TMI 2004;23:903).

    SimpleITK's filter on the box that holds all masks with one voxel of background round it:
    the prior, and so the result, depends on that region, and in a whole image the
    background would drown the readers' differences.

    Raises
    ------
    TooFewReaders
        If there are fewer than two.
    """
    if len(masks) < LEAST_READERS:
        raise TooFewReaders("STAPLE", len(masks))
    box = joint_box(masks)
    if all(mask.empty for mask in masks):
        unknown = (math.nan,) * len(masks)
        return StapleConsensus(masks[0], unknown, unknown)
    estimate = sitk.STAPLEImageFilter()
    estimate.SetForegroundValue(1)
    estimate.SetMaximumIterations(STAPLE_ITERATIONS)
    probability = estimate.Execute([sitk.GetImageFromArray(np.pad(mask.cut(box), 1).view(np.uint8)) for mask in masks])
    inner = sitk.GetArrayViewFromImage(probability)[1:-1, 1:-1, 1:-1]
    agreed = pack(inner >= STAPLE_THRESHOLD, masks[0].shape, (box[0].start, box[1].start, box[2].start))
    return StapleConsensus(agreed, tuple(estimate.GetSensitivity()), tuple(estimate.GetSpecificity()))


def agree_on_label(labels: Sequence[str], adjudicator: str | None = None) -> AgreedLabel:
    """Label of an image by RICORD's rule for radiographs: what more than half of the readers say, else the adjudicator.

    Tsai et al., Radiology 2021;299:E204: three radiologists label each radiograph; two that
    agree decide, and where all three differ another radiologist does.

    Raises
    ------
    NoMajority
        If no label has one and there is no adjudicator.
    """
    for label in dict.fromkeys(labels):
        votes = sum(each == label for each in labels)
        if votes == len(labels):
            return AgreedLabel(label, DecidedBy.ALL)
        if 2 * votes > len(labels):
            return AgreedLabel(label, DecidedBy.MAJORITY)
    if adjudicator is None:
        raise NoMajority(tuple(labels))
    return AgreedLabel(adjudicator, DecidedBy.ADJUDICATOR)


def _shared(reference: Reading, prediction: Reading) -> list[StructureMasks]:
    """Structures that are on both sides, in the order of the reference."""
    return [StructureMasks(name, mask, prediction[name]) for name, mask in reference.items() if name in prediction]
