"""Marks of experts against masks, by hand."""

from __future__ import annotations

import math

import highdicom as hd
import numpy as np
import pytest
from voxfleet.benchmarks.crosswalk import load_crosswalk
from voxfleet.benchmarks.marks import MarkScore, mark_scores, marked
from voxfleet.benchmarks.pairing import outlined, pair_structures
from voxfleet.benchmarks.references.mark import MarkedBox, MarkedLine, MarkedPoint
from voxfleet.benchmarks.references.packed_mask import pack
from voxfleet.benchmarks.references.reference import Annotation, Origin, Structure
from voxfleet.models.codes import LUNG

SHAPE = (6, 20, 24)
AFFINE = np.array([[0, 0, 1, 0], [0, 1, 0, 0], [2, 0, 0, 0], [0, 0, 0, 1]], float)
"""Voxels of 2 x 1 x 1 mm: LPS (x, y, z) = (i, j, 2 k)."""
FOUND = np.zeros(SHAPE, bool)
FOUND[2:4, 4:8, 4:8] = True


def score(mask: np.ndarray, **marks: object) -> MarkScore:
    """Only score of an expert's only mark."""
    geometry = hd.VolumeGeometry(AFFINE, SHAPE, "PATIENT")
    structures = (Structure(1, "lesion", type=LUNG),)
    expert = Annotation("1.2", "r", Origin("a", "a"), geometry, structures, **marks)
    prediction = Annotation("1.2", "m", Origin("b", "b"), geometry, structures, {1: pack(mask, SHAPE)})
    pairing = pair_structures(marked(expert), outlined(prediction), load_crosswalk())
    (only,) = mark_scores(expert, prediction, pairing)
    return only


@pytest.mark.parametrize(
    ("place", "hit", "distance"),
    [
        ((4.0, 4.0, 4.0), True, 0),
        ((4.4, 7.4, 6.9), True, 0),
        ((10.0, 4.0, 4.0), False, 3),  # i = 10, nearest i = 7: 3 mm
        ((4.0, 4.0, 10.0), False, 4),  # k = 5, nearest k = 3: 2 slices of 2 mm
        ((10.0, 11.0, 4.0), False, 5),  # 3 and 4 mm
    ],
)
def test_point(place: tuple[float, float, float], hit: bool, distance: float) -> None:
    """A point hits the voxel that holds it, or lies so far from the nearest centre."""
    found = score(FOUND, points=(MarkedPoint(1, place),))
    assert (found.kind, found.hit) == ("point", hit)
    assert found.distance_mm == pytest.approx(distance)
    assert math.isnan(found.iou)


def test_line() -> None:
    """A line through a corner of the lesion hits it, with its middle outside."""
    found = score(FOUND, lines=(MarkedLine(1, ((7.0, 0.0, 4.0), (7.0, 4.0, 4.0), (15.0, 4.0, 4.0))),))
    assert found.hit
    assert found.distance_mm == pytest.approx(2)  # of 12 mm: the middle is (9, 4, 4)


@pytest.mark.parametrize(
    ("low", "high", "hit", "distance", "iou"),
    [
        ((1.5, 3.5, 3.5), (2.5, 7.5, 7.5), True, 0, 1.0),
        # 4 x 2 shared of 16 + 16 - 8; the middle, j = 5.5 and i = 7.5, lies between four pixels.
        ((1.5, 3.5, 5.5), (2.5, 7.5, 9.5), True, math.hypot(0.5, 0.5), 8 / 24),
        ((1.5, 9.5, 9.5), (2.5, 11.5, 11.5), False, math.hypot(3.5, 3.5), 0.0),  # middle j = i = 10.5
        ((4.5, 3.5, 3.5), (5.5, 7.5, 7.5), False, math.hypot(4, 0.5, 0.5), 0.0),  # two slices of 2 mm, between pixels
    ],
)
def test_box(low: tuple[float, ...], high: tuple[float, ...], hit: bool, distance: float, iou: float) -> None:
    """A rectangle on a slice against the lesion's rectangle on it, and how far its middle is from the lesion."""
    found = score(FOUND, boxes=(MarkedBox(1, low, high),))
    assert (found.kind, found.hit) == ("box", hit)
    assert found.distance_mm == pytest.approx(distance)
    assert found.iou == pytest.approx(iou)


def test_nothing_found() -> None:
    """A model that found nothing misses, at no distance."""
    found = score(np.zeros(SHAPE, bool), points=(MarkedPoint(1, (4.0, 4.0, 4.0)),))
    assert not found.hit
    assert math.isnan(found.distance_mm)
