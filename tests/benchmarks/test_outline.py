"""Distances between outlines are the same however they are searched."""

from __future__ import annotations

import numpy as np
import pytest
from voxfleet.benchmarks import outline as outline_module
from voxfleet.benchmarks.outline import outline, outline_distances

SPACING_MM = (2.0, 0.9, 0.7)


def blobs() -> tuple[np.ndarray, np.ndarray]:
    """Two ellipsoids far apart in one box."""
    k, j, i = np.ogrid[:20, :40, :60]
    return tuple(((k - 10) / 6) ** 2 + ((j - 20) / 9) ** 2 + ((i - at) / 8) ** 2 <= 1 for at in (10, 48))


def brute_force(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Distance of each element to the nearest of all."""
    corners = [outline(mask, SPACING_MM).corner * SPACING_MM for mask in (one, other)]
    return np.array([np.linalg.norm(corners[1] - corner, axis=1).min() for corner in corners[0]])


@pytest.mark.parametrize(("far_steps", "largest_map"), [(5.0, 1 << 26), (5.0, 60_000), (1e9, 1 << 26), (5.0, 0)])
def test_far_outlines(monkeypatch, far_steps, largest_map):
    """By two maps at once, one after the other, and by tree, distances are those of comparing all with all."""
    monkeypatch.setattr(outline_module, "FAR_STEPS", far_steps)
    monkeypatch.setattr(outline_module, "LARGEST_MAP", largest_map)  # the box has 21 x 41 x 61 corners
    one, other = blobs()
    found = outline_distances(one, other, SPACING_MM)
    assert found.from_reference.distance_mm == pytest.approx(brute_force(one, other), rel=1e-12)
    assert found.from_prediction.distance_mm == pytest.approx(brute_force(other, one), rel=1e-12)


def test_area_of_a_box_by_hand():
    """Inner faces of a box of 4 x 5 x 6 voxels have whole area: 2 (3*4 * dk*dj + 3*5 * dk*di + 4*5 * dj*di)."""
    mask = np.zeros((8, 9, 10), bool)
    mask[2:6, 2:7, 2:8] = True
    found = outline(mask, SPACING_MM)
    dk, dj, di = SPACING_MM
    inner = np.sum((found.corner > 2) & (found.corner < np.array([6, 7, 8])), axis=1) == 2
    assert found.area_mm2[inner].sum() == pytest.approx(2 * (12 * dk * dj + 15 * dk * di + 20 * dj * di))
    # The eight corner elements are triangles through the middles of three edges.
    corner = (
        np.isin(found.corner[:, 0], (2, 6)) & np.isin(found.corner[:, 1], (2, 7)) & np.isin(found.corner[:, 2], (2, 8))
    )
    triangle = np.linalg.norm([dk * dj, dj * di, dk * di]) / 8
    assert found.area_mm2[corner] == pytest.approx(np.full(8, triangle))
