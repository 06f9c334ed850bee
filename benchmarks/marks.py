"""Points, lines and boxes of experts held against a model's masks: hit or miss, and how far."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import highdicom as hd
import numpy as np
from numpy.typing import NDArray

from .pairing import Pairing
from .references.mark import MarkedBox, MarkedLine, MarkedPoint
from .references.packed_mask import Box, PackedMask
from .references.reference import Annotation, Structure


@dataclass(frozen=True, slots=True)
class MarkScore:
    """One mark of an expert against the model's structure of the same code.

    Attributes
    ----------
    structure : Structure
        That the expert marked.
    segment : str
        Name of the pair.
    kind : str
        ``point``, ``line`` or ``box``.
    hit : bool
        Point: the voxel that holds it belongs to the model's structure. Line: so does one that it runs
        through. Box: so does a voxel whose centre lies in it.
    distance_mm : float
        From the point, or the middle of line or box, to the nearest voxel's centre of the model's
        structure; 0 where the middle lies in it, NaN where the model found nothing.
    iou : float
        Of a box and the box round the model's voxels on the slices of that box, 0 where there are none;
        NaN for points and lines.
    """

    structure: Structure
    segment: str
    kind: str
    hit: bool
    distance_mm: float
    iou: float = math.nan


def marked(annotation: Annotation) -> tuple[Structure, ...]:
    """Structures of an annotation that have a point, a line or a box."""
    marks: Sequence[MarkedPoint | MarkedLine | MarkedBox] = (*annotation.points, *annotation.lines, *annotation.boxes)
    numbers = {mark.structure for mark in marks}
    return tuple(each for each in annotation.structures if each.number in numbers)


def mark_scores(expert: Annotation, prediction: Annotation, pairing: Pairing) -> tuple[MarkScore, ...]:
    """Every mark of a paired structure, held against the model's mask of the pair.

    Parameters
    ----------
    expert, prediction : Annotation
        On one grid.
    pairing : Pairing
        Of ``marked(expert)`` and ``outlined(prediction)``.
    """
    geometry = expert.geometry
    scores: list[MarkScore] = []
    for pair in pairing.pairs:
        mask = pair.prediction.mask(prediction)
        for kind, number, path in _paths(expert, set(pair.expert.numbers)):
            scores.append(_on_path(expert.structure(number), pair.name, kind, path, mask, geometry))
        boxes = (each for each in expert.boxes if each.structure in pair.expert.numbers)
        scores += [_in_box(expert.structure(box.structure), pair.name, box, mask, geometry) for box in boxes]
    return tuple(scores)


def _paths(expert: Annotation, numbers: set[int]) -> Iterator[tuple[str, int, NDArray[np.float64]]]:
    """Kind, structure and places (n, 3), continuous indices, of the points and lines of some structures."""
    for point in (each for each in expert.points if each.structure in numbers):
        yield "point", point.structure, _indices(expert.geometry, [point.position_mm])
    for line in (each for each in expert.lines if each.structure in numbers):
        yield "line", line.structure, _steps(_indices(expert.geometry, line.points_mm))


def _on_path(
    structure: Structure,
    segment: str,
    kind: str,
    path: NDArray[np.float64],
    mask: PackedMask,
    geometry: hd.VolumeGeometry,
) -> MarkScore:
    """Score of places (n, 3), continuous indices, one after the other."""
    voxels = np.clip(np.rint(path).astype(int), 0, np.array(mask.shape) - 1)
    hit = any(_holds(mask, voxel) for voxel in voxels)
    return MarkScore(structure, segment, kind, hit, _distance_mm(mask, path[len(path) // 2], geometry))


def _in_box(
    structure: Structure, segment: str, box: MarkedBox, mask: PackedMask, geometry: hd.VolumeGeometry
) -> MarkScore:
    low, high = np.array(box.low), np.array(box.high)
    middle = (low + high) / 2
    inside = mask.cut(_voxels_between(low, high, mask.shape))
    distance = _distance_mm(mask, middle, geometry)
    return MarkScore(structure, segment, "box", bool(inside.any()), distance, _iou(low, high, mask))


def _voxels_between(low: NDArray[np.float64], high: NDArray[np.float64], shape: tuple[int, int, int]) -> Box:
    """Voxels whose centres lie from low up to, and without, high."""
    first = np.clip(np.ceil(low), 0, shape).astype(int)
    last = np.clip(np.ceil(high), first, shape).astype(int)
    k, j, i = (slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
    return k, j, i


def _iou(low: NDArray[np.float64], high: NDArray[np.float64], mask: PackedMask) -> float:
    """Intersection over union of a box and the box round a mask's voxels on the slices of it."""
    slices = _voxels_between(low, high, mask.shape)[0]
    part = mask.cut((slices, slice(0, mask.shape[1]), slice(0, mask.shape[2])))
    found = np.argwhere(part)
    if not len(found):
        return 0.0
    own_low = found.min(axis=0) - 0.5 + [slices.start, 0, 0]
    own_high = found.max(axis=0) + 0.5 + [slices.start, 0, 0]
    shared = np.prod(np.clip(np.minimum(high, own_high) - np.maximum(low, own_low), 0, None))
    return float(shared / (np.prod(high - low) + np.prod(own_high - own_low) - shared))


def _holds(mask: PackedMask, voxel: NDArray[np.int_]) -> bool:
    k, j, i = (slice(int(at), int(at) + 1) for at in voxel)
    return bool(mask.cut((k, j, i)).any())


def _distance_mm(mask: PackedMask, place: NDArray[np.float64], geometry: hd.VolumeGeometry) -> float:
    """From a continuous index to the nearest voxel's centre of a mask; 0 if the voxel that holds it is one."""
    if mask.empty:
        return math.nan
    if _holds(mask, np.clip(np.rint(place).astype(int), 0, np.array(mask.shape) - 1)):
        return 0.0
    voxels = np.argwhere(mask.cropped()) + [part.start for part in mask.box]
    return float(np.sqrt((((voxels - place) * geometry.spacing) ** 2).sum(axis=1).min()))


def _indices(geometry: hd.VolumeGeometry, points_mm: Sequence[tuple[float, float, float]]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = geometry.map_reference_to_indices(np.array(points_mm, float))
    return found


def _steps(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Places along a line of corners (n, 3), half a voxel apart or closer, evenly over its length."""
    lengths = np.linalg.norm(np.diff(corners, axis=0), axis=1)
    along = np.concatenate([[0.0], np.cumsum(lengths)])
    count = 2 * math.ceil(float(along[-1])) + 1
    at = np.linspace(0.0, float(along[-1]), count)
    return np.column_stack([np.interp(at, along, corners[:, axis]) for axis in range(3)])
