"""Ways of predicting an image, each with less memory than the one before, and how they are tried."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch

from ..memory import OutOfMemory, ran_out_of_memory

T = TypeVar("T")

SMALLEST_TILE = 32
"""Voxels; no axis of a tile is halved to less."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Window:
    """How an image is cut into tiles.

    Attributes
    ----------
    tile : tuple of int
        Voxels of a tile along the last two or three axes of the image.
    step_size : float
        Distance of tiles as a part of their size, above 0 and at most 1.
    mirroring_axes : tuple of int
        Spatial axes; the mean is taken over all combinations of mirrorings.
    outputs : int
        Channels that the network gives.
    precision : str
        Of its convolutions: ``default`` for nnU-Net's, which is float16 on a GPU and float32 on the CPU; or
        ``float32``, ``bfloat16``, ``float16``.
    batch : int
        Tiles of a row that go through the network together.
    """

    tile: tuple[int, ...]
    step_size: float
    mirroring_axes: tuple[int, ...]
    outputs: int
    precision: str = "default"
    batch: int = 1


@dataclass(frozen=True, slots=True)
class Rung:
    """One way of predicting; each needs less memory on the device than the one before."""

    window: Window
    sums_on: str


def ladder(window: Window, device: str, strides: Sequence[int] | None = None) -> tuple[Rung, ...]:
    """Ways of predicting, in the order in which they are tried.

    With tiles one by one where they were to go together; then, with the same result, with sums in host memory.
    Smaller tiles give a slightly different one (the network sees less, and normalises by what it
    sees), so that they follow only where the caller asks for them by giving `strides`.

    Parameters
    ----------
    window : Window
        As the network was trained.
    device : str
        Of the network.
    strides : sequence of int, optional
        Along each axis, what the size of a tile must be a multiple of.
    """
    rungs = [Rung(window, device)]
    if window.batch > 1:
        window = replace(window, batch=1)
        rungs.append(Rung(window, device))
    if device != "cpu":
        rungs.append(Rung(window, "cpu"))
    while strides is not None and (tile := _smaller(window.tile, strides)) is not None:
        window = replace(window, tile=tile)
        rungs.append(Rung(window, "cpu"))
    return tuple(rungs)


def climb_down(rungs: Sequence[Rung], work: Callable[[Rung], T], name: str) -> T:
    """What the work gives by the first way for which the memory suffices.

    Parameters
    ----------
    rungs : sequence of Rung
        From `ladder`; the next is taken where memory runs out, and the work begins anew.
    work : callable
    name : str
        Of the model, for errors.

    Raises
    ------
    OutOfMemory
        If memory ran out on the last rung too.
    """
    for number, rung in enumerate(rungs, start=1):
        done = _unless_out_of_memory(lambda rung=rung: work(rung))  # type: ignore[misc]
        if done is not None:
            return done
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        tile = "x".join(map(str, rung.window.tile))
        _log.warning("%s: out of memory (way %d of %d, tiles %s)", name, number, len(rungs), tile)
    reason = f"the memory does not suffice for tiles of {tile} voxels and {rung.window.outputs} outputs"
    raise OutOfMemory(name, f"{reason}; a machine with more of it may do it")


def _unless_out_of_memory(work: Callable[[], T]) -> T | None:
    """What the work gives, or None; leaving this function frees the tensors that the error's frames held."""
    try:
        return work()
    except (MemoryError, RuntimeError) as exc:
        if ran_out_of_memory(exc):
            return None
        raise


def _smaller(tile: tuple[int, ...], strides: Sequence[int]) -> tuple[int, ...] | None:
    """The tile with its longest axis that can be halved, halved."""
    for axis in np.argsort(tile)[::-1].tolist():
        half = tile[axis] // 2 // strides[axis] * strides[axis]
        if half >= max(SMALLEST_TILE, strides[axis]):
            return (*tile[:axis], half, *tile[axis + 1 :])
    return None
