"""What an image found, in the card's segments; segments that share voxels among them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from pydicom.sr.coding import Code
from voxfleet.models.container.card import Image
from voxfleet.models.container.label_map import InvalidResult, from_segments, read_label_map, write_volume
from voxfleet.models.segmentation import Segment, Segmentation

LUNG = Code("39607008", "SCT", "Lung")
WRITTEN = np.array([[[0, 1, 2, 3]]], np.uint8)


def segments(*names: str, contains: dict[str, tuple[int, ...]]) -> tuple[Segment, ...]:
    """Numbered in this order."""
    return tuple(
        Segment(number, name, name, LUNG, LUNG, (0, 0, 0), contains=contains.get(name, ()))
        for number, name in enumerate(names, start=1)
    )


def found() -> Segmentation:
    """A lung that contains an opacity, and a heart."""
    volume = hd.Volume(WRITTEN, np.eye(4), "PATIENT")
    return Segmentation(volume, segments("Lung", "Opacity", "Heart", contains={"Lung": (2,)}))


def image(**numbers: int) -> Image:
    """Only its labels matter here."""
    place = Path()
    texts = ("", (), "", "", "", "", "", "")
    return Image(*texts, numbers=numbers, engine="", user="", time_limit_s=1, memory_bytes=1, folder=place)


CARD = segments("opacity", "lung", contains={"lung": (1,)})


def test_segments_that_share_voxels():
    """Opacity is 1 and lung, which contains it, is 2 on the card; the heart is ignored."""
    given = from_segments("m", image(Lung=2, Opacity=1, Heart=0), found(), found().labelmap, CARD)
    assert given.labelmap.array.tolist() == [[[0, 2, 1, 0]]]
    assert given.mask(2).tolist() == [[[False, True, True, False]]]


def test_sharing_that_the_card_does_not_know():
    """A lung without its opacity would be smaller than what the image wrote."""
    card = tuple(replace(each, contains=()) for each in CARD)
    with pytest.raises(InvalidResult, match="lung and opacity share voxels"):
        from_segments("m", image(Lung=2, Opacity=1, Heart=0), found(), found().labelmap, card)


def test_an_ignored_part_of_a_segment():
    """What a segment shares with an ignored one would be lost: that is told."""
    with pytest.raises(InvalidResult, match="lung shares voxels with a segment that its card ignores"):
        from_segments("m", image(Lung=2, Opacity=0, Heart=1), found(), found().labelmap, CARD)


def test_a_volume_there_and_back(tmp_path):
    """Written and read, a volume of labels is the same."""
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, 1.5], [0, 2.0, 0], [4.0, 0, 0]])
    volume = hd.Volume(np.arange(24, dtype=np.int16).reshape(2, 3, 4), affine, "PATIENT")
    write_volume(volume, tmp_path / "x.nii.gz")
    assert np.array_equal(read_label_map("m", tmp_path / "x.nii.gz", volume), volume.array)
