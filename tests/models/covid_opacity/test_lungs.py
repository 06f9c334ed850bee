"""Opacities of a network that finds lungs too: each lies in the lung that it hangs together with."""

from __future__ import annotations

import highdicom as hd
import numpy as np
from pydicom.sr.coding import Code
from voxfleet.models.covid_opacity.card import Classes
from voxfleet.models.covid_opacity.lungs import lungs_of_network
from voxfleet.models.covid_opacity.vocabulary import FINDINGS
from voxfleet.models.segmentation import Segment, Segmentation

LUNG = Code("39607008", "SCT", "Lung")
CLASSES = Classes((1, 2), ((3, FINDINGS[0]),))


def of(row: list[int], spacing_mm: float = 1.0) -> list[int]:
    """Lungs of one row of voxels: 1 and 2 lungs, 3 opacity."""
    segments = tuple(Segment(n, str(n), str(n), LUNG, LUNG, (0, 0, 0)) for n in (1, 2, 3))
    array = np.array(row, np.uint8)[np.newaxis, np.newaxis]
    volume = hd.Volume(array, np.diag([1.0, 1.0, spacing_mm, 1.0]), "PATIENT")
    return lungs_of_network(Segmentation(volume, segments), CLASSES).reach[0, 0].tolist()


def test_opacity_between_the_lungs_belongs_to_the_nearer_one():
    """1 1 3 3 3 3 3 2: two of five are nearer to the left lung; the one in the middle goes to the right."""
    assert of([1, 1, 3, 3, 3, 3, 3, 2]) == [1, 1, 1, 1, 1, 2, 2, 2]


def test_opacity_that_hangs_together_with_no_lung_is_left_out():
    """Beyond a gap nothing is in a lung, how near it may be."""
    assert of([1, 3, 0, 3, 0, 2]) == [1, 1, 0, 0, 0, 2]


def test_one_lung_alone():
    """Without a left lung all that hangs together is in the right one; without any lung nothing is in one."""
    assert of([1, 3, 3, 0]) == [1, 1, 1, 0]
    assert of([0, 3, 3, 0]) == [0, 0, 0, 0]
