"""All scores of one series: each pair of structures under each metric, in boxes that are found once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .. import Error
from .mask_pair import Grid, Mask, MaskPair, MasksDiffer
from .metric import SegmentMetric
from .metrics.catalogue import segment_metrics
from .score import Case, Score

Box = tuple[slice, slice, slice]
LabelMap = NDArray[np.unsignedinteger]
Structures = LabelMap | Mapping[int, Mask]
"""Voxels (k, j, i) of structures by number: a label map or, where they overlap, a mask each."""


class UnknownStructure(Error):
    """A pair that asks for a structure which no label map can hold, or for which there is no mask."""

    code = "UNKNOWN_STRUCTURE"

    def __init__(self, segment: str, number: int) -> None:
        super().__init__(segment, number)

    def __str__(self) -> str:
        segment, number = self.args
        return f"pair {segment!r} asks for structure {number}, for which there is no mask"


@dataclass(frozen=True, slots=True)
class Pair:
    """Structures of both sides that are one and the same, by number.

    Attributes
    ----------
    segment : str
        Name in scores and reports.
    reference, prediction : tuple of int
        The union of these numbers is scored. Empty: the side does not have the structure.
    """

    segment: str
    reference: tuple[int, ...]
    prediction: tuple[int, ...]


def score_structures(
    reference: Structures,
    prediction: Structures,
    pairs: Sequence[Pair],
    grid: Grid,
    case: Case,
    metrics: Sequence[SegmentMetric] | None = None,
) -> list[Score]:
    """Scores of all pairs, pair by pair and in the order of the metrics.

    Parameters
    ----------
    reference, prediction : ndarray of int, or mapping of number to mask
        Both on the image's grid, (k, j, i).
    grid : Grid
        Shape and spacing of the image.
    metrics : sequence of SegmentMetric, optional
        All of ``segment_metrics()`` where none are given.

    Raises
    ------
    MasksDiffer
        If an array is not on the grid.
    UnknownStructure
        If there is no mask for a number of a pair.
    """
    chosen = segment_metrics() if metrics is None else metrics
    return [
        Score(case, name, metric.name, metric.value(masks), metric.unit)
        for name, masks in mask_pairs(reference, prediction, pairs, grid)
        for metric in chosen
    ]


def score_failure(
    reference: Structures,
    pairs: Sequence[Pair],
    grid: Grid,
    case: Case,
    reason: str,
    metrics: Sequence[SegmentMetric] | None = None,
) -> list[Score]:
    """Scores of a series for which the model gave nothing: the worst value of each metric, with the reason.

    Parameters and errors are those of `score_structures`.
    """
    chosen = segment_metrics() if metrics is None else metrics
    return [
        Score(case, name, metric.name, metric.worst(masks), metric.unit, reason)
        for name, masks in mask_pairs(reference, {}, [Pair(p.segment, p.reference, ()) for p in pairs], grid)
        for metric in chosen
    ]


def mask_pairs(
    reference: Structures, prediction: Structures, pairs: Sequence[Pair], grid: Grid
) -> Iterator[tuple[str, MaskPair]]:
    """Name and masks of each pair, cut to the smallest box that holds both."""
    sides = (_Side.of(reference, grid), _Side.of(prediction, grid))
    for pair in pairs:
        wanted = (pair.reference, pair.prediction)
        found = [side.box(pair.segment, each) for side, numbers in zip(sides, wanted, strict=True) for each in numbers]
        box = _hull([box for box in found if box is not None])
        first, second = (side.mask(numbers, box) for side, numbers in zip(sides, wanted, strict=True))
        yield pair.segment, MaskPair(first, second, grid)


@dataclass(frozen=True, slots=True, eq=False)
class _Side:
    """Structures of one side with their boxes."""

    structures: Structures
    boxes: Mapping[int, Box | None]

    @classmethod
    def of(cls, structures: Structures, grid: Grid) -> _Side:
        arrays = structures.values() if isinstance(structures, Mapping) else (structures,)
        for array in arrays:
            if array.shape != grid.shape:
                raise MasksDiffer(
                    f"array of {array.shape} voxels, the image has {grid.shape}: resample it onto that grid"
                )
        if isinstance(structures, Mapping):
            return cls(structures, {number: _box(mask) for number, mask in structures.items()})
        return cls(structures, dict(enumerate(ndimage.find_objects(structures), start=1)))

    def box(self, segment: str, number: int) -> Box | None:
        """Smallest box of a structure; None where it has no voxel."""
        missing = isinstance(self.structures, Mapping) and number not in self.structures
        if number < 1 or missing:
            raise UnknownStructure(segment, number)
        return self.boxes.get(number)

    def mask(self, numbers: tuple[int, ...], box: Box) -> Mask:
        """Union of some structures in a box."""
        if isinstance(self.structures, Mapping):
            parts = [self.structures[number][box] for number in numbers]
        else:
            cut = self.structures[box]
            parts = [cut == number for number in numbers]
        shape = tuple(side.stop - side.start for side in box)
        return np.logical_or.reduce(parts) if parts else np.zeros(shape, np.bool_)


def _box(mask: Mask) -> Box | None:
    """Smallest box of a mask."""
    found = ndimage.find_objects(mask.view(np.uint8))
    return found[0] if found else None


def _hull(boxes: Sequence[Box]) -> Box:
    """Smallest box that holds all; of no voxel where there are none."""
    if not boxes:
        return (slice(0, 0), slice(0, 0), slice(0, 0))
    sides = [slice(min(s.start for s in each), max(s.stop for s in each)) for each in zip(*boxes, strict=True)]
    return (sides[0], sides[1], sides[2])
