"""Segment and Segmentation: what a model gives back."""

from __future__ import annotations

from dataclasses import dataclass

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom.sr.coding import Code

from .. import Error

SEGMENT_LABEL_LENGTH = 64
"""Longest Segment Label (0062,0005): VR LO, PS3.5 table 6.2-1."""


class InvalidSegmentation(Error):
    """A segmentation that its own segments do not describe."""

    code = "INVALID_SEGMENTATION"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class Segment:
    """One structure that a model can find (PS3.3 C.8.20.4, Segment Description).

    Attributes
    ----------
    number : int
        Segment Number (0062,0004), from 1, fixed by the model's card and never renumbered.
    label : str
        Segment Label for people, at most 64 characters, e.g. ``Right Lung``.
    name : str
        The model's own class name, e.g. ``lung_right``.
    category, type : Code
        Segmented Property Category and Type.
    laterality : Code or None
        Segmented Property Type Modifier: right, left, or none where the type already says it.
    anatomic_region : Code or None
        Where a finding lies; None for an organ.
    color : tuple of int
        Recommended display colour, sRGB, three values of 0 to 255.
    contains : tuple of int
        Numbers of segments whose voxels belong to this one too: a label map holds one
        number per voxel, so a ground-glass voxel (3) of the right lung (1) is held as 3,
        and segment 1 contains (3,). Empty for most.
    """

    number: int
    label: str
    name: str
    category: Code
    type: Code
    color: tuple[int, int, int]
    laterality: Code | None = None
    anatomic_region: Code | None = None
    contains: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.number < 1:
            raise InvalidSegmentation(f"segment number {self.number} is below 1")
        if not 0 < len(self.label) <= SEGMENT_LABEL_LENGTH:
            raise InvalidSegmentation(
                f"segment label {self.label!r} is empty or over {SEGMENT_LABEL_LENGTH} characters"
            )
        if self.number in self.contains:
            raise InvalidSegmentation(f"segment {self.number} contains itself")


@dataclass(frozen=True, slots=True, eq=False)
class Segmentation:
    """A label map and the segments its numbers stand for.

    Attributes
    ----------
    labelmap : highdicom.Volume
        Array (k, j, i) of uint8 or uint16, 0 is background; affine to LPS mm, the same
        as the volume that was segmented.
    segments : tuple of Segment
        All that the model can find, numbered 1..N without gap, found or not.
    """

    labelmap: hd.Volume
    segments: tuple[Segment, ...]

    def __post_init__(self) -> None:
        numbers = [segment.number for segment in self.segments]
        if numbers != list(range(1, len(numbers) + 1)):
            raise InvalidSegmentation(f"segment numbers {numbers} are not 1..N without gap")
        if self.labelmap.array.dtype not in (np.uint8, np.uint16):
            raise InvalidSegmentation(f"label map of {self.labelmap.array.dtype}, not uint8 or uint16")
        highest = int(self.labelmap.array.max(initial=0))
        if highest > len(numbers):
            raise InvalidSegmentation(f"label map holds {highest}, the model has {len(numbers)} segments")

    def mask(self, number: int) -> NDArray[np.bool_]:
        """Voxels (k, j, i) of one segment, those of the segments it contains included."""
        segment = self.segments[number - 1]
        array = self.labelmap.array
        mask: NDArray[np.bool_] = array == number
        for inner in segment.contains:
            mask |= array == inner
        return mask

    @property
    def overlapping(self) -> bool:
        """Whether some voxel belongs to two segments, so that LABELMAP cannot hold it."""
        return any(segment.contains for segment in self.segments)
