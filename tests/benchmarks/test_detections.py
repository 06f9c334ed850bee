"""Candidates against lesions, by hand."""

from __future__ import annotations

import highdicom as hd
import numpy as np
import pytest
from voxfleet.benchmarks.case import CandidateList, CandidatePoint
from voxfleet.benchmarks.detections import detect, outside_of
from voxfleet.benchmarks.metrics.froc import Candidate
from voxfleet.benchmarks.readings import Expert
from voxfleet.benchmarks.references.mark import MarkedBox, MarkedLine, MarkedPoint
from voxfleet.benchmarks.references.packed_mask import pack
from voxfleet.benchmarks.references.reference import Annotation, Origin, Structure
from voxfleet.models.codes import ANATOMICAL_STRUCTURE

SHAPE = (6, 20, 24)
AFFINE = np.array([[0, 0, 1, -10], [0, 1, 0, 0], [2, 0, 0, 0], [0, 0, 0, 1]], float)
"""Voxels of 2 x 1 x 1 mm: LPS (x, y, z) = (i - 10, j, 2 k)."""
GEOMETRY = hd.VolumeGeometry(AFFINE, SHAPE, "PATIENT")
TWO_PARTS = np.zeros(SHAPE, bool)
TWO_PARTS[1:3, 2:5, 2:5] = True
TWO_PARTS[4, 12:14, 18:20] = True
LUNG = np.ones(SHAPE, bool)
SCAR = np.zeros(SHAPE, bool)
SCAR[0, 15:18, 2:5] = True


def reader() -> Expert:
    """A mask of two lesions, a box over two slices, a point, two diameters of one lesion; a scar, and the lung."""
    structures = (
        Structure(1, "mass"),
        Structure(2, "boxed"),
        Structure(3, "pointed"),
        Structure(4, "measured"),
        Structure(5, "scar"),
        Structure(6, "lung", category=ANATOMICAL_STRUCTURE),
    )
    annotation = Annotation(
        "1.2",
        "r",
        Origin("a", "a"),
        GEOMETRY,
        structures,
        {1: pack(TWO_PARTS, SHAPE), 5: pack(SCAR, SHAPE), 6: pack(LUNG, SHAPE)},
        points=(MarkedPoint(3, (10.0, 4.0, 4.0)), MarkedPoint(1, (-7.0, 3.0, 2.0))),
        boxes=(MarkedBox(2, (1.5, 9.5, 1.5), (2.5, 12.5, 4.5)), MarkedBox(2, (2.5, 9.5, 1.5), (3.5, 12.5, 4.5))),
        lines=(
            MarkedLine(4, ((0.0, 15.0, 8.0), (4.0, 15.0, 8.0))),
            MarkedLine(4, ((2.0, 14.0, 8.0), (2.0, 16.0, 8.0))),
        ),
    )
    return Expert("r", annotation)


@pytest.mark.parametrize(
    ("place", "hit"),
    [
        ((-7.0, 3.0, 2.0), (1,)),
        ((-5.6, 4.4, 4.9), (1,)),  # i = 4.4, j = 4.4, k = 2.45: the last voxel
        ((-5.4, 4.4, 4.9), ()),
        ((8.4, 13.0, 8.0), (2,)),
        ((-8.0, 11.0, 6.0), (3,)),  # the second slice of the box
        ((10.0, 4.0, 7.0), (4,)),  # 3 mm from the point
        ((10.0, 4.0, 7.1), ()),
        ((2.0, 17.0, 8.0), (5,)),  # 2 mm from the middle of 4 mm
        ((2.0, 17.1, 8.0), ()),
        ((-7.0, 16.0, 0.0), None),  # the scar
    ],
)
def test_what_is_hit(place: tuple[float, float, float], hit: tuple[int, ...] | None) -> None:
    """A candidate in a lesion hits it; in the lung alone it hits nothing, and in the scar it does not count."""
    (found,) = detect(reader(), [CandidateList("net", (CandidatePoint(place, 0.5),))], ["scar"], 3.0)
    assert found.found.lesions == 5
    assert found.found.candidates == (() if hit is None else (Candidate(0.5, hit),))
    assert found.irrelevant == (hit is None)


def test_no_candidate_and_outside() -> None:
    """A list without candidates still tells of all lesions; what lies outside of the image is told of and left out."""
    lists = [CandidateList("none", ()), CandidateList("far", (CandidatePoint((-10.6, 0.0, 0.0), 1.0),))]
    assert [each.found.candidates for each in detect(reader(), lists, [], 3.0)] == [(), ()]
    assert {each.found.lesions for each in detect(reader(), lists, [], 3.0)} == {6}
    (problem,) = outside_of(GEOMETRY, lists)
    assert (problem.code, problem.model) == ("CANDIDATE_OUTSIDE", "far")
