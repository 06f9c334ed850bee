"""Sums, boxes and counts of runs are those of the voxels."""

from __future__ import annotations

import numpy as np
import pytest
from voxfleet.enrich.features import runs as runs_module
from voxfleet.enrich.features.runs import find_runs


def sums(mask):
    """The ten sums over the voxels of a mask, one voxel after the other."""
    k, j, i = np.nonzero(mask)
    return [len(k), *(int(a.sum()) for a in (k, j, i, k * k, j * j, i * i, k * j, k * i, j * i))]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("columns", [1, 7, 8, 33])
def test_sums_boxes_and_counts(monkeypatch, dtype, columns):
    """Runs of every length at every place are summed exactly, slab by slab."""
    monkeypatch.setattr(runs_module, "SLAB_VOXELS", 2 * 5 * columns)
    generator = np.random.default_rng(columns)
    labels = np.repeat(generator.integers(0, 4, (5, 5, columns)), 3, axis=2)[:, :, :columns].astype(dtype)
    values = generator.integers(-20, 20, labels.shape).astype(np.int16)
    low = int(values.min())
    runs = find_runs(labels, values, (low, int(values.max()) - low + 1))
    assert set(runs.regions) == set(np.unique(labels).tolist()) - {0}
    for number, region in runs.regions.items():
        mask = labels == number
        where = np.argwhere(mask)
        assert region.moments.tolist() == sums(mask)
        assert region.first.tolist() == where.min(axis=0).tolist()
        assert region.last.tolist() == where.max(axis=0).tolist()
        assert runs.counts[number].tolist() == np.bincount(values[mask] - low, minlength=runs.counts.shape[1]).tolist()


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint64])
def test_values_of_the_widest_range(dtype):
    """Values from the lowest to the highest of a type, 65,536 apart at most, are each counted in their place."""
    info = np.iinfo(dtype)
    low = int(info.min)
    width = min(int(info.max) - low + 1, 1 << 16)
    values = np.array([low, low + 1, low + width - 1], dtype).reshape(1, 1, 3)
    runs = find_runs(np.ones((1, 1, 3), np.uint8), values, (low, width))
    assert np.flatnonzero(runs.counts[1]).tolist() == [0, 1, width - 1]


def test_several_numbers_as_one_region():
    """Sums add up, boxes cover both, absent numbers change nothing."""
    labels = np.zeros((3, 4, 5), np.uint8)
    labels[0, 1, 2:4] = 1
    labels[2, 3, 0] = 3
    runs = find_runs(labels, labels, None)
    region = runs.region({1, 2, 3})
    assert region.moments.tolist() == sums(labels > 0)
    assert (region.first.tolist(), region.last.tolist(), region.extent) == ([0, 1, 0], [2, 3, 3], (3, 3, 4))
    assert runs.counts.size == 0
