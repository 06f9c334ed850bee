"""Ground-glass opacity and consolidation inside the lungs, by bands of Hounsfield units."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..model import ModelError
from . import chest
from . import morphology as mm
from .chest import Airway, Lungs
from .morphology import Mask
from .working_grid import WorkingGrid

BORDER_HU = -500
"""Between aerated lung and the tissue around it: half of each."""
ANGLE_STEPS = 120
"""Rays, 3 degrees apart, from the middle of the chest to its wall."""
ENVELOPE_ANGLE_STEPS = 15
"""Dents of the lung's outer surface narrower than 45 degrees are bridged, within a slice, ..."""
ENVELOPE_HEIGHT_MM = 50.0
"""... if they are also lower than this, along the patient: a dent open below is the diaphragm."""


@dataclass(frozen=True, slots=True)
class Bands:
    """What counts as opacity; HU bounds are lower ends, except the last.

    Attributes
    ----------
    ground_glass_hu, consolidation_hu, highest_hu : float
        Ground glass from the first to below the second, consolidation from there up to the last.
    vessel_radius_mm : float
        Dense strands thinner than twice this are vessels or airway walls.
    opacity_radius_mm : float
        Opacity that a ball of this radius does not fit into is partial volume.
    smallest_ml : float
        Opacity of less volume is noise.
    hilum_mm : float
        Dense tissue this near to the airways is hilum.
    """

    ground_glass_hu: float
    consolidation_hu: float
    highest_hu: float
    vessel_radius_mm: float
    opacity_radius_mm: float
    smallest_ml: float
    hilum_mm: float


@dataclass(frozen=True, slots=True, eq=False)
class Opacity:
    """Masks on the reduced grid; they share no voxel."""

    ground_glass: Mask
    consolidation: Mask


class NoLung(ModelError):
    """The scan shows no aerated lung, so that there is nothing to measure opacity in."""

    code = "NO_LUNG"
    refused = True


def find_lungs_with_opacity(
    grid: WorkingGrid, bands: Bands, closing_mm: float, model: str
) -> tuple[Lungs, Airway | None]:
    """Both lungs with the opacity in them, and the airway.

    Raises
    ------
    NoLung
        If no aerated lung is found.
    """
    body = chest.find_body(grid.reduced, grid.spacing_mm)
    airway = chest.find_airway(grid.reduced, body, grid.spacing_mm)
    lungs = chest.find_lungs(grid, body, airway, bands.consolidation_hu, closing_mm)
    if not lungs.found:
        raise NoLung(model, "no aerated lung in this scan")
    return with_consolidated_periphery(grid, lungs, body, bands), chest.airway_of_lungs(airway, lungs)


def with_consolidated_periphery(grid: WorkingGrid, lungs: Lungs, body: Mask, bands: Bands) -> Lungs:
    """The lungs with dense tissue that dents their outer surface.

    On a ray from the middle of the chest, dense tissue behind the last aerated lung and
    before the chest wall is lung. Where the wall is, the lung on both sides of the dent, and
    above and below it, tells: the lung's outer surface is bridged both ways, and the nearer counts.
    """
    both = lungs.right | lungs.left
    angle, radius_mm = _polar(grid, both)
    farthest_mm = _farthest(both, angle, radius_mm)
    # As a part of the way to the skin, the wall is nearly level: a level bridge follows its curve.
    skin_mm = np.maximum(_farthest(body, angle, radius_mm), 1.0)
    depth = farthest_mm / skin_mm
    ahead = ((0, 0), (ENVELOPE_ANGLE_STEPS, ENVELOPE_ANGLE_STEPS))
    around = ndimage.grey_closing(np.pad(depth, ahead, mode="wrap"), size=(1, ENVELOPE_ANGLE_STEPS))
    slices = round(ENVELOPE_HEIGHT_MM / grid.spacing_mm[0]) | 1
    along = ndimage.grey_closing(depth, size=(slices, 1), mode="constant")
    envelope_mm = np.minimum(around[:, ENVELOPE_ANGLE_STEPS:-ENVELOPE_ANGLE_STEPS], along) * skin_mm
    envelope_mm[farthest_mm == 0] = 0
    behind = (radius_mm > farthest_mm[:, angle]) & (radius_mm <= envelope_mm[:, angle])
    dense = (grid.reduced >= bands.ground_glass_hu) & (grid.reduced <= bands.highest_hu)
    added = mm.opening(behind & dense & body & ~both, bands.vessel_radius_mm, grid.spacing_mm)
    is_right = grid.right_of_mm((_x_or(grid, lungs.right, -np.inf) + _x_or(grid, lungs.left, np.inf)) / 2)
    return Lungs(lungs.right | (added & is_right), lungs.left | (added & ~is_right))


def find_opacity(grid: WorkingGrid, lungs: Lungs, airway: Airway | None, bands: Bands) -> Opacity:
    """Opacity of both lungs without vessels, airway walls, hilum, and partial volume at the pleura."""
    spacing_mm = grid.spacing_mm
    lung = lungs.right | lungs.left
    dense = lung & (grid.reduced >= bands.consolidation_hu) & (grid.reduced <= bands.highest_hu)
    opaque = lung & (grid.reduced >= bands.ground_glass_hu) & (grid.reduced <= bands.highest_hu)
    thinnest_mm = 1.01 * max(spacing_mm)
    strand_mm = max(bands.vessel_radius_mm, thinnest_mm)
    # An opening rounds corners off: the bulk gets back what lies one voxel from it.
    bulk = mm.grow(mm.opening(dense, strand_mm, spacing_mm), dense, thinnest_mm, spacing_mm)
    solid = lung & (grid.reduced >= bands.consolidation_hu)
    vessels = solid & ~bulk
    if airway is not None:
        vessels |= solid & mm.dilation(airway.mask, bands.hilum_mm, spacing_mm)
    tissue = opaque & ~mm.dilation(vessels, min(spacing_mm), spacing_mm)
    core_mm = max(bands.opacity_radius_mm, thinnest_mm)
    core = mm.without_small(mm.opening(tissue, core_mm, spacing_mm), bands.smallest_ml / grid.voxel_ml)
    found = mm.grow(core, opaque & ~vessels, core_mm, spacing_mm)
    return Opacity(found & ~dense, found & dense)


def _polar(grid: WorkingGrid, mask: Mask) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Ray number and distance (mm) of each voxel of a slice (j, i) from the mask's middle."""
    _, row_mm, column_mm = grid.spacing_mm
    rows, columns = np.flatnonzero(mask.any(axis=(0, 2))), np.flatnonzero(mask.any(axis=(0, 1)))
    j, i = np.ogrid[: mask.shape[1], : mask.shape[2]]
    down = (j - (rows[0] + rows[-1]) / 2) * row_mm
    across = (i - (columns[0] + columns[-1]) / 2) * column_mm
    turn = np.arctan2(down, across) / (2 * np.pi) + 0.5
    return np.minimum((turn * ANGLE_STEPS).astype(np.intp), ANGLE_STEPS - 1), np.hypot(down, across)


def _farthest(mask: Mask, angle: NDArray[np.intp], radius_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance (mm) of the farthest mask voxel on each ray of each slice, (k, ray); 0 where there is none."""
    order = np.argsort(angle.ravel(), kind="stable")
    starts = np.searchsorted(angle.ravel()[order], np.arange(ANGLE_STEPS))
    distance = np.where(mask.reshape(len(mask), -1)[:, order], radius_mm.ravel()[order], 0.0)
    return np.asarray(np.maximum.reduceat(distance, starts, axis=1))


def _x_or(grid: WorkingGrid, mask: Mask, otherwise: float) -> float:
    return grid.centroid_x_mm(mask) if mask.any() else otherwise
