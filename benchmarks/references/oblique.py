"""Contours drawn across the image's slices: each voxel centre is carried onto the nearest contour's plane."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import highdicom as hd
import numpy as np
from numpy.typing import NDArray

from .contours import NonPlanarContour, OverlappingContours, SelfCrossingContour
from .packed_mask import PackedMask, pack
from .placing import check_points_inside
from .polygon import turns_round

PARALLEL = 1e-4
"""Sine of the angle that contours' planes may differ by."""
SAME_PLANE_MM = 0.05
"""Contours this close to each other along their normal lie on one plane."""


@dataclass(frozen=True, slots=True, eq=False)
class ObliqueContour:
    """Points (n, 3) in LPS mm and the unit normal of their plane."""

    where: str
    points: NDArray[np.float64]
    normal: NDArray[np.float64]


def fill_oblique(
    source: str,
    name: str,
    contours: Sequence[ObliqueContour],
    geometry: hd.VolumeGeometry,
    slab_mm: float | None = None,
) -> PackedMask:
    """Voxels whose centres, carried along the normal onto the nearest contour's plane, lie within the contour.

    Parameters
    ----------
    contours : sequence of ObliqueContour
        Of one structure, on parallel planes; what lies in another is a hole in it.
    slab_mm : float or None
        Thickness that a contour stands for; None for the smallest distance of the planes, or of the
        image's slices where there is one plane.

    Raises
    ------
    OutsideImage, ContourFault
        If a contour reaches beyond the image, or what it covers is not certain.
    """
    for contour in contours:
        check_points_inside(source, name, contour.points, geometry)
    normal = contours[0].normal
    for contour in contours:
        if float(np.linalg.norm(np.cross(normal, contour.normal))) > PARALLEL:
            raise NonPlanarContour(contour.where, "its plane is not parallel to that of the structure's first contour")
    planes = _planes(contours, normal)
    places = np.array([place for place, _ in planes])
    gaps = np.diff(places)
    along_image = float(max(geometry.spacing[n] * abs(np.dot(geometry.unit_vectors()[n], normal)) for n in range(3)))
    half_mm = (slab_mm or (float(gaps.min()) if gaps.size else along_image)) / 2
    array = np.zeros(geometry.spatial_shape, np.bool_)
    for n, (_, drawn) in enumerate(planes):
        _fill_plane(array, drawn, geometry, _Slab(normal, places, n, half_mm))
    return pack(array, geometry.spatial_shape)


@dataclass(frozen=True, slots=True, eq=False)
class _Slab:
    """What lies nearest to one of several parallel planes."""

    normal: NDArray[np.float64]
    places: NDArray[np.float64]
    chosen: int
    half_mm: float

    def holds(self, points: NDArray[np.float64]) -> NDArray[np.bool_]:
        off = points @ self.normal
        near = np.abs(off[:, None] - self.places).argmin(axis=1) == self.chosen
        at = off - self.places[self.chosen]
        held: NDArray[np.bool_] = near & (at > -self.half_mm) & (at <= self.half_mm)
        return held


def _planes(
    contours: Sequence[ObliqueContour], normal: NDArray[np.float64]
) -> list[tuple[float, list[ObliqueContour]]]:
    """Place along the normal, and contours, of each plane, ascending."""
    planes: list[tuple[float, list[ObliqueContour]]] = []
    for contour in sorted(contours, key=lambda each: float(each.points.mean(axis=0) @ normal)):
        place = float(contour.points.mean(axis=0) @ normal)
        if planes and place - planes[-1][0] <= SAME_PLANE_MM:
            planes[-1][1].append(contour)
        else:
            planes.append((place, [contour]))
    return planes


def _fill_plane(
    array: NDArray[np.bool_], contours: list[ObliqueContour], geometry: hd.VolumeGeometry, slab: _Slab
) -> None:
    """Set the voxels of one slab, slice by slice of the image."""
    row, column = np.linalg.svd(slab.normal[None])[2][1:]
    reach = np.concatenate([each.points + sign * slab.half_mm * slab.normal for each in contours for sign in (-1, 1)])
    indices = geometry.map_reference_to_indices(reach)
    low = np.maximum(np.floor(indices.min(axis=0)), 0).astype(int)
    high = np.minimum(np.ceil(indices.max(axis=0)) + 1, geometry.spatial_shape).astype(int)
    js, iis = np.meshgrid(np.arange(low[1], high[1]), np.arange(low[2], high[2]), indexing="ij")
    for k in range(int(low[0]), int(high[0])):
        voxels = np.column_stack((np.full(js.size, k), js.ravel(), iis.ravel()))
        points = geometry.map_indices_to_reference(voxels)
        held = slab.holds(points)
        if held.any():
            flat = np.column_stack((points[held] @ row, points[held] @ column))
            inside = _inside(contours, flat, row, column)
            chosen = voxels[held][inside]
            array[k, chosen[:, 1], chosen[:, 2]] = True


def _inside(
    contours: list[ObliqueContour],
    points: NDArray[np.float64],
    row: NDArray[np.float64],
    column: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Whether points of the plane lie in an odd number of contours."""
    masks: list[NDArray[np.bool_]] = []
    for contour in contours:
        counts = turns_round(np.column_stack((contour.points @ row, contour.points @ column)), points)
        if counts.min(initial=0) * counts.max(initial=0) or np.abs(counts).max(initial=0) > 1:
            raise SelfCrossingContour(contour.where, "it crosses itself round voxel centres")
        mask = counts != 0
        for other in masks:
            both = np.count_nonzero(mask & other)
            if both and both not in (np.count_nonzero(mask), np.count_nonzero(other)):
                raise OverlappingContours(contour.where, f"it shares {both} voxels with another, and holds it not")
        masks.append(mask)
    inside: NDArray[np.bool_] = np.logical_xor.reduce(masks, axis=0)
    return inside
