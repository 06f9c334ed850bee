"""The mesh tables are those of pyradiomics, pattern by pattern."""

from __future__ import annotations

import math

import numpy as np
import pytest
from voxfleet.enrich.features.mesh import CORNERS, PATTERNS, mesh_table

radiomics = pytest.importorskip("radiomics")


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.9, 1.3, 0.7)])
def test_each_pattern_has_pyradiomics_area_and_volume(spacing):
    """A cell with each of the 256 corner patterns has the area and volume that pyradiomics' mesh gives it."""
    table = mesh_table()
    areas = table.areas_mm2(spacing)
    for pattern in range(PATTERNS):
        cell = np.zeros((2, 2, 2), np.bool_)
        for bit, corner in enumerate(CORNERS):
            cell[corner] = pattern >> bit & 1
        area, volume, _ = radiomics.cShape.calculate_coefficients(cell, np.array(spacing))
        assert areas[pattern] == pytest.approx(area, rel=1e-12)
        assert table.determinants[pattern] * math.prod(spacing) / 48 == pytest.approx(volume, rel=1e-12, abs=1e-12)


def test_flux_is_what_the_volume_grows_by():
    """A pattern one voxel further along an axis has the volume that the table's flux tells."""
    table = mesh_table()
    for axis in range(3):
        shape = [2, 2, 2]
        shape[axis] = 3
        for pattern in range(PATTERNS):
            cell = np.zeros(shape, np.bool_)
            for bit, corner in enumerate(CORNERS):
                moved = list(corner)
                moved[axis] += 1
                cell[tuple(moved)] = pattern >> bit & 1
            # The cell before it holds the first layer's corners only.
            before = cell.take([0, 1], axis)
            first = sum(1 << bit for bit, corner in enumerate(CORNERS) if before[corner])
            _, volume, _ = radiomics.cShape.calculate_coefficients(cell, np.ones(3))
            moved_volume = (table.determinants[pattern] + 2 * table.flux[pattern, axis]) / 48
            assert table.determinants[first] / 48 + moved_volume == pytest.approx(volume, abs=1e-12)
