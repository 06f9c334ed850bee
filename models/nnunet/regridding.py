"""From the network's grid to that of the image: between which planes, rows and columns each new one lies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from nnunetv2.configuration import ANISO_THRESHOLD
from nnunetv2.preprocessing.resampling.default_resampling import (
    determine_do_sep_z_and_axis,
    resample_data_or_seg_to_shape,
)
from numpy.typing import NDArray

Resample = Callable[["NDArray[np.generic]", Sequence[int], Sequence[float], Sequence[float]], "NDArray[np.generic]"]
"""nnU-Net's: logits, new shape, their spacing and the new one in mm -> logits of the new shape."""


@dataclass(frozen=True, slots=True, eq=False)
class Axis:
    """Between which two indices, and how far from the first, each new index of an axis lies."""

    low: NDArray[np.intp]
    high: NDArray[np.intp]
    fraction: NDArray[np.float64]

    def within(self, span: slice) -> tuple[slice, Axis]:
        """The old indices that a span of new ones needs, and the axis counted from the first of them."""
        low, high = self.low[span], self.high[span]
        first = int(low.min())
        return slice(first, int(high.max()) + 1), Axis(low, high, self.fraction[span]).counted_from(first)

    def counted_from(self, first: int) -> Axis:
        """The axis with its old indices counted from one of them."""
        return Axis(self.low - first, self.high - first, self.fraction)


@dataclass(frozen=True, slots=True, eq=False)
class Regridding:
    """From the network's grid to the full one.

    Attributes
    ----------
    resample : Resample
        The function of the plans.
    shape : tuple of int
        Of the full grid, (k, j, i).
    spacing_mm, new_spacing_mm : tuple of float
        Of the network's grid and of the full one.
    """

    resample: Resample
    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    new_spacing_mm: tuple[float, ...]

    def axes(self, old_shape: tuple[int, ...]) -> tuple[Axis, ...] | None:
        """Its axes, where the function is nnU-Net's linear one (the default); None for any other."""
        if self.shape == old_shape:
            return tuple(_linear(size, size) for size in old_shape)
        if not _is_linear(self.resample):
            return None
        keywords = self.resample.keywords  # type: ignore[attr-defined]
        _, nearest = determine_do_sep_z_and_axis(
            keywords.get("force_separate_z", False),
            self.spacing_mm,
            self.new_spacing_mm,
            keywords.get("separate_z_anisotropy_threshold", ANISO_THRESHOLD),
        )
        return tuple(
            _nearest(old, new) if axis == nearest else _linear(old, new)
            for axis, (old, new) in enumerate(zip(old_shape, self.shape, strict=True))
        )


def _is_linear(resample: Resample) -> bool:
    if not isinstance(resample, partial) or resample.func is not resample_data_or_seg_to_shape:
        return False
    asked = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": False, **resample.keywords}
    return not asked["is_seg"] and (asked["order"], asked["order_z"]) == (1, 0)


def _linear(old: int, new: int) -> Axis:
    """As `scipy.ndimage.zoom` with ``grid_mode=True, mode="nearest", order=1``: the grids share their outer edges."""
    at = (np.arange(new) + 0.5) * (old / new) - 0.5
    below = np.floor(at)
    low, high = (np.clip(index, 0, old - 1).astype(np.intp) for index in (below, below + 1))
    return Axis(low, high, at - below)


def _nearest(old: int, new: int) -> Axis:
    """As `scipy.ndimage.map_coordinates` with ``order=0, mode="nearest"``."""
    at = np.clip((old / new) * (np.arange(new) + 0.5) - 0.5, 0, old - 1)
    index = np.floor(at + 0.5).astype(np.intp)
    return Axis(index, index, np.zeros(new))
