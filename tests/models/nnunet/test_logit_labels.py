"""Labels of logits, block by block, against nnU-Net's export of the whole."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("nnunetv2")

from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape  # noqa: E402
from nnunetv2.preprocessing.resampling.no_resampling import no_resampling_hack  # noqa: E402
from nnunetv2.preprocessing.resampling.resample_torch import resample_torch_fornnunet  # noqa: E402
from nnunetv2.utilities.label_handling.label_handling import LabelManager  # noqa: E402
from voxfleet.models.nnunet import logit_labels  # noqa: E402
from voxfleet.models.nnunet.logit_labels import labels_of_logits  # noqa: E402
from voxfleet.models.nnunet.regridding import Regridding  # noqa: E402

CLASSES = LabelManager({"background": 0, **{f"class {number}": number for number in range(1, 9)}}, None)
REGIONS = LabelManager({"background": 0, "whole": [1, 2, 3], "core": [2, 3], "inner": 3}, [1, 3, 2])
LINEAR = partial(resample_data_or_seg_to_shape, is_seg=False, order=1, order_z=0, force_separate_z=None)
CUBIC = partial(resample_data_or_seg_to_shape, is_seg=False, order=3, order_z=0, force_separate_z=None)
TORCH = partial(resample_torch_fornnunet, is_seg=False, force_separate_z=False)

GRIDS = {
    "finer by whole numbers": ((20, 30, 25), (40, 60, 75), (3.0, 3.0, 3.0), (1.5, 1.5, 1.0)),
    "finer": ((20, 30, 25), (33, 71, 76), (3.0, 3.0, 3.0), (1.8, 1.3, 1.0)),
    "coarser": ((40, 30, 25), (20, 13, 75), (3.0, 3.0, 3.0), (6.0, 7.0, 1.0)),
    "thick slices": ((12, 30, 25), (12, 71, 75), (9.0, 3.0, 3.0), (9.0, 1.3, 1.0)),
    "thick slices, other distance": ((30, 12, 25), (40, 31, 35), (1.0, 9.0, 1.0), (0.8, 3.5, 0.7)),
    "one slice": ((1, 30, 25), (1, 60, 70), (9.0, 3.0, 3.0), (9.0, 1.5, 1.1)),
}


def logits_of(outputs: int, shape: tuple[int, ...], scale: float) -> Any:
    """Random float16 logits, many of them equal, so that ties and roundings count."""
    random = np.random.default_rng(int(scale))
    values = random.normal(size=(outputs, *shape)) * scale
    return torch.from_numpy(np.where(random.random(values.shape) < 0.5, values.round(), values).astype(np.float16))


def exported(logits: Any, grid: Regridding, labels: LabelManager) -> np.ndarray:
    """nnU-Net's way: all classes resampled, then decided."""
    full = grid.resample(logits.numpy(), grid.shape, grid.spacing_mm, grid.new_spacing_mm)
    return np.asarray(labels.convert_logits_to_segmentation(full))


@pytest.mark.parametrize("scale", [1.0, 20.0])
@pytest.mark.parametrize("labels", [CLASSES, REGIONS], ids=["classes", "regions"])
@pytest.mark.parametrize("resample", [LINEAR, CUBIC, TORCH], ids=["linear", "cubic", "torch"])
@pytest.mark.parametrize("name", GRIDS)
def test_equals_export(name, resample, labels, scale):
    """Every voxel is the one that nnU-Net's export gives, by every resampling that plans may name."""
    old, new, spacing_mm, new_spacing_mm = GRIDS[name]
    grid = Regridding(resample, new, spacing_mm, new_spacing_mm)
    logits = logits_of(labels.num_segmentation_heads, old, scale)
    np.testing.assert_array_equal(labels_of_logits([logits], old, grid, labels), exported(logits, grid, labels))


@pytest.mark.parametrize("planes", [1, 3, 9, 40])
@pytest.mark.parametrize("labels", [CLASSES, REGIONS], ids=["classes", "regions"])
@pytest.mark.parametrize("name", GRIDS)
def test_slabs_do_not_matter(name, labels, planes):
    """Logits that come slab by slab, however thick the slabs are, give the same labels."""
    old, new, spacing_mm, new_spacing_mm = GRIDS[name]
    grid = Regridding(LINEAR, new, spacing_mm, new_spacing_mm)
    logits = logits_of(labels.num_segmentation_heads, old, 3.0)
    slabs = (slab.clone() for slab in logits.split(planes, dim=1))
    np.testing.assert_array_equal(labels_of_logits(slabs, old, grid, labels), exported(logits, grid, labels))


@pytest.mark.parametrize("block", [(1, 1, 200), (7, 5, 3), (200, 200, 200)])
def test_blocks_do_not_matter(block, monkeypatch):
    """The labels are the same whatever is decided at once."""
    old, new, spacing_mm, new_spacing_mm = (10, 9, 8), (21, 14, 17), (3.0, 3.0, 3.0), (1.4, 1.9, 1.4)
    grid = Regridding(LINEAR, new, spacing_mm, new_spacing_mm)
    logits = logits_of(9, old, 3.0)
    monkeypatch.setattr(logit_labels, "BLOCK", block)
    monkeypatch.setattr(logit_labels, "CLASSES_AT_ONCE", 2)
    np.testing.assert_array_equal(labels_of_logits([logits], old, grid, CLASSES), exported(logits, grid, CLASSES))


def test_same_grid_is_decided_without_resampling():
    """On one grid the largest logit wins, and the first of equal ones, whatever the plans' function."""
    logits = logits_of(9, (5, 6, 7), 2.0)
    grid = Regridding(partial(no_resampling_hack), (5, 6, 7), (3.0, 3.0, 3.0), (3.0, 3.0, 3.0))
    np.testing.assert_array_equal(labels_of_logits([logits], (5, 6, 7), grid, CLASSES), logits.numpy().argmax(axis=0))


@pytest.mark.parametrize("name", ["same", "finer"])
def test_a_slab_is_let_go_before_the_next_is_made(name):
    """While the network works on a slab, none of the ones before is in memory."""
    old, new, spacing_mm, new_spacing_mm = GRIDS["finer"]
    grid = Regridding(LINEAR, old, spacing_mm, spacing_mm)
    if name == "finer":
        grid = Regridding(LINEAR, new, spacing_mm, new_spacing_mm)
    logits = logits_of(9, old, 3.0)

    def slabs() -> Iterator[Any]:
        owners: list[weakref.ref[Any]] = []
        for planes in logits.numpy().reshape(9, 4, 5, *old[1:]).transpose(1, 0, 2, 3, 4):
            slab = planes.copy()
            assert all(owner() is None for owner in owners)
            owners.append(weakref.ref(slab))
            made = [torch.from_numpy(slab)]
            del slab
            yield made.pop()

    np.testing.assert_array_equal(labels_of_logits(slabs(), old, grid, CLASSES), exported(logits, grid, CLASSES))
