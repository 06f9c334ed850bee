"""Masks cut to their box, eight voxels a byte."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from voxfleet.benchmarks.references.packed_mask import (
    NOWHERE,
    joint_box,
    nothing,
    pack,
    pack_labels,
    union,
    whole_box,
    without,
)

MASKS = arrays(bool, array_shapes(min_dims=3, max_dims=3, max_side=9))


@given(MASKS)
@settings(max_examples=60, deadline=None)
def test_round_trip(array: np.ndarray) -> None:
    """A packed mask is the mask, and knows its voxels."""
    mask = pack(array, array.shape)
    assert np.array_equal(mask.whole(), array)
    assert mask.voxels == array.sum()
    assert mask.empty == (not array.any())
    assert mask.empty or mask.cropped().any(axis=(1, 2)).all() or mask.box_shape[0] > 2


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_sets(data: st.DataObject) -> None:
    """Unions and differences are those of the voxels."""
    shape = data.draw(array_shapes(min_dims=3, max_dims=3, max_side=8))
    one, other = (data.draw(arrays(bool, shape)) for _ in range(2))
    a, b = pack(one, shape), pack(other, shape)
    assert np.array_equal(union([a, b]).whole(), one | other)
    assert np.array_equal(without(a, [b]).whole(), one & ~other)
    box = joint_box([a, b])
    assert a.cut(box).sum() == one.sum()


def test_label_map() -> None:
    """Each number has its own mask, and one that is not there an empty one."""
    labels = np.zeros((3, 4, 5), np.uint16)
    labels[1, 1:3, 2] = 7
    masks = pack_labels(labels, [2, 7])
    assert masks[2].empty
    assert masks[7].box == (slice(1, 2), slice(1, 3), slice(2, 3))


def test_empty() -> None:
    """A mask of nothing is nowhere, and fills nothing."""
    mask = nothing((2, 3, 4))
    assert mask.box == joint_box([mask]) == NOWHERE
    assert not mask.cut(whole_box((2, 3, 4))).any()


def test_part_beyond_the_grid() -> None:
    """A part that does not lie within the grid is a mistake of the caller."""
    with pytest.raises(ValueError, match="does not lie within"):
        pack(np.ones((2, 2, 2), bool), (3, 3, 3), (2, 0, 0))


def test_memory_of_104_structures() -> None:
    """104 structures of a tenth of the grid's side take less than one byte a voxel together."""
    shape = (60, 100, 100)
    rng = np.random.default_rng(1)
    masks = []
    for _ in range(104):
        start = tuple(int(rng.integers(0, n - n // 4)) for n in shape)
        masks.append(pack(np.ones((15, 25, 25), bool), shape, start))
    assert sum(mask.bits.nbytes for mask in masks) < np.prod(shape)
