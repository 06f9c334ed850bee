"""covid-opacity-hu: ground-glass opacity and consolidation in each lung, by Hounsfield bands.

A measurement made by rules, not a diagnosis: whatever makes lung dense is counted. The bands:
aerated lung ends at -700 HU (Colombi, Radiology 2020, doi:10.1148/radiol.2020201433; Negroni,
J Digit Imaging 2022, doi:10.1007/s10278-022-00593-z), ground glass ends at -300 HU (BMC Infect
Dis 2021, doi:10.1186/s12879-021-06556-z), lung without air at 100 HU (Lanza, Eur Radiol 2020,
doi:10.1007/s00330-020-07013-2).

The lung takes in what a ball of `closing_radius_mm` bridges and dense tissue that dents its
outer surface. Strands thinner than twice `vessel_radius_mm` (vessels, airway walls, fissures)
and dense tissue within `hilum_mm` of the airways are left out.
"""

from __future__ import annotations

from collections.abc import Mapping

import highdicom as hd

from ..model import ModelCard
from ..parameters import numbers
from ..rules.opacity import BORDER_HU, Bands, find_lungs_with_opacity, find_opacity
from ..rules.refinement import Structure, refine
from ..rules.working_grid import LOWEST_HU, working_grid
from ..segmentation import Segmentation

RIGHT_LUNG, LEFT_LUNG = 1, 2
RIGHT_GROUND_GLASS, RIGHT_CONSOLIDATION, LEFT_GROUND_GLASS, LEFT_CONSOLIDATION = 3, 4, 5, 6
"""Segment numbers of the card."""


class CovidOpacityHu:
    """The loaded model; it holds nothing but its card."""

    def __init__(self, card: ModelCard) -> None:
        self._card = card

    @property
    def card(self) -> ModelCard:
        """What the model declares about itself."""
        return self._card

    def segment(self, volume: hd.Volume, parameters: Mapping[str, str]) -> Segmentation:
        """Lungs and their opacity on the grid of `volume`; see `Model.segment`.

        Raises
        ------
        NoLung
            If no aerated lung is found.
        InvalidParameter, InvalidVolume
            If a parameter is unknown or no number; if the volume is no CT.
        """
        values = numbers(self._card, parameters)
        closing_mm = values.pop("closing_radius_mm")
        bands = Bands(**values)
        grid = working_grid(volume, self._card.name)
        lungs, airway = find_lungs_with_opacity(grid, bands, closing_mm, self._card.name)
        opacity = find_opacity(grid, lungs, airway, bands)
        labels = refine(
            grid,
            (
                Structure(RIGHT_LUNG, lungs.right, LOWEST_HU, BORDER_HU),
                Structure(LEFT_LUNG, lungs.left, LOWEST_HU, BORDER_HU),
            ),
        )
        for number, lung, found in (
            (RIGHT_GROUND_GLASS, lungs.right, opacity.ground_glass),
            (RIGHT_CONSOLIDATION, lungs.right, opacity.consolidation),
            (LEFT_GROUND_GLASS, lungs.left, opacity.ground_glass),
            (LEFT_CONSOLIDATION, lungs.left, opacity.consolidation),
        ):
            labels[grid.enlarge((lung & found).view("uint8")) != 0] = number
        return Segmentation(grid.to_source(labels), self._card.segments)


def load(card: ModelCard, device: str) -> CovidOpacityHu:  # noqa: ARG001 - runs on the CPU, whatever the device
    """The model; `device` is of no concern to it."""
    return CovidOpacityHu(card)
