"""Prediction of a large image tile by tile, and what is tried when memory runs out.

The tiles, their weights and the order of the sums are those of nnU-Net, so that the logits are
its logits, bit for bit. Its loop is not used: where the GPU's memory ends while its second
thread copies a tile, that loop waits for ever; and it takes any RuntimeError for lack of memory.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace

import numpy as np
import torch
from acvl_utils.cropping_and_padding.padding import pad_nd_image
from nnunetv2.inference.sliding_window_prediction import compute_gaussian, compute_steps_for_sliding_window

from ..model import ModelError

SMALLEST_TILE = 32
"""Voxels; no axis of a tile is halved to less."""

_log = logging.getLogger(__name__)


class OutOfMemory(ModelError):
    """Everything that needs less memory was tried, and the memory did not suffice."""

    code = "OUT_OF_MEMORY"


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
    """

    tile: tuple[int, ...]
    step_size: float
    mirroring_axes: tuple[int, ...]
    outputs: int


@dataclass(frozen=True, slots=True)
class Rung:
    """One way of predicting; each needs less memory on the device than the one before."""

    window: Window
    sums_on: str


def ladder(window: Window, device: str, strides: Sequence[int] | None = None) -> tuple[Rung, ...]:
    """Ways of predicting, in the order in which they are tried.

    The first two give one result: with sums on the device, then with sums in host memory.
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
    if device != "cpu":
        rungs.append(Rung(window, "cpu"))
    while strides is not None and (tile := _smaller(window.tile, strides)) is not None:
        window = replace(window, tile=tile)
        rungs.append(Rung(window, "cpu"))
    return tuple(rungs)


@torch.inference_mode()
def predict_logits(
    network: torch.nn.Module,
    folds: Sequence[Mapping[str, torch.Tensor]],
    image: torch.Tensor,
    rungs: Sequence[Rung],
    name: str,
) -> torch.Tensor:
    """Logits of an image: the mean of the folds.

    Parameters
    ----------
    network : torch.nn.Module
        On its device, in evaluation mode.
    folds : sequence of mappings
        Weights, loaded into the network one after the other.
    image : torch.Tensor
        float32 (channel, k, j, i) on the CPU.
    rungs : sequence of Rung
        From `ladder`; the next is taken where memory runs out.
    name : str
        Of the model, for errors.

    Returns
    -------
    torch.Tensor
        float16 (output, k, j, i) on the CPU.

    Raises
    ------
    OutOfMemory
        If memory ran out on the last rung too.
    InvalidLogits
        If a value is not finite.
    """
    total: torch.Tensor | None = None
    for weights in folds:
        network.load_state_dict(weights)
        logits = _climb_down(network, image, rungs, name)
        total = logits if total is None else total.add_(logits)
    if total is None:
        raise InvalidLogits(name, "no fold to predict with")
    return total.div_(len(folds)) if len(folds) > 1 else total


def _climb_down(network: torch.nn.Module, image: torch.Tensor, rungs: Sequence[Rung], name: str) -> torch.Tensor:
    for number, rung in enumerate(rungs, start=1):
        logits = _unless_out_of_memory(lambda rung=rung: _predict(network, image, rung, name))  # type: ignore[misc]
        if logits is not None:
            return logits
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        tile = "x".join(map(str, rung.window.tile))
        _log.warning("%s: out of memory (way %d of %d, tiles %s)", name, number, len(rungs), tile)
    raise OutOfMemory(name, f"the memory does not suffice for tiles of {tile} voxels and {rung.window.outputs} outputs")


def _unless_out_of_memory(work: Callable[[], torch.Tensor]) -> torch.Tensor | None:
    """What the work gives, or None; leaving this function frees the tensors that the error's frames held."""
    try:
        return work()
    except (torch.OutOfMemoryError, MemoryError):
        return None
    except RuntimeError as exc:
        # The CPU's allocator, cuBLAS and cuDNN raise a plain RuntimeError.
        if "allocate memory" in str(exc) or "ALLOC_FAILED" in str(exc):
            return None
        raise


def _predict(network: torch.nn.Module, image: torch.Tensor, rung: Rung, name: str) -> torch.Tensor:
    """Logits by one way, in float16 on the CPU."""
    window, device = rung.window, next(network.parameters()).device
    padded, unpad = pad_nd_image(image, window.tile, "constant", {"value": 0}, True, None)
    padded = padded.to(rung.sums_on)
    sums = torch.zeros((window.outputs, *padded.shape[1:]), dtype=torch.half, device=rung.sums_on)
    weight = torch.zeros(padded.shape[1:], dtype=torch.half, device=rung.sums_on)
    gaussian = compute_gaussian(
        window.tile, sigma_scale=1.0 / 8, value_scaling_factor=10, device=torch.device(rung.sums_on)
    )
    with ExitStack() as stack:
        stack.enter_context(torch.autocast("cuda") if device.type == "cuda" else nullcontext())
        # Fixed algorithms: the same input gives the same bits.
        stack.enter_context(torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True))
        for where in _tiles(tuple(padded.shape[1:]), window):
            tile = torch.clone(padded[where][None], memory_format=torch.contiguous_format).to(device)
            prediction = _mirrored_mean(network, tile, window.mirroring_axes)[0].to(rung.sums_on)
            _add(sums[where], prediction.mul_(gaussian.to(prediction.dtype)))
            weight[where[1:]] += gaussian
    for channel in sums:
        channel.div_(weight)
        # In single precision a sum of float16 overflows never, so that it is finite if all of them are.
        if not bool(torch.isfinite(channel.sum(dtype=torch.float32))):
            raise InvalidLogits(name, "the network gave values that are not finite")
    return sums[(slice(None), *unpad[1:])].to("cpu")


def _add(sums: torch.Tensor, prediction: torch.Tensor) -> None:
    """Add a tile to its sums, rounded as ``sums += prediction`` rounds.

    On the CPU a sum of two types is not vectorised: channel by channel in one type takes a quarter of the time.
    """
    if sums.device.type != "cpu" or sums.dtype == prediction.dtype:
        sums += prediction
        return
    for channel, values in zip(sums, prediction, strict=True):
        channel.copy_(channel.to(prediction.dtype).add_(values))


def _tiles(shape: tuple[int, ...], window: Window) -> Iterator[tuple[slice | int, ...]]:
    """Index of each tile in (channel, k, j, i); a flat network sees one slice at a time."""
    flat = len(shape) - len(window.tile)
    steps = compute_steps_for_sliding_window(shape[flat:], window.tile, window.step_size)
    for k in range(shape[0]) if flat else (None,):
        for starts in itertools.product(*steps):
            spans = tuple(slice(start, start + size) for start, size in zip(starts, window.tile, strict=True))
            yield (slice(None), *(() if k is None else (k,)), *spans)


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
