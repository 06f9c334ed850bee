"""Prediction of a large image tile by tile.

The tiles, their weights and the order of the sums are those of nnU-Net, so that the logits are
its logits, bit for bit. Its loop is not used: where the GPU's memory ends while its second
thread copies a tile, that loop waits for ever; and it takes any RuntimeError for lack of memory.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from acvl_utils.cropping_and_padding.padding import pad_nd_image
from nnunetv2.inference.sliding_window_prediction import compute_gaussian, compute_steps_for_sliding_window

from ..model import ModelError
from ..reproducible import fixed_algorithms
from .ladder import Rung, Window


class InvalidLogits(ModelError):
    """The network gave values that are not finite."""

    code = "INVALID_LOGITS"


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
        del done  # so that its memory is free while the next row is predicted


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
