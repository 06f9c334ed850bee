"""The shapes and densities of a generated chest, painted onto a grid in millimetres."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

AIR_HU, LUNG_HU, FAT_HU, TISSUE_HU, VESSEL_HU = -1000, -860, -100, 40, 50
CORTEX_HU, MARROW_HU, TABLE_HU = 700, 260, -150
GROUND_GLASS_HU, CONSOLIDATION_HU = -550, 20
SKIN_MM, WALL_MM = 14.0, 2.0
"""Thickness of the subcutaneous fat, and of the airway's wall."""

BODY, RIGHT_LUNG, LEFT_LUNG, AIRWAY, BONE = 1, 2, 3, 4, 5
RIGHT_GROUND_GLASS, RIGHT_CONSOLIDATION, LEFT_GROUND_GLASS, LEFT_CONSOLIDATION = 6, 7, 8, 9
"""Segment numbers of the truth."""

_Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Opacity:
    """A ball of dense lung.

    Attributes
    ----------
    center_mm : tuple of float
        (z, y, x) from the middle of the volume: to the head, to the back, to the left.
    radius_mm : float
        The part of the ball inside the lung is dense.
    hounsfield : int
        Below -300 it is ground glass, else consolidation.
    """

    center_mm: tuple[float, float, float]
    radius_mm: float
    hounsfield: int


GROUND_GLASS_BALL = Opacity((20.0, 15.0, -85.0), 20.0, GROUND_GLASS_HU)
"""33.5 ml (4/3 pi 2^3) in the middle of the right lung."""
CONSOLIDATION_BALL = Opacity((-30.0, 20.0, 85.0), 15.0, CONSOLIDATION_HU)
"""14.1 ml (4/3 pi 1.5^3) in the left lung."""


def paint_chest(
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    random: np.random.Generator,
    opacities: tuple[Opacity, ...],
) -> tuple[_Array, NDArray[np.uint8]]:
    """Hounsfield units without noise, and segment numbers, both (k, j, i) to head, back and left."""
    z, y, x = _axes(shape, spacing_mm, scale=float(random.uniform(0.96, 1.04)))
    labels = np.zeros(shape, dtype=np.uint8)
    hounsfield = np.full(shape, AIR_HU, dtype=np.float32)
    whole = np.ones_like(z, dtype=np.bool_)
    _paint(hounsfield, labels, _table(y, x) & whole, TABLE_HU, 0)
    skin = (x / 160) ** 2 + (y / 110) ** 2
    inner = (x / (160 - SKIN_MM)) ** 2 + (y / (110 - SKIN_MM)) ** 2
    _paint(hounsfield, labels, (skin <= 1) & whole, FAT_HU, BODY)
    _paint(hounsfield, labels, (inner <= 1) & whole, TISSUE_HU, BODY)
    _paint_bones(hounsfield, labels, (z, y, x))
    lungs = _paint_lungs(hounsfield, labels, (z, y, x), random)
    _paint_opacities(hounsfield, labels, (z, y, x), opacities, lungs)
    _paint_airway(hounsfield, labels, (z, y, x))
    return hounsfield, labels


def _axes(
    shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], *, scale: float
) -> tuple[_Array, _Array, _Array]:
    """Coordinates (z, y, x) in mm of the phantom, open along one axis each; `scale` makes it larger."""
    z, y, x = (
        (((np.arange(n) - (n - 1) / 2) * step) / scale).astype(np.float32)
        for n, step in zip(shape, spacing_mm, strict=True)
    )
    return z[:, None, None], y[None, :, None], x[None, None, :]


def _table(y: _Array, x: _Array) -> NDArray[np.bool_]:
    """Two sheets of 6 mm, 12 mm apart, below the back."""
    below_mm = np.abs(y - 126)
    return np.asarray((below_mm > 6) & (below_mm < 12) & (np.abs(x) < 190))  # noqa: PLR2004


def _paint(hounsfield: _Array, labels: NDArray[np.uint8], where: NDArray[np.bool_], hu: float, number: int) -> None:
    hounsfield[where] = hu
    labels[where] = number


def _paint_bones(hounsfield: _Array, labels: NDArray[np.uint8], axes: tuple[_Array, _Array, _Array]) -> None:
    """Spine, ribs that slope forwards, and sternum, each of cortex round marrow."""
    z, y, x = axes
    spine_mm = np.hypot(x, y - 72) + 0 * z
    ring = np.hypot(x / 138, y / 92) * 115 - 115
    ribs_mm = np.hypot(ring, (z + 0.35 * y) % 28 - 14)
    sternum_mm = np.maximum(np.abs(x) - 12, np.abs(y + 90) - 1) + 0 * z
    for distance_mm, radius_mm in ((spine_mm, 17.0), (ribs_mm, 6.0), (sternum_mm, 5.0)):
        _paint(hounsfield, labels, distance_mm <= radius_mm, CORTEX_HU, BONE)
        _paint(hounsfield, labels, distance_mm <= radius_mm - 4, MARROW_HU, BONE)


def _paint_lungs(
    hounsfield: _Array,
    labels: NDArray[np.uint8],
    axes: tuple[_Array, _Array, _Array],
    random: np.random.Generator,
) -> NDArray[np.uint8]:
    """Two lungs round a heart, above two domes, with vessels; the lung that each voxel lies in."""
    z, y, x = axes
    heart = (x - 15) ** 2 / 55**2 + (y + 30) ** 2 / 50**2 + (z + 40) ** 2 / 60**2 <= 1
    room = ~heart & (labels != BONE) & (np.hypot(x / 128, y / 82) + 0 * z <= 1)
    for side, number in ((-1, RIGHT_LUNG), (1, LEFT_LUNG)):
        lung = (x - side * 78) ** 2 / 54**2 + (y - 2) ** 2 / 78**2 + (z - 5) ** 2 / 112**2 <= 1
        dome = (x - side * 78) ** 2 + y**2 + (z + 170) ** 2 <= 95**2
        _paint(hounsfield, labels, lung & room & ~dome, LUNG_HU, number)
    in_lung = np.where((labels == RIGHT_LUNG) | (labels == LEFT_LUNG), labels, 0).astype(np.uint8)
    for side in (-1, 1):
        hilum = np.array([0.0, 5.0, side * 40.0])
        for _ in range(10):
            tip = np.array([random.uniform(-80, 90), random.uniform(-60, 70), side * random.uniform(80, 115)])
            _paint_vessel(hounsfield, in_lung, axes, (hilum, tip), float(random.uniform(1.5, 3.0)))
    return in_lung


def _paint_vessel(
    hounsfield: _Array,
    in_lung: NDArray[np.uint8],
    axes: tuple[_Array, _Array, _Array],
    ends: tuple[NDArray[np.float64], NDArray[np.float64]],
    radius_mm: float,
) -> None:
    box, distance_mm = _strand(axes, ends, radius_mm)
    hounsfield[box][(distance_mm <= radius_mm) & (in_lung[box] > 0)] = VESSEL_HU


def _strand(
    axes: tuple[_Array, _Array, _Array],
    ends: tuple[NDArray[np.float64], NDArray[np.float64]],
    reach_mm: float,
) -> tuple[tuple[slice, slice, slice], NDArray[np.float32]]:
    """Box round a straight strand, and the distance of its voxels to the strand's axis."""
    low, high = np.minimum(*ends) - reach_mm, np.maximum(*ends) + reach_mm
    box = [
        slice(*np.searchsorted(axis.ravel(), (low[n], high[n])).tolist())  # the axes ascend
        for n, axis in enumerate(axes)
    ]
    along = ends[1] - ends[0]
    z, y, x = axes[0][box[0]], axes[1][:, box[1]], axes[2][:, :, box[2]]
    dz, dy, dx = z - ends[0][0], y - ends[0][1], x - ends[0][2]
    part = np.clip((dz * along[0] + dy * along[1] + dx * along[2]) / (along @ along), 0, 1)
    square = (dz - part * along[0]) ** 2 + (dy - part * along[1]) ** 2 + (dx - part * along[2]) ** 2
    return (box[0], box[1], box[2]), np.sqrt(square).astype(np.float32)


def _paint_opacities(
    hounsfield: _Array,
    labels: NDArray[np.uint8],
    axes: tuple[_Array, _Array, _Array],
    opacities: tuple[Opacity, ...],
    in_lung: NDArray[np.uint8],
) -> None:
    z, y, x = axes
    numbers = {
        (RIGHT_LUNG, True): RIGHT_GROUND_GLASS,
        (RIGHT_LUNG, False): RIGHT_CONSOLIDATION,
        (LEFT_LUNG, True): LEFT_GROUND_GLASS,
        (LEFT_LUNG, False): LEFT_CONSOLIDATION,
    }
    for opacity in opacities:
        center = opacity.center_mm
        ball = (z - center[0]) ** 2 + (y - center[1]) ** 2 + (x - center[2]) ** 2 <= opacity.radius_mm**2
        for lung in (RIGHT_LUNG, LEFT_LUNG):
            number = numbers[lung, opacity.hounsfield < -300]  # noqa: PLR2004 - as the Opacity's docstring says
            _paint(hounsfield, labels, ball & (in_lung == lung), opacity.hounsfield, number)


def _paint_airway(hounsfield: _Array, labels: NDArray[np.uint8], axes: tuple[_Array, _Array, _Array]) -> None:
    """Trachea from the top of the volume to the carina, and both main bronchi, with their walls."""
    carina = np.array([25.0, 15.0, 0.0])
    top = np.array([float(axes[0].max()) + 20.0, 10.0, 0.0])
    tubes = [(top, carina, 9.0)]
    tubes += [(carina, np.array([-5.0, 18.0, side * 42.0]), 6.5) for side in (-1, 1)]
    for grown_mm, hu, number in ((WALL_MM, TISSUE_HU, BODY), (0.0, AIR_HU, AIRWAY)):
        for start, end, radius_mm in tubes:
            box, distance_mm = _strand(axes, (start, end), radius_mm + grown_mm)
            _paint(hounsfield[box], labels[box], distance_mm <= radius_mm + grown_mm, hu, number)
