"""Labels of logits on a finer grid, block by block.

nnU-Net resamples the logits of all classes to the full grid, and takes the largest there: for 118
classes on 512x512x500 voxels that is 31 GB of float16, and more while it computes. Here each block of the
full grid is resampled and decided at once, as soon as the planes round it are predicted. The decision is
nnU-Net's: interpolated in float64, rounded to float16, the first of equal values wins; that is computed
where float32 leaves doubt.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from numpy.typing import NDArray

from .regridding import Axis, Regridding

BLOCK = (32, 64, 64)
"""Voxels of the full grid that are decided at once."""
CLASSES_AT_ONCE = 16
"""Classes of a block that are interpolated at once."""
HALF_STEPS = 2.0**-9
"""Two values that differ by more than this part of the larger stay in order when rounded to float16."""


def labels_of_logits(
    slabs: Iterable[torch.Tensor], shape: tuple[int, ...], grid: Regridding, labels: LabelManager
) -> NDArray[np.int16]:
    """Labels on the full grid.

    Parameters
    ----------
    slabs : iterable of torch.Tensor
        float16 (output, k, j, i) on the CPU, all finite: together, along k, the logits on the network's grid. What
        is decided is let go, so that slabs may be made one after the other.
    shape : tuple of int
        Of the network's grid, (k, j, i).
    grid : Regridding
        To the full grid.
    labels : LabelManager
        Says whether outputs are classes, of which the largest wins, or regions, each above one half.

    Returns
    -------
    ndarray of int16
        (k, j, i) of `grid.shape`, equal to what nnU-Net's export gives. Beside it, memory is needed for two slabs;
        where the plans name a resampling that is not nnU-Net's linear one, for the logits and one class of the
        full grid.
    """
    axes = grid.axes(shape)
    if axes is None:
        return _by_class(torch.cat(list(slabs), dim=1), grid, labels)
    result = np.empty(grid.shape, dtype=np.int16)
    if grid.shape == shape and not labels.has_regions:
        _largest(slabs, result)
        return result
    for part, first, ready in _decidable(slabs, axes[0]):
        _decide_planes(part, (axes[0].counted_from(first), *axes[1:]), ready, labels, result)
        del part  # with its slab, while the next is predicted
    return result


def _largest(slabs: Iterable[torch.Tensor], result: NDArray[np.int16]) -> None:
    """Labels where there is nothing to interpolate."""
    k = 0
    for slab in slabs:
        for plane in slab.unbind(1):
            # The first of equals wins, as in nnU-Net's export; NumPy compares float32, with the classes side by
            # side, four times as fast as float16 as it lies.
            result[k] = plane.permute(1, 2, 0).float().contiguous().numpy().argmax(axis=-1)
            k += 1
        del slab, plane


def _decidable(slabs: Iterable[torch.Tensor], axis: Axis) -> Iterator[tuple[torch.Tensor, int, slice]]:
    """Logits of some planes, the number of the first of them, and the new planes that lie between them."""
    held: list[torch.Tensor] = []
    first = upto = done = 0
    for piece in _pieces(slabs):
        held.append(piece)
        upto += piece.shape[1]
        del piece
        ready = int(np.searchsorted(axis.high, upto))
        if ready < len(axis.high):
            ready -= (ready - done) % BLOCK[0]
        if ready == done:
            continue
        part = held[0] if len(held) == 1 else torch.cat(held, dim=1)
        held.clear()
        following = min(int(axis.low[ready]), upto) if ready < len(axis.low) else upto
        held.append(part[:, following - first :].clone())
        yield part, first, slice(done, ready)
        del part
        first, done = following, ready


def _pieces(slabs: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
    """Copies of few planes, so that what waits for its neighbours does not hold a whole slab."""
    for slab in slabs:
        for piece in slab.split(BLOCK[0], dim=1):
            yield piece.clone()
        del slab, piece


def _decide_planes(
    part: torch.Tensor, axes: Sequence[Axis], ready: slice, labels: LabelManager, result: NDArray[np.int16]
) -> None:
    """Labels of some planes, block by block, from the logits round them; as many blocks at once as torch has threads.

    Each block is decided in one thread: OpenMP's would wait for each other after every one of its small steps,
    and on a machine that has other work as well that takes ten times as long.
    """

    def decide(block: tuple[slice, ...]) -> None:
        spans = [axis.within(span) for axis, span in zip(axes, block, strict=True)]
        around = part[(slice(None), *(old for old, _ in spans))]
        result[block] = _decide(around, [axis for _, axis in spans], labels).numpy()

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # new threads, those of the pool, begin with it
    try:
        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(decide, _blocks(ready, result.shape[1:])):
                pass
    finally:
        torch.set_num_threads(threads)


def _decide(part: torch.Tensor, axes: Sequence[Axis], labels: LabelManager) -> torch.Tensor:
    """Labels of one block from the logits round it: fast in float32, exactly where that leaves doubt."""
    shape = [len(axis.low) for axis in axes]
    candidates = _candidates(part, labels)
    if labels.has_regions:
        return _decide_regions(part, axes, candidates, labels)
    if len(candidates) == 1:
        return torch.full(shape, candidates[0], dtype=torch.int16)
    best = torch.full(shape, -torch.inf)
    second = best.clone()
    found = torch.zeros(shape, dtype=torch.int16)
    for number, values in _interpolated(part, axes, candidates):
        found.masked_fill_(values > best, number)
        torch.maximum(second, torch.minimum(best, values), out=second)
        torch.maximum(best, values, out=best)
    doubtful = best - second <= torch.maximum(best.abs(), second.abs()) * HALF_STEPS + _float32_error(part)
    where = torch.nonzero(doubtful, as_tuple=True)
    if len(where[0]):
        choice = _exact(part[candidates], axes, where).argmax(axis=0)  # NumPy's takes the first of equals
        found[where] = torch.tensor(candidates, dtype=torch.int16)[torch.from_numpy(choice)]
    return found


def _decide_regions(
    part: torch.Tensor, axes: Sequence[Axis], candidates: list[int], labels: LabelManager
) -> torch.Tensor:
    """Labels of one block of regions, the later ones painted over the earlier."""
    found = torch.zeros([len(axis.low) for axis in axes], dtype=torch.int16)
    for number, values in _interpolated(part, axes, candidates):
        inside = values > 0
        where = torch.nonzero(values.abs() <= HALF_STEPS + _float32_error(part), as_tuple=True)
        if len(where[0]):
            exact = _exact(part[[number]], axes, where)[0]
            inside[where] = labels.apply_inference_nonlin(exact) > 0.5  # noqa: PLR2004 - nnU-Net's own
        found[inside] = int(labels.regions_class_order[number])
    return found


def _candidates(part: torch.Tensor, labels: LabelManager) -> list[int]:
    """Outputs that can win somewhere in a block.

    Interpolated values lie between the lowest and the highest value that they are made of, and so they
    do after rounding to float16: an output whose highest lies below another's lowest wins nowhere.
    """
    highest = part.amax(dim=(1, 2, 3))
    # sigmoid(0) is one half, and a region needs more.
    wins = highest > 0 if labels.has_regions else highest >= part.amin(dim=(1, 2, 3)).max()
    found: list[int] = torch.nonzero(wins)[:, 0].tolist()
    return found


def _interpolated(
    part: torch.Tensor, axes: Sequence[Axis], candidates: list[int]
) -> Iterator[tuple[int, torch.Tensor]]:
    """Each candidate's values on the block's full grid, in float32."""
    for start in range(0, len(candidates), CLASSES_AT_ONCE):
        group = candidates[start : start + CLASSES_AT_ONCE]
        values = part[group].float()
        # From the innermost axis, along which single values are gathered while they are few.
        for dimension, axis in reversed(list(enumerate(axes, start=1))):
            low = values.index_select(dimension, torch.from_numpy(axis.low))
            high = values.index_select(dimension, torch.from_numpy(axis.high))
            fraction = torch.from_numpy(axis.fraction).float()
            values = torch.lerp(low, high, fraction.reshape([-1 if n == dimension else 1 for n in range(4)]))
        yield from zip(group, values, strict=True)


def _float32_error(part: torch.Tensor) -> float:
    """More than interpolation in float32 can be wrong by, three times over."""
    return float(part.abs().max()) * 2.0**-20 + 2.0**-23


def _exact(part: torch.Tensor, axes: Sequence[Axis], where: Sequence[torch.Tensor]) -> NDArray[np.float16]:
    """float16 (class, point): the products and sums of `scipy.ndimage.zoom` in float64, in its order."""
    # With the classes side by side: what is gathered for a point lies in one piece.
    part = part.permute(1, 2, 3, 0).contiguous()
    corners = []
    for axis, index in zip(axes, where, strict=True):
        upper = 1 - torch.from_numpy(axis.fraction)[index]
        corners.append(((torch.from_numpy(axis.low)[index], upper), (torch.from_numpy(axis.high)[index], 1 - upper)))
    total = torch.zeros((len(where[0]), part.shape[-1]), dtype=torch.double)
    for (k, weight_k), (j, weight_j), (i, weight_i) in itertools.product(*corners):
        total += part[k, j, i].double() * weight_k[:, None] * weight_j[:, None] * weight_i[:, None]
    # Torch rounds by way of float32, that is twice; NumPy, and so nnU-Net, does not.
    return total.T.numpy().astype(np.float16)


def _by_class(logits: torch.Tensor, grid: Regridding, labels: LabelManager) -> NDArray[np.int16]:
    """By the function of the plans, whatever it is, one class at a time."""
    found = torch.zeros(grid.shape, dtype=torch.int16)
    best: torch.Tensor | None = None
    for number in range(len(logits)):
        # nnU-Net gives it arrays, and some of these functions round by what they are given.
        one_class = logits[number : number + 1].numpy()
        values = torch.as_tensor(grid.resample(one_class, grid.shape, grid.spacing_mm, grid.new_spacing_mm))[0]
        if labels.has_regions:
            found[labels.apply_inference_nonlin(values) > 0.5] = int(labels.regions_class_order[number])  # noqa: PLR2004
        elif best is None:
            best = values
        else:
            found[values > best] = number
            best = torch.maximum(best, values)
    return found.numpy()


def _blocks(ready: slice, shape: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """Blocks of some planes (k) of a shape (j, i)."""
    spans = [
        [slice(start, min(start + step, stop)) for start in range(begin, stop, step)]
        for (begin, stop), step in zip([(ready.start, ready.stop), *((0, size) for size in shape)], BLOCK, strict=True)
    ]
    return itertools.product(*spans)
