"""ct-threshold: body, lungs, trachea with bronchi, and bone, by thresholds and morphology.

A measurement made by rules, not a diagnosis. Method and papers stand in `models.chest` and on
the card. A scan without lungs (head, pelvis) gives body and bone.
"""

from __future__ import annotations

from collections.abc import Mapping

import highdicom as hd
import numpy as np
from numpy.typing import NDArray

from ..model import ModelCard
from ..parameters import numbers
from ..rules import chest
from ..rules import morphology as mm
from ..rules.morphology import Mask
from ..rules.refinement import Structure, refine
from ..rules.working_grid import HIGHEST_HU, LOWEST_HU, WorkingGrid, working_grid
from ..segmentation import Segmentation

BODY, RIGHT_LUNG, LEFT_LUNG, AIRWAY, BONE = 1, 2, 3, 4, 5
"""Segment numbers of the card."""

CORTICAL_HU = 350
"""Bone has cortex: a bright piece without a voxel this dense is enhanced blood or gut."""
CORTEX_REACH_MM = 15.0
"""Marrow lies no farther than this from dense bone."""
MARROW_CLOSING_MM = 6.0
MARROW_MM2 = 1500.0
"""Holes in a slice up to this are marrow: a vertebral body; the inside of a skull is larger."""
SMALLEST_BONE_ML = 0.5


class CtThreshold:
    """The loaded model; it holds nothing but its card."""

    def __init__(self, card: ModelCard) -> None:
        self._card = card

    @property
    def card(self) -> ModelCard:
        """What the model declares about itself."""
        return self._card

    def segment(self, volume: hd.Volume, parameters: Mapping[str, str]) -> Segmentation:
        """Body, lungs, airways and bone on the grid of `volume`; see `Model.segment`.

        Raises
        ------
        InvalidParameter, InvalidVolume
            If a parameter is unknown or no number; if the volume is no CT.
        """
        values = numbers(self._card, parameters)
        grid = working_grid(volume, self._card.name)
        body = chest.find_body(grid.reduced, grid.spacing_mm)
        airway = chest.find_airway(grid.reduced, body, grid.spacing_mm)
        lungs = chest.find_lungs(grid, body, airway, values["lung_hu"], values["closing_radius_mm"])
        airway = chest.airway_of_lungs(airway, lungs)
        bone = _bone(grid, body & ~lungs.right & ~lungs.left, values["bone_hu"])
        structures = [
            Structure(BODY, body, chest.BODY_HU, HIGHEST_HU + 1),
            Structure(BONE, bone, values["bone_hu"], HIGHEST_HU + 1, within=(BODY,)),
            Structure(RIGHT_LUNG, lungs.right, LOWEST_HU, values["lung_hu"], within=(0, BODY)),
            Structure(LEFT_LUNG, lungs.left, LOWEST_HU, values["lung_hu"], within=(0, BODY)),
        ]
        if airway is not None:
            within = (BODY, RIGHT_LUNG, LEFT_LUNG)
            structures.append(Structure(AIRWAY, airway.mask, LOWEST_HU, airway.threshold_hu, within=within))
        labels = refine(grid, tuple(structures))
        return Segmentation(grid.to_source(labels), self._card.segments)


def load(card: ModelCard, device: str) -> CtThreshold:  # noqa: ARG001 - runs on the CPU, whatever the device
    """The model; `device` is of no concern to it."""
    return CtThreshold(card)


def _bone(grid: WorkingGrid, where: Mask, bone_hu: float) -> Mask:
    """Bright pieces that have cortex, with their marrow."""
    spacing_mm = grid.spacing_mm
    bright = where & (grid.reduced > bone_hu)
    # Block means blunt thin cortex: the brightest full-grid voxel decides whether there is any.
    cortex = where & (_brightest(grid) > max(CORTICAL_HU, bone_hu))
    bright = mm.touching(bright & mm.dilation(cortex, CORTEX_REACH_MM, spacing_mm), cortex)
    bright = mm.without_small(bright, SMALLEST_BONE_ML / grid.voxel_ml)
    largest = MARROW_MM2 / (spacing_mm[1] * spacing_mm[2])
    return mm.fill_axial_holes(mm.closing(bright, MARROW_CLOSING_MM, spacing_mm), largest) & where


def _brightest(grid: WorkingGrid) -> NDArray[np.int16]:
    """Highest value of each reduced voxel's block."""
    values = grid.hounsfield
    for axis, factor in enumerate(grid.factors):
        if factor > 1:
            starts = np.arange(0, values.shape[axis], factor)
            values = np.maximum.reduceat(values, starts, axis=axis)
    return values
