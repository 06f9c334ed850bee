"""Shape features of all segments of a label map in two passes.

The moments of the voxels (``runs``) give the axes; corner patterns and mesh vertices
(``surfaces``) give area, volume and diameters. What a voxel costs does not depend on the number
of segments.

Equal to pyradiomics, which works with the spacing alone: how the volume lies in the
patient has no influence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .mesh import mesh_table
from .runs import Region
from .surfaces import Surface, surfaces


@dataclass(frozen=True, slots=True)
class Shape:
    """Shape of one segment.

    Attributes
    ----------
    extent : tuple of int
        Voxels of the bounding box, (k, j, i).
    features : dict
        Feature name without class to value, in mm; Flatness and Elongation are NaN for
        a single voxel.
    """

    extent: tuple[int, int, int]
    features: dict[str, float]


def shapes(
    labels: NDArray[np.unsignedinteger],
    mapping: NDArray[np.unsignedinteger],
    regions: Mapping[int, Region],
    spacing_mm: tuple[float, float, float],
) -> dict[int, Shape]:
    """The 14 shape features of pyradiomics, by its names, of some segments.

    Parameters
    ----------
    labels : ndarray (k, j, i) of uint8 or uint16
        Label map.
    mapping : ndarray, shape (n + 1,), of the same type
        Which segment each number counts for here, 0 for none (as of ``surfaces``).
    regions : mapping
        Of these segments, by number; each has a voxel.
    spacing_mm : tuple of float
        Between voxel centres, (k, j, i).

    Returns
    -------
    dict
        By segment number.
    """
    areas_mm2 = mesh_table().areas_mm2(spacing_mm)
    return {
        number: Shape(regions[number].extent, _features(regions[number], surface, areas_mm2, spacing_mm))
        for number, surface in surfaces(labels, mapping, regions, spacing_mm).items()
    }


def _features(
    region: Region, surface: Surface, areas_mm2: NDArray[np.float64], spacing_mm: tuple[float, float, float]
) -> dict[str, float]:
    """Features of one segment from its sums."""
    voxel_mm3 = math.prod(spacing_mm)
    area = float(surface.patterns @ areas_mm2)
    # Six times the volume in eighths of a voxel.
    volume = (int(surface.patterns @ mesh_table().determinants) + 2 * surface.flux) * voxel_mm3 / 48
    least, minor, major = _principal_moments(region.moments, spacing_mm)
    in_slice, in_row_plane, in_column_plane, in_space = surface.diameters_mm
    return {
        "MeshVolume": volume,
        "VoxelVolume": int(region.moments[0]) * voxel_mm3,
        "SurfaceArea": area,
        "SurfaceVolumeRatio": area / volume,
        "Sphericity": (36 * math.pi * volume**2) ** (1 / 3) / area,
        "Maximum3DDiameter": in_space,
        "Maximum2DDiameterSlice": in_slice,
        "Maximum2DDiameterColumn": in_row_plane,
        "Maximum2DDiameterRow": in_column_plane,
        "MajorAxisLength": 4 * math.sqrt(major),
        "MinorAxisLength": 4 * math.sqrt(minor),
        "LeastAxisLength": 4 * math.sqrt(least),
        "Elongation": math.sqrt(minor / major) if major else math.nan,
        "Flatness": math.sqrt(least / major) if major else math.nan,
    }


def _principal_moments(moments: NDArray[np.int64], spacing_mm: tuple[float, float, float]) -> list[float]:
    """Eigenvalues of the covariance of voxel centres in mm2, ascending, from exact integer sums.

    Those of directions in which the centres do not extend are 0, and no rounding noise.
    """
    n, *rest = (int(value) for value in moments)
    first, square, mixed = rest[:3], rest[3:6], rest[6:]
    exact = [
        [n * (square[a] if a == b else mixed[a + b - 1]) - first[a] * first[b] for b in range(3)] for a in range(3)
    ]
    covariance = np.array([[value / n**2 for value in row] for row in exact]) * np.outer(spacing_mm, spacing_mm)
    flat = 3 - _rank(exact)
    return [0.0] * flat + [max(0.0, float(value)) for value in np.linalg.eigvalsh(covariance)[flat:]]


def _rank(matrix: Sequence[Sequence[int]]) -> int:
    """Rank of a positive semidefinite matrix of 3 x 3 integers: its largest principal minors that are not all 0."""
    (kk, kj, ki), (_, jj, ji), (_, _, ii) = matrix
    if kk * (jj * ii - ji**2) - kj * (kj * ii - ji * ki) + ki * (kj * ji - jj * ki):
        return 3
    if any((kk * jj - kj**2, kk * ii - ki**2, jj * ii - ji**2)):
        return 2
    return int(any((kk, jj, ii)))
