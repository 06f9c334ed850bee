"""Tiles, and what is tried when memory runs out: faults are injected on the CPU, no GPU takes part."""

from __future__ import annotations

import itertools
import logging
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("nnunetv2")

from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor  # noqa: E402
from voxfleet.models.memory import OutOfMemory  # noqa: E402
from voxfleet.models.nnunet.ladder import Rung, Window, climb_down, ladder  # noqa: E402
from voxfleet.models.nnunet.sliding_window import InvalidLogits, predict_slabs  # noqa: E402

WINDOW = Window((64, 64, 32), 0.5, (), 3)


class Tiny(torch.nn.Module):
    """Three outputs of one channel; runs out of memory as it is told, counting its tiles."""

    def __init__(self, error=None, above_voxels: int = 0, times: float = float("inf"), nan: bool = False) -> None:
        super().__init__()
        self.convolution = torch.nn.Conv3d(1, 3, 3, padding=1)
        self.error, self.above_voxels, self.left, self.nan = error, above_voxels, times, nan
        self.tiles: list[tuple[int, ...]] = []

    def forward(self, tile):
        """Logits of a tile."""
        self.tiles.append(tuple(tile.shape[2:]))
        if self.error is not None and tile.numel() > self.above_voxels and self.left > 0:
            self.left -= 1
            raise self.error
        logits = self.convolution(tile)
        return logits * torch.nan if self.nan else logits


def network(**fault) -> Tiny:
    """Always with the same weights."""
    torch.manual_seed(1)
    return Tiny(**fault).eval()


IMAGE = torch.randn((1, 40, 70, 50), generator=torch.Generator().manual_seed(2))
MIDDLE = (slice(None), slice(10, 30), slice(18, 52), slice(13, 37))
OUT_OF_MEMORY = (
    torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    MemoryError(),
)


def predict(net: Tiny, rungs: tuple[Rung, ...], image=IMAGE, folds=()):
    """Logits, with the network's own weights as the only fold unless others are given."""
    weights = folds or [net.state_dict()]
    return climb_down(rungs, lambda rung: torch.cat(list(predict_slabs(net, weights, image, rung, "t")), dim=1), "t")


@pytest.mark.parametrize("axes", [(), (0, 2)])
def test_a_batch_gives_nearly_the_same_logits(axes):
    """Four tiles of a row at once, and what is left over: each lands in its place, to rounding."""
    one, four = replace(WINDOW, mirroring_axes=axes), replace(WINDOW, mirroring_axes=axes, batch=4)
    net = network()
    expected = predict(net, (Rung(one, "cpu"),), IMAGE)
    alone = len(net.tiles)
    net.tiles.clear()
    found = predict(net, (Rung(four, "cpu"),), IMAGE)
    assert len(net.tiles) < alone
    torch.testing.assert_close(found.float(), expected.float(), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: str(error)[:20] or "MemoryError")
def test_same_result_after_one_failure(error, caplog):
    """The second way is taken, gives the same bits, and is logged."""
    expected = predict(network(), (Rung(WINDOW, "cpu"),))
    with caplog.at_level(logging.WARNING):
        found = predict(network(error=error, times=1), (Rung(WINDOW, "cpu"), Rung(WINDOW, "cpu")))
    assert torch.equal(found, expected)
    assert "out of memory (way 1 of 2, tiles 64x64x32)" in caplog.text


def test_smaller_tiles_are_used():
    """Where only small tiles fit, the result is made of them."""
    net = network(error=OUT_OF_MEMORY[0], above_voxels=40_000)
    assert predict(net, ladder(WINDOW, "cpu", (8, 8, 8))).shape == (3, 40, 70, 50)
    assert net.tiles[:3] == [(64, 64, 32), (64, 32, 32), (32, 32, 32)]
    assert set(net.tiles[3:]) == {(32, 32, 32)}


def test_recorded_failure():
    """Where nothing helps, there is an error with the code OUT_OF_MEMORY, not to be retried on this machine."""
    with pytest.raises(OutOfMemory, match="t: the memory does not suffice for tiles of 32x32x32") as caught:
        predict(network(error=OUT_OF_MEMORY[0]), ladder(WINDOW, "cpu", (8, 8, 8)))
    assert (caught.value.code, caught.value.retryable) == ("OUT_OF_MEMORY", False)


def test_other_errors_are_not_taken_for_lack_of_memory():
    """A RuntimeError of another kind comes through, and no second way is tried."""
    net = network(error=RuntimeError("CUDA error: an illegal memory access was encountered"))
    with pytest.raises(RuntimeError, match="illegal memory access"):
        predict(net, (Rung(WINDOW, "cpu"), Rung(WINDOW, "cpu")))
    assert len(net.tiles) == 1


def test_values_that_are_not_finite():
    """A network that gives NaN is an error, not a label map."""
    with pytest.raises(InvalidLogits, match="not finite"):
        predict(network(nan=True), (Rung(WINDOW, "cpu"),))


@pytest.mark.parametrize("tile", [(16, 32, 32), (64, 40, 32), (32, 32)], ids=str)
def test_slabs_are_nnunets_logits(tile):
    """Slabs of a long image, the mean of two folds, are nnU-Net's logits bit for bit; none is thicker than a tile."""
    net, window = network(), Window(tile, 0.5, (0,), 3)
    if len(tile) == 2:
        net.convolution = torch.nn.Conv2d(1, 3, 3, padding=1)
    first = {key: values.clone() for key, values in net.state_dict().items()}
    folds = [first, {key: values * 1.5 for key, values in first.items()}]
    image = torch.randn((1, 90, 50, 40), generator=torch.Generator().manual_seed(5))
    predictor = nnUNetPredictor(0.5, use_mirroring=True, device=torch.device("cpu"), allow_tqdm=False)
    predictor.network, predictor.list_of_parameters, predictor.allowed_mirroring_axes = net, folds, (0,)
    predictor.configuration_manager = SimpleNamespace(patch_size=tile)
    predictor.label_manager = SimpleNamespace(num_segmentation_heads=3)
    with redirect_stdout(StringIO()):
        expected = predictor.predict_logits_from_preprocessed_data(image)
    slabs = list(predict_slabs(net, folds, image, Rung(window, "cpu"), "t"))
    assert torch.equal(torch.cat(slabs, dim=1), expected)
    assert max(slab.shape[1] for slab in slabs) <= (tile[0] if len(tile) == 3 else 1)


def test_all_mirrorings():
    """The mean runs over all eight combinations of three axes: mirroring the image mirrors the logits."""
    window = Window((40, 70, 50), 1.0, (0, 1, 2), 3)
    net = network()
    logits = predict(net, (Rung(window, "cpu"),))
    assert len(net.tiles) == 8
    for axes in itertools.combinations((1, 2, 3), 2):
        mirrored = predict(net, (Rung(window, "cpu"),), IMAGE.flip(axes))
        # At a tile's edges nnU-Net's weights are too small for float16 to hold the logits well.
        torch.testing.assert_close(mirrored.flip(axes)[MIDDLE], logits[MIDDLE], atol=4e-3, rtol=4e-3)
