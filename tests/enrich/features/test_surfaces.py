"""Meshes in one pass: diameters against every pair of vertices, batches, and both sizes of voxel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial.distance import pdist
from voxfleet.enrich.features import surfaces as surfaces_module
from voxfleet.enrich.features.runs import find_runs
from voxfleet.enrich.features.surfaces import surfaces

SPACING = (2.3, 0.8, 1.1)


def vertices(mask, spacing):
    """All mesh vertices of a mask, halfway between a voxel inside and a neighbour outside, in half voxels."""
    padded = np.pad(mask, 1)
    found = []
    for axis in range(3):
        points = 2 * np.argwhere(np.diff(padded.astype(np.int8), axis=axis))
        points[:, axis] += 1
        found.append(points)
    return np.concatenate(found)


def largest(points, spacing):
    """Largest distance, every pair compared."""
    return float(pdist(points * np.array(spacing) / 2).max()) if len(points) > 1 else 0.0


def by_hand(mask, spacing):
    """The four diameters from all pairs: in slices, in planes of a row, of a column, and in space."""
    points = vertices(mask, spacing)
    planes = [
        max(largest(points[points[:, axis] == at], spacing) for at in np.unique(points[:, axis])) for axis in range(3)
    ]
    return (*planes, largest(points, spacing))


def found(labels, spacing=SPACING):
    """Surfaces of every number of a label map."""
    regions = find_runs(labels, labels, None).regions
    return surfaces(labels, np.arange(int(labels.max()) + 1, dtype=labels.dtype), regions, spacing)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(*[st.integers(2, 14)] * 3),
    sigma=st.sampled_from([0, 0.7, 1.5, 3]),
    spacing=st.tuples(*[st.floats(0.3, 5)] * 3),
    dtype=st.sampled_from([np.uint8, np.uint16]),
)
def test_diameters_are_those_of_all_pairs(seed, shape, sigma, spacing, dtype):
    """Rough and smooth segments of any grid have the diameters that comparing all vertices gives."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), sigma)
    labels = np.digitize(noise, np.quantile(noise, [0.4, 0.8])).astype(dtype)
    for number, surface in found(labels, spacing).items():
        assert surface.diameters_mm == pytest.approx(by_hand(labels == number, spacing), rel=1e-12)


@pytest.mark.parametrize("mask", [np.ones((5, 7, 6)), np.eye(9)[None].repeat(2, 0), np.eye(9)[:, None, :]])
def test_straight_and_parallel_outlines(mask):
    """Boxes, whose hulls have parallel sides, and diagonals, whose points lie on one line, are no exceptions."""
    labels = mask.astype(np.uint8)
    assert found(labels)[1].diameters_mm == pytest.approx(by_hand(mask > 0, SPACING), rel=1e-12)


def test_ball_has_its_diameter():
    """A ball of 20 mm on a fine grid is 20 mm across in every way, to half a voxel."""
    k, j, i = np.ogrid[-24:25, -24:25, -24:25]
    labels = ((k * k + j * j + i * i) * 0.25 <= 100).astype(np.uint8)
    assert found(labels, (0.5, 0.5, 0.5))[1].diameters_mm == pytest.approx((20.5,) * 4, abs=0.25)


def test_batches_change_nothing(monkeypatch):
    """Segments that are looked at one after the other have the values that they have together."""
    labels = np.random.default_rng(1).integers(0, 6, (8, 9, 10)).astype(np.uint8)
    together = found(labels)
    monkeypatch.setattr(surfaces_module, "LARGEST_LINES", 1)
    apart = found(labels)
    assert together.keys() == apart.keys()
    for number, surface in together.items():
        assert np.array_equal(surface.patterns, apart[number].patterns)
        assert (surface.flux, surface.diameters_mm) == (apart[number].flux, apart[number].diameters_mm)


def test_slabs_change_nothing(monkeypatch):
    """A label map handed over slice by slice gives what it gives at once."""
    labels = np.random.default_rng(2).integers(0, 3, (8, 9, 10)).astype(np.uint16)
    at_once = found(labels)
    monkeypatch.setattr(surfaces_module, "SLAB_VOXELS", 1)
    for number, surface in found(labels).items():
        assert np.array_equal(surface.patterns, at_once[number].patterns)
        assert surface.diameters_mm == at_once[number].diameters_mm
