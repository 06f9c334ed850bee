"""Prediction of a large image tile by tile, and what is tried when memory runs out.

The tiles, their weights and the order of the sums are those of nnU-Net, so that the logits are
its logits, bit for bit. Its loop is not used: where the GPU's memory ends while its second
thread copies a tile, that loop waits for ever; and it takes any RuntimeError for lack of memory.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from acvl_utils.cropping_and_padding.padding import pad_nd_image
from nnunetv2.inference.sliding_window_prediction import compute_gaussian, compute_steps_for_sliding_window

from ..memory import OutOfMemory, ran_out_of_memory
from ..model import ModelError
from ..reproducible import fixed_algorithms

T = TypeVar("T")

SMALLEST_TILE = 32
"""Voxels; no axis of a tile is halved to less."""

_log = logging.getLogger(__name__)


class InvalidLogits(ModelError):
    """The network gave values that are not finite."""

    code = "INVALID_LOGITS"


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


@dataclass(frozen=True, slots=True)
class Row:
    """The tiles that begin in one plane.

    Attributes
    ----------
    start, planes : int
        Its first plane, and how many there are.
    tiles : tuple
        Index of each in (channel, k, j, i), k counted from `start`.
    """

    start: int
    planes: int
    tiles: tuple[tuple[slice | int, ...], ...]


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


@torch.inference_mode()
def predict_slabs(
    network: torch.nn.Module,
    folds: Sequence[Mapping[str, torch.Tensor]],
    image: torch.Tensor,
    rung: Rung,
    name: str,
) -> Iterator[torch.Tensor]:
    """Logits of an image, the mean of the folds, slab by slab along k.

    A slab is given as soon as no further tile reaches it: in memory there are the sums of one row of
    tiles, and not of the whole image.

    Parameters
    ----------
    network : torch.nn.Module
        On its device, in evaluation mode.
    folds : sequence of mappings
        Weights, loaded into the network in turn.
    image : torch.Tensor
        float32 (channel, k, j, i) on the CPU.
    rung : Rung
        From `ladder`.
    name : str
        Of the model, for errors.

    Yields
    ------
    torch.Tensor
        float16 (output, k, j, i) on the CPU; together, along k, the logits of the image.

    Raises
    ------
    InvalidLogits
        If a value is not finite.
    """
    window = rung.window
    padded, unpad = pad_nd_image(image, window.tile, "constant", {"value": 0}, True, None)
    padded = padded.to(rung.sums_on)
    k_kept, *in_plane = unpad[1:]
    rows = _rows(tuple(padded.shape[1:]), window)
    shape = (rows[0].planes, *padded.shape[2:])
    sums = [torch.zeros((window.outputs, *shape), dtype=torch.half, device=rung.sums_on) for _ in folds]
    weight = torch.zeros(shape, dtype=torch.half, device=rung.sums_on)
    gaussian = compute_gaussian(
        window.tile, sigma_scale=1.0 / 8, value_scaling_factor=10, device=torch.device(rung.sums_on)
    )
    for row, end in zip(rows, [*(row.start for row in rows[1:]), padded.shape[1]], strict=True):
        for weights, fold_sums in zip(folds, sums, strict=True):
            if len(folds) > 1 or row is rows[0]:
                # The names of a compiled network's weights have a prefix; its own network is behind it.
                getattr(network, "_orig_mod", network).load_state_dict(weights)
            with _computing(network, window.precision):
                _add_row(fold_sums, network, padded[:, row.start : row.start + row.planes], gaussian, row, window)
        for where in row.tiles:
            weight[where[1:]] += gaussian
        inside = slice(max(k_kept.start - row.start, 0), min(k_kept.stop, end) - row.start)
        take = _ended if row is rows[-1] else _taken
        done = [_normalised(take(fold_sums, end - row.start), weight, name) for fold_sums in sums]
        _advance(weight, end - row.start)
        if inside.start < inside.stop:
            yield _mean([logits[(slice(None), inside, *in_plane)] for logits in done])


def _mean(folds: list[torch.Tensor]) -> torch.Tensor:
    """Of the folds' logits, added one after the other in float16 on the CPU, as nnU-Net does."""
    total, *others = (logits.to("cpu") for logits in folds)
    for logits in others:
        total += logits
    return total.div_(len(folds)) if others else total


@contextmanager
def _computing(network: torch.nn.Module, precision: str) -> Iterator[None]:
    """Compute in a precision, and by fixed algorithms: the same input gives the same bits."""
    kind = next(network.parameters()).device.type
    wanted = "float16" if precision == "default" and kind == "cuda" else precision
    mixed = wanted not in ("default", "float32")
    with torch.autocast(kind, dtype=getattr(torch, wanted)) if mixed else nullcontext(), fixed_algorithms():
        yield


def _add_row(
    sums: torch.Tensor,
    network: torch.nn.Module,
    image: torch.Tensor,
    gaussian: torch.Tensor,
    row: Row,
    window: Window,
) -> None:
    """Add the predictions of a row of tiles; `image` and `sums` begin where the row begins."""
    device = next(network.parameters()).device
    for first in range(0, len(row.tiles), window.batch):
        places = row.tiles[first : first + window.batch]
        tiles = torch.stack([image[where] for where in places]).to(device)
        predictions = _mirrored_mean(network, tiles, window.mirroring_axes).to(sums.device)
        if predictions.dtype == torch.bfloat16:
            predictions = predictions.float()  # eight bits are too few to be weighed and summed
        for where, prediction in zip(places, predictions, strict=True):
            _add(sums[where], prediction.mul_(gaussian.to(prediction.dtype)))


def _ended(sums: torch.Tensor, planes: int) -> torch.Tensor:
    """The first planes, where nothing more is to be added."""
    return sums[:, :planes]


def _taken(sums: torch.Tensor, planes: int) -> torch.Tensor:
    """The first planes, taken out of the sums; the other planes move up."""
    taken = sums[:, :planes].clone()
    for channel in sums:
        _advance(channel, planes)
    return taken


def _normalised(logits: torch.Tensor, weight: torch.Tensor, name: str) -> torch.Tensor:
    """The sums of some planes divided, in place, by the weight of as many."""
    for channel in logits:
        channel.div_(weight[: logits.shape[1]])
        # In single precision a sum of float16 overflows never, so that it is finite if all of them are.
        if not bool(torch.isfinite(channel.sum(dtype=torch.float32))):
            raise InvalidLogits(name, "the network gave values that are not finite")
    return logits


def _advance(sums: torch.Tensor, planes: int) -> None:
    """Drop the first planes (k, j, i), move the others there, and begin anew behind them."""
    kept = len(sums) - planes
    sums[:kept] = sums[planes:].clone()
    sums[kept:] = 0


def _add(sums: torch.Tensor, prediction: torch.Tensor) -> None:
    """Add a tile to its sums, rounded as ``sums += prediction`` rounds.

    On the CPU a sum of two types is not vectorised: channel by channel in one type takes a quarter of the time.
    """
    if sums.device.type != "cpu" or sums.dtype == prediction.dtype:
        sums += prediction
        return
    for channel, values in zip(sums, prediction, strict=True):
        channel.copy_(channel.to(prediction.dtype).add_(values))


def _rows(shape: tuple[int, ...], window: Window) -> tuple[Row, ...]:
    """The tiles of a padded image (k, j, i), in nnU-Net's order; a flat network sees one slice at a time."""
    flat = len(shape) - len(window.tile)
    steps = compute_steps_for_sliding_window(shape[flat:], window.tile, window.step_size)
    starts, planes = (range(shape[0]), 1) if flat else (steps.pop(0), window.tile[0])
    first: slice | int = 0 if flat else slice(0, planes)
    tiles = tuple(
        (slice(None), first, *(slice(at, at + size) for at, size in zip(corner, window.tile[-2:], strict=True)))
        for corner in itertools.product(*steps)
    )
    return tuple(Row(start, planes, tiles) for start in starts)


def _mirrored_mean(network: torch.nn.Module, tile: torch.Tensor, mirroring_axes: tuple[int, ...]) -> torch.Tensor:
    prediction: torch.Tensor = network(tile)
    axes = [axis + 2 for axis in mirroring_axes]
    mirrorings = [each for count in range(1, len(axes) + 1) for each in itertools.combinations(axes, count)]
    for mirroring in mirrorings:
        prediction += torch.flip(network(torch.flip(tile, mirroring)), mirroring)
    return prediction.div_(len(mirrorings) + 1) if mirrorings else prediction


def _smaller(tile: tuple[int, ...], strides: Sequence[int]) -> tuple[int, ...] | None:
    """The tile with its longest axis that can be halved, halved."""
    for axis in np.argsort(tile)[::-1].tolist():
        half = tile[axis] // 2 // strides[axis] * strides[axis]
        if half >= max(SMALLEST_TILE, strides[axis]):
            return (*tile[:axis], half, *tile[axis + 1 :])
    return None
