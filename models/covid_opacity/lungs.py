"""Which lung a voxel lies in: by the rules of covid-opacity-hu, or by a network that finds lungs too."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cc3d
import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..card_file import read_card
from ..parameters import numbers
from ..rules.opacity import BORDER_HU, Bands, find_lungs_with_opacity
from ..rules.refinement import Structure, refine
from ..rules.working_grid import LOWEST_HU, working_grid
from ..segmentation import Segmentation
from .card import Classes

RIGHT, LEFT = 1, 2
_RULES_CARD = Path(__file__).parents[1] / "cards" / "covid-opacity-hu.yaml"


@dataclass(frozen=True, slots=True, eq=False)
class LungMap:
    """Which lung each voxel lies in: 1 right, 2 left (k, j, i).

    Attributes
    ----------
    aerated : ndarray of uint8
        The lungs as far as they are known without what the network finds.
    reach : ndarray of uint8
        Where a finding is one of that lung; all of `aerated`, and dense tissue that belongs to a lung.
    """

    aerated: NDArray[np.uint8]
    reach: NDArray[np.uint8]


def lungs_by_rules(volume: hd.Volume, model: str) -> LungMap:
    """The lungs of covid-opacity-hu, with its own parameters.

    Raises
    ------
    NoLung, InvalidVolume
        If no aerated lung is found; if the volume is no CT.
    """
    values = numbers(read_card(_RULES_CARD), {})
    closing_mm = values.pop("closing_radius_mm")
    grid = working_grid(volume, model)
    lungs, _ = find_lungs_with_opacity(grid, Bands(**values), closing_mm, model)
    labels = refine(
        grid,
        (
            Structure(RIGHT, lungs.right, LOWEST_HU, BORDER_HU),
            Structure(LEFT, lungs.left, LOWEST_HU, BORDER_HU),
        ),
    )
    reach = labels.copy()
    # Opacity at the lung's border is denser than what refining takes for lung.
    for side, lung in ((RIGHT, lungs.right), (LEFT, lungs.left)):
        reach[(reach == 0) & (grid.enlarge(lung.view(np.uint8)) != 0)] = side
    return LungMap(grid.to_source(labels).array, grid.to_source(reach).array)


def lungs_of_network(found: Segmentation, classes: Classes) -> LungMap:
    """The lungs of a network that finds them, each with the opacities that it holds.

    A label map has one label for each voxel, so opacity is not lung there. What hangs together with a lung is in
    it; between two lungs, the nearer one counts.
    """
    array = found.labelmap.array
    aerated = np.zeros(array.shape, np.uint8)
    for side, number in zip((RIGHT, LEFT), classes.lungs, strict=True):
        aerated[array == number] = side
    opaque = np.isin(array, [number for number, _ in classes.findings])
    pieces = cc3d.connected_components((opaque | (aerated > 0)).view(np.uint8), connectivity=26)
    with_lung = np.zeros(int(pieces.max()) + 1, np.bool_)
    with_lung[np.unique(pieces[aerated > 0])] = True
    opaque &= with_lung[pieces]
    reach = aerated.copy()
    if opaque.any():
        box = ndimage.find_objects((opaque | (aerated > 0)).view(np.uint8))[0]
        spacing = found.labelmap.spacing
        away = [_distance_mm(aerated[box] == side, spacing) for side in (RIGHT, LEFT)]
        nearer = np.where(away[0] <= away[1], RIGHT, LEFT).astype(np.uint8)
        reach[box][opaque[box]] = nearer[opaque[box]]
    return LungMap(aerated, reach)


def _distance_mm(lung: NDArray[np.bool_], spacing_mm: tuple[float, ...]) -> NDArray[np.float32]:
    """Distance of each voxel to a lung; infinite where there is none."""
    if not lung.any():
        return np.full(lung.shape, np.inf, np.float32)
    distance: NDArray[np.float32] = ndimage.distance_transform_edt(~lung, sampling=spacing_mm).astype(np.float32)
    return distance
