"""Candidates of a detector held against the lesions that an expert marked on a series."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from ..models.codes import ANATOMICAL_STRUCTURE
from .case import CandidateList, CaseDetections, Problem
from .lesions import Labels, label_lesions
from .metrics.froc import Candidate, Detections
from .readings import Expert
from .references.coding import same_code
from .references.mark import MarkedBox, MarkedLine
from .references.packed_mask import union
from .references.reference import Annotation, Structure

Floats = NDArray[np.float64]
OUTSIDE = "CANDIDATE_OUTSIDE"
"""Code of candidates that lie outside of the image."""


@dataclass(frozen=True, slots=True, eq=False)
class Lesions:
    """Lesions of one reader, numbered from 1: parts of masks first, then boxes, then points and lines.

    Attributes
    ----------
    parts : ndarray of uint32, shape (k, j, i)
        Part of the masks that each voxel of their box belongs to, 0 for none.
    start : ndarray of int, shape (3,)
        Voxel (k, j, i) where that box begins.
    boxes : sequence of sequence of MarkedBox
        Those that touch are one lesion.
    balls : sequence of (ndarray, float)
        Middle in LPS mm, and radius in mm.
    """

    geometry: hd.VolumeGeometry
    parts: Labels
    start: NDArray[np.int_]
    boxes: Sequence[Sequence[MarkedBox]]
    balls: Sequence[tuple[Floats, float]]

    @property
    def count(self) -> int:
        """How many there are."""
        return int(self.parts.max(initial=0)) + len(self.boxes) + len(self.balls)

    def at(self, place: Floats) -> tuple[int, ...]:
        """Lesions that hold a place (k, j, i), a continuous index."""
        found = []
        voxel = np.rint(place).astype(int) - self.start
        if (voxel >= 0).all() and (voxel < self.parts.shape).all() and (part := int(self.parts[tuple(voxel)])):
            found.append(part)
        first = int(self.parts.max(initial=0)) + 1
        found += [n for n, boxes in enumerate(self.boxes, start=first) if any(_holds(box, place) for box in boxes)]
        position = self.geometry.map_indices_to_reference(place[None])[0]
        first += len(self.boxes)
        # LPS coordinates come with rounding: a place as far off as the radius is within it.
        near = (math.dist(position, middle) <= radius + 1e-6 for middle, radius in self.balls)
        return (*found, *(n for n, hit in enumerate(near, start=first) if hit))


def detect(
    expert: Expert, lists: Sequence[CandidateList], irrelevant: Collection[str], radius_mm: float
) -> tuple[CaseDetections, ...]:
    """What the candidates of each list hit of one reader's lesions; those outside of the image are left out.

    Parameters
    ----------
    irrelevant : collection of str
        Names of structures whose candidates count neither as hits nor as false positives.
    radius_mm : float
        As far as a point that is marked reaches.
    """
    annotation = expert.annotation
    counted = [each.number for each in annotation.structures if each.name not in irrelevant and not _organ(each)]
    passed = [each.number for each in annotation.structures if each.name in irrelevant]
    lesions, others = (lesions_of(annotation, numbers, radius_mm) for numbers in (counted, passed))
    return tuple(_detections(each, expert.name, lesions, others) for each in lists)


def outside_of(geometry: hd.VolumeGeometry, lists: Sequence[CandidateList]) -> Iterator[Problem]:
    """Lists with candidates outside of the image, once each."""
    for each in lists:
        places = _places(geometry, each)
        out = [number for number, place in enumerate(places) if not _inside(geometry, place)]
        if out:
            x, y, z = each.points[out[0]].position_mm
            reason = f"{len(out)} candidates lie outside of the image, left out: the first is at ({x:g}, {y:g}, {z:g})"
            yield Problem(OUTSIDE, f"{reason} mm LPS", each.model)


def lesions_of(annotation: Annotation, numbers: Collection[int], radius_mm: float) -> Lesions:
    """Lesions of some structures; marks of a structure that has a mask are no further lesions.

    A diameter (line) is a ball round its middle with half its length as radius; a shorter one of the structure
    with its middle in that ball is the same lesion's. Each point is a ball of `radius_mm`.
    """
    masks = [mask for number, mask in annotation.masks.items() if number in numbers and not mask.empty]
    marked = {each for each in numbers if each not in annotation.masks}
    parts, start = np.zeros((0, 0, 0), np.uint32), np.zeros(3, int)
    if masks:
        whole = union(masks)
        parts, start = label_lesions(whole.cropped()), np.array([side.start for side in whole.box])
    boxes = [
        group
        for number in sorted(marked)
        for group in _touching([b for b in annotation.boxes if b.structure == number])
    ]
    balls = [(np.array(each.position_mm), radius_mm) for each in annotation.points if each.structure in marked]
    for number in sorted(marked):
        balls += _diameters([each for each in annotation.lines if each.structure == number])
    return Lesions(annotation.geometry, parts, start, boxes, balls)


def _diameters(lines: Sequence[MarkedLine]) -> list[tuple[Floats, float]]:
    """Middle and radius of each lesion whose diameters are the lines of one structure, the longest first."""
    ends = [(np.array(each.points_mm[0]), np.array(each.points_mm[-1])) for each in lines]
    balls: list[tuple[Floats, float]] = []
    for one, other in sorted(ends, key=lambda pair: -math.dist(*pair)):
        middle = (one + other) / 2
        if not any(math.dist(middle, known) <= radius for known, radius in balls):
            balls.append((middle, math.dist(one, other) / 2))
    return balls


def _detections(each: CandidateList, reference: str, lesions: Lesions, others: Lesions) -> CaseDetections:
    candidates, irrelevant = [], 0
    for point, place in zip(each.points, _places(lesions.geometry, each), strict=True):
        if not _inside(lesions.geometry, place):
            continue
        hit = lesions.at(place)
        if not hit and others.at(place):
            irrelevant += 1
        else:
            candidates.append(Candidate(point.probability, hit))
    return CaseDetections(each.model, reference, Detections(lesions.count, tuple(candidates)), irrelevant)


def _organ(structure: Structure) -> bool:
    """Whether a structure is coded as normal anatomy."""
    return same_code(structure.category, ANATOMICAL_STRUCTURE)


def _places(geometry: hd.VolumeGeometry, each: CandidateList) -> Floats:
    """Continuous indices (k, j, i) of a list's candidates, shape (n, 3)."""
    points = np.array([point.position_mm for point in each.points], float).reshape(-1, 3)
    found: Floats = geometry.map_reference_to_indices(points)
    return found


def _inside(geometry: hd.VolumeGeometry, place: Floats) -> bool:
    from_face = place + 0.5
    return bool((from_face >= 0).all() and (from_face <= np.array(geometry.spatial_shape)).all())


def _holds(box: MarkedBox, place: Floats) -> bool:
    return bool((place >= np.array(box.low)).all() and (place <= np.array(box.high)).all())


def _touching(boxes: Sequence[MarkedBox]) -> list[list[MarkedBox]]:
    """Boxes that touch, also by others between them, together: drawn slice by slice they are one."""
    if not boxes:
        return []
    low, high = np.array([each.low for each in boxes]), np.array([each.high for each in boxes])
    met = (low[:, None] <= high[None]).all(axis=2) & (low[None] <= high[:, None]).all(axis=2)
    count, group = connected_components(met, directed=False)
    return [[box for box, of in zip(boxes, group, strict=True) if of == n] for n in range(count)]
