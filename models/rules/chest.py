"""Body, airways and lungs of a chest CT by thresholds and morphology.

The steps are those of Hu, Hoffman and Reinhardt (IEEE Trans Med Imaging 2001,
doi:10.1109/42.929615): body, air within it, airways out, lungs apart, vessels closed. The
airways grow from the trachea until the threshold at which they burst into the lung, after
Mori et al. (ICPR 1996, doi:10.1109/ICPR.1996.546945).

Everything here works on the reduced grid of `working_grid`: axes to head, posterior and left.
"""

from __future__ import annotations

from dataclasses import dataclass

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from . import morphology as mm
from .morphology import Mask, Spacing
from .working_grid import WorkingGrid

BODY_HU = -300
"""Above it a voxel is tissue; skin and table alike."""
TABLE_RADIUS_MM = 6.0
"""Sheets thinner than twice this (table tops, blankets, tubes) are no body."""
SMALLEST_BODY_PART = 0.05
"""Parts apart from the largest (an arm) count from this fraction of its volume."""

TRACHEA_HU = -800
"""Air of the trachea, partial volume of thick slices included."""
TRACHEA_AREA_MM2 = (40.0, 900.0)
"""Cross-section of the trachea: a child's to a tall man's, with partial volume."""
TRACHEA_ASPECT = 2.5
"""Longer side of its bounding box over the shorter."""
TRACHEA_FILLING = 0.5
"""Part of its bounding box that it fills; an ellipse fills 0.785."""
TRACHEA_WALLED = 0.5
"""Part of its rim that is tissue above `WALL_HU`: a bubble within the lung has none."""
WALL_HU = -600
TRACHEA_LENGTH_MM = 20.0
"""Shortest run of slices that is believed to be trachea."""
TRACHEA_OFF_CENTRE_MM = 45.0
"""Farthest from the body's middle, to either side."""
AIRWAY_HU = tuple(range(-975, -774, 25))
"""Thresholds tried in turn while the airways grow."""
AIRWAY_BURST = 1.6
"""The airways leaked when one step of the threshold makes them this many times larger."""
AIRWAY_STEP_ML = 3.0
"""Growth by less than this is no leak."""
AIRWAY_ML = 120.0
"""Trachea and bronchi hold no more air than this."""
AIRWAY_WALL_MM = 2.0
"""Wall taken off round the airways before the lungs are looked for."""

LUNG_ML = 8.0
"""Smallest piece of lung: the tip of a base at the edge of an abdominal scan."""
LARGE_PIECE_FRACTION = 0.1
"""Part of the largest piece from which a piece is lung wherever it lies; a smaller one must lie near."""
NEAR_LUNG_MM = 6.0
PARENCHYMA_HU = (-950, -450)
"""Lung tissue; gas in bowel and stomach lies below it."""
GAS_RIM_MM = 4.0
"""Rim of a bubble of gas that partial volume makes look like lung."""
PARENCHYMA_FRACTION = 0.4
"""A piece of lung has at least this part of its inner voxels in `PARENCHYMA_HU`."""
TWO_LUNGS_FRACTION = 0.15
"""A piece with this part on each side of the middle may be two lungs that touch."""
NECK_RADIUS_MM = 20.0
"""Links between two lungs thinner than twice this are cut."""


@dataclass(frozen=True, slots=True, eq=False)
class Airway:
    """Trachea and bronchi, and the threshold (HU) below which they were filled without a leak."""

    mask: Mask
    threshold_hu: int


@dataclass(frozen=True, slots=True, eq=False)
class Lungs:
    """Right and left lung, vessels included, airways not; either may be empty."""

    right: Mask
    left: Mask

    @property
    def found(self) -> bool:
        """Whether there is any lung at all."""
        return bool(self.right.any() or self.left.any())


def find_body(hounsfield: NDArray[np.int16], spacing_mm: Spacing) -> Mask:
    """The patient with all that is inside; without table, blankets and tubes."""
    tissue = hounsfield > BODY_HU
    core = mm.erosion(tissue, TABLE_RADIUS_MM, spacing_mm)
    # A table top of two sheets is a closed ring: its inside is air, and no hole of the body.
    labels = mm.label(core)
    sizes = mm.sizes(labels)
    core = (sizes >= max(1.0, SMALLEST_BODY_PART * float(sizes.max(initial=0))))[labels]
    solid = mm.grow(core, tissue, TABLE_RADIUS_MM + max(spacing_mm), spacing_mm)
    return mm.fill_axial_holes(solid)


def find_airway(hounsfield: NDArray[np.int16], body: Mask, spacing_mm: Spacing) -> Airway | None:
    """Trachea and bronchi as far as they can be followed without a leak; None if no trachea is seen."""
    trachea = _find_trachea(hounsfield, body, spacing_mm)
    if trachea is None:
        return None
    top = int(np.flatnonzero(trachea.any(axis=(1, 2)))[-1])
    field = body.copy()
    field[top + 1 :] = False
    voxel_ml = float(np.prod(spacing_mm)) / 1000.0
    best = Airway(trachea, AIRWAY_HU[0])
    volume = np.count_nonzero(trachea) * voxel_ml
    for threshold in AIRWAY_HU:
        grown = mm.touching(field & ((hounsfield < threshold) | trachea), trachea)
        grown_ml = np.count_nonzero(grown) * voxel_ml
        leaked = grown_ml > AIRWAY_BURST * volume and grown_ml > volume + AIRWAY_STEP_ML
        if leaked or grown_ml > AIRWAY_ML:
            break
        best, volume = Airway(grown, threshold), grown_ml
    return Airway(mm.fill_holes(best.mask), best.threshold_hu)


def airway_of_lungs(airway: Airway | None, lungs: Lungs) -> Airway | None:
    """The airway if it leads to lungs from above; None for a bubble of gas in the stomach or bowel."""
    if airway is None or not lungs.found:
        return None
    height = (lungs.right | lungs.left).any(axis=(1, 2))
    lowest_lung = int(np.flatnonzero(height)[0])
    lowest_airway = int(np.flatnonzero(airway.mask.any(axis=(1, 2)))[0])
    return airway if lowest_airway > lowest_lung else None


def find_lungs(grid: WorkingGrid, body: Mask, airway: Airway | None, lung_hu: float, closing_mm: float) -> Lungs:
    """Both lungs: air-filled tissue below `lung_hu`, its vessels closed over `closing_mm`."""
    spacing_mm = grid.spacing_mm
    air = body & (grid.reduced < lung_hu)
    if airway is not None:
        air &= ~mm.dilation(airway.mask, AIRWAY_WALL_MM, spacing_mm)
    pieces = _lung_pieces(grid, air)
    if not pieces.any():
        return Lungs(pieces, pieces)
    right, left = _apart(grid, pieces, body)
    allowed = body if airway is None else body & ~airway.mask
    closed_right = mm.closing(right, closing_mm, spacing_mm) & allowed
    closed_left = mm.closing(left, closing_mm, spacing_mm) & allowed
    return Lungs(closed_right & ~left & (right | ~closed_left), closed_left & ~right & (left | ~closed_right))


def _find_trachea(hounsfield: NDArray[np.int16], body: Mask, spacing_mm: Spacing) -> Mask | None:
    """Longest run of slices with a round hole of air, walled by tissue, near the body's middle."""
    holes = np.zeros_like(body)
    middle = float(np.average(np.arange(body.shape[2]), weights=np.count_nonzero(body, axis=(0, 1)) + 1e-9))
    reach = TRACHEA_OFF_CENTRE_MM / spacing_mm[2]
    columns = slice(max(0, int(middle - reach)), int(middle + reach) + 1)
    air = body & (hounsfield < TRACHEA_HU)
    for k in range(len(body)):
        holes[k, :, columns] = _round_holes(air[k, :, columns], hounsfield[k, :, columns], spacing_mm)
    labels = mm.label(holes)
    runs_mm = [0.0] + [
        (box[0].stop - box[0].start) * spacing_mm[0] for box in ndimage.find_objects(labels.astype(np.int32))
    ]
    longest = int(np.argmax(runs_mm))
    if runs_mm[longest] < TRACHEA_LENGTH_MM:
        return None
    return np.asarray(labels == longest)


def _round_holes(air: NDArray[np.bool_], hounsfield: NDArray[np.int16], spacing_mm: Spacing) -> NDArray[np.bool_]:
    """Those components of one slice's air (j, i) that look like a trachea cut across."""
    _, row_mm, column_mm = spacing_mm
    labels = cc3d.connected_components(np.ascontiguousarray(air), connectivity=4)
    kept = np.zeros(air.shape, dtype=np.bool_)
    for number, box in enumerate(ndimage.find_objects(labels.astype(np.int32)), start=1):
        height_mm, width_mm = (box[0].stop - box[0].start) * row_mm, (box[1].stop - box[1].start) * column_mm
        if max(height_mm, width_mm) > TRACHEA_ASPECT * min(height_mm, width_mm):
            continue
        region = labels[box] == number
        area_mm2 = float(np.count_nonzero(region)) * row_mm * column_mm
        roomy = area_mm2 < TRACHEA_FILLING * height_mm * width_mm
        if roomy or not TRACHEA_AREA_MM2[0] <= area_mm2 <= TRACHEA_AREA_MM2[1]:
            continue
        if _walled(labels == number, box, hounsfield):
            kept[box] |= region
    return kept


def _walled(region: NDArray[np.bool_], box: tuple[slice, slice], hounsfield: NDArray[np.int16]) -> bool:
    """Whether most of the rim, two voxels wide, is tissue and not lung."""
    around = tuple(slice(max(0, part.start - 2), part.stop + 2) for part in box)
    inside = region[around]
    rim = ndimage.binary_dilation(inside, iterations=2) & ~inside
    return bool(np.mean(hounsfield[around][rim] > WALL_HU) > TRACHEA_WALLED)


def _lung_pieces(grid: WorkingGrid, air: Mask) -> Mask:
    """Pieces of air in the body that are lung: tissue rather than gas, and large or beside a large one."""
    labels = mm.label(air)
    count = int(labels.max(initial=0)) + 1
    inner = mm.erosion(air, GAS_RIM_MM, grid.spacing_mm)
    inner_labels, values = labels[inner], grid.reduced[inner]
    tissue = (values > PARENCHYMA_HU[0]) & (values < PARENCHYMA_HU[1])
    inner_voxels = np.bincount(inner_labels, minlength=count)
    tissue_voxels = np.bincount(inner_labels[tissue], minlength=count)
    is_tissue = tissue_voxels > PARENCHYMA_FRACTION * np.maximum(1, inner_voxels)
    size_ml = np.where(is_tissue, mm.sizes(labels) * grid.voxel_ml, 0.0)
    large = size_ml >= max(LUNG_ML, LARGE_PIECE_FRACTION * float(size_ml.max(initial=0.0)))
    pieces: Mask = large[labels]
    small: Mask = ((size_ml >= LUNG_ML) & ~large)[labels]
    if small.any():
        pieces |= mm.touching(small | pieces, mm.dilation(pieces, NEAR_LUNG_MM, grid.spacing_mm))
    return pieces


def _apart(grid: WorkingGrid, pieces: Mask, body: Mask) -> tuple[Mask, Mask]:
    """Pieces of lung given to the patient's right and left, those that touch cut apart."""
    slices: NDArray[np.bool_] = np.asarray(pieces.any(axis=(1, 2)))
    middle_mm = grid.centroid_x_mm(body & slices[:, None, None])
    is_right = grid.right_of_mm(middle_mm)
    right, left = np.zeros_like(pieces), np.zeros_like(pieces)
    labels = mm.label(pieces)
    for number in range(1, int(labels.max(initial=0)) + 1):
        piece = labels == number
        part = np.count_nonzero(piece & is_right) / np.count_nonzero(piece)
        halves = None
        if TWO_LUNGS_FRACTION < part < 1 - TWO_LUNGS_FRACTION:
            halves = _cut_at_neck(grid, piece)
        if halves is not None:
            right |= halves[0]
            left |= halves[1]
        elif grid.centroid_x_mm(piece) < middle_mm:
            right |= piece
        else:
            left |= piece
    return right, left


def _cut_at_neck(grid: WorkingGrid, piece: Mask) -> tuple[Mask, Mask] | None:
    """Right and left part of two lungs that touch, cut where the link is thinnest; None for one lung."""
    box = mm.bounding_box(piece, (1, 1, 1))
    if box is None:
        return None
    distance = ndimage.distance_transform_edt(piece[box], sampling=grid.spacing_mm)
    for radius_mm in np.arange(min(grid.spacing_mm) * 0.9, NECK_RADIUS_MM, 1.0):
        labels = mm.label(distance > radius_mm)
        sizes = np.append(mm.sizes(labels), 0)
        first, second = (int(number) for number in np.argsort(-sizes, kind="stable")[:2])
        if sizes[second] < max(1.0, TWO_LUNGS_FRACTION * float(sizes.sum())):
            continue
        cores = np.where(labels == first, 1, np.where(labels == second, 2, 0))
        nearest = ndimage.distance_transform_edt(
            cores == 0, sampling=grid.spacing_mm, return_distances=False, return_indices=True
        )
        one, other = np.zeros_like(piece), np.zeros_like(piece)
        one[box] = piece[box] & (cores[tuple(nearest)] == 1)
        other[box] = piece[box] & ~one[box]
        return (one, other) if grid.centroid_x_mm(one) < grid.centroid_x_mm(other) else (other, one)
    return None
