"""Binary morphology with radii in millimetres, for voxels of any shape.

Masks are bool arrays (k, j, i); `spacing_mm` is the distance between voxel centres along
k, j and i. Outside the array is neither foreground nor background: a structure that the
scan cuts off is not eaten from the cut.
"""

from __future__ import annotations

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Mask = NDArray[np.bool_]
Spacing = tuple[float, float, float]
Box = tuple[slice, slice, slice]


def bounding_box(mask: Mask, margin: tuple[int, int, int] = (0, 0, 0)) -> Box | None:
    """Smallest box that holds the mask and `margin` voxels around it, cut at the array; None if empty."""
    box: list[slice] = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        filled = np.flatnonzero(mask.any(axis=others))
        if filled.size == 0:
            return None
        start = max(0, int(filled[0]) - margin[axis])
        box.append(slice(start, min(mask.shape[axis], int(filled[-1]) + 1 + margin[axis])))
    return box[0], box[1], box[2]


def margin_of(radius_mm: float, spacing_mm: Spacing) -> tuple[int, int, int]:
    """Whole voxels along each axis that a radius reaches, and one more."""
    k, j, i = (int(radius_mm / step) + 1 for step in spacing_mm)
    return k, j, i


def erosion(mask: Mask, radius_mm: float, spacing_mm: Spacing) -> Mask:
    """Voxels whose distance to the background is more than the radius."""
    box = bounding_box(mask, (1, 1, 1))
    result = np.zeros_like(mask)
    if box is not None:
        result[box] = _distance_mm(mask[box], spacing_mm) > radius_mm
    return result


def dilation(mask: Mask, radius_mm: float, spacing_mm: Spacing) -> Mask:
    """Voxels whose distance to the foreground is at most the radius."""
    box = bounding_box(mask, margin_of(radius_mm, spacing_mm))
    result = np.zeros_like(mask)
    if box is not None:
        result[box] = _distance_mm(~mask[box], spacing_mm) <= radius_mm
    return result


def opening(mask: Mask, radius_mm: float, spacing_mm: Spacing) -> Mask:
    """Mask without what a ball of the radius does not fit into."""
    return mask & dilation(erosion(mask, radius_mm, spacing_mm), radius_mm, spacing_mm)


def closing(mask: Mask, radius_mm: float, spacing_mm: Spacing) -> Mask:
    """Mask with the gaps that a ball of the radius does not fit into; holes without a way out filled."""
    box = bounding_box(mask, margin_of(radius_mm, spacing_mm))
    result = np.zeros_like(mask)
    if box is not None:
        grown = _distance_mm(~mask[box], spacing_mm) <= radius_mm
        result[box] = mask[box] | (_distance_mm(grown, spacing_mm) > radius_mm)
        result[box] = fill_holes(result[box])
    return result


def grow(mask: Mask, within: Mask, radius_mm: float, spacing_mm: Spacing) -> Mask:
    """The mask and those voxels of `within` that lie at most the radius from it."""
    return mask | (dilation(mask, radius_mm, spacing_mm) & within)


def fill_holes(mask: Mask) -> Mask:
    """Mask with the background that does not reach the array's border filled."""
    labels = label(~mask)
    faces = (labels[0], labels[-1], labels[:, 0], labels[:, -1], labels[:, :, 0], labels[:, :, -1])
    outside = np.zeros(int(labels.max(initial=0)) + 1, dtype=np.bool_)
    for face in faces:
        outside[np.unique(face)] = True
    outside[0] = False
    filled: Mask = ~outside[labels]
    return filled


def fill_axial_holes(mask: Mask, largest: float = np.inf) -> Mask:
    """Mask with the background that no slice (j, i) links to the slice's border filled, up to `largest` voxels."""
    return np.stack([_fill_plane(plane, largest) for plane in mask])


def _fill_plane(plane: NDArray[np.bool_], largest: float) -> NDArray[np.bool_]:
    labels = np.asarray(cc3d.connected_components(~plane, connectivity=4))
    kept = sizes(labels) > largest
    for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        kept[np.unique(edge)] = True
    kept[0] = False
    filled: NDArray[np.bool_] = ~kept[labels]
    return filled


def label(mask: Mask) -> NDArray[np.integer]:
    """Components that share faces, numbered from 1 in the order of their first voxels."""
    return np.asarray(cc3d.connected_components(np.ascontiguousarray(mask), connectivity=6))


def sizes(labels: NDArray[np.integer]) -> NDArray[np.int64]:
    """Voxels of each component; entry 0, the background, is 0."""
    count = np.bincount(labels.ravel()).astype(np.int64)
    count[0] = 0
    return count


def without_small(mask: Mask, voxels: float) -> Mask:
    """Mask without components of fewer voxels."""
    labels = label(mask)
    kept: Mask = (sizes(labels) >= max(1.0, voxels))[labels]
    return kept


def touching(mask: Mask, seeds: Mask) -> Mask:
    """Components of the mask that hold at least one seed."""
    labels = label(mask)
    kept = np.zeros(int(labels.max(initial=0)) + 1, dtype=np.bool_)
    kept[np.unique(labels[seeds & mask])] = True
    kept[0] = False
    found: Mask = kept[labels]
    return found


def _distance_mm(mask: Mask, spacing_mm: Spacing) -> NDArray[np.float64]:
    """Distance of each foreground voxel to the nearest background; infinite where there is none."""
    if mask.all():
        return np.full(mask.shape, np.inf)
    return np.asarray(ndimage.distance_transform_edt(mask, sampling=spacing_mm))
