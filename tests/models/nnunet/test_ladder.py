"""Which ways of predicting there are, and their order; that they are taken is tested with the tiles."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("torch")

from voxfleet.models.nnunet.ladder import Rung, Window, ladder

WINDOW = Window((64, 64, 32), 0.5, (), 3)


def test_ladder_on_a_gpu():
    """First as trained, then with sums in host memory; smaller tiles only where they are asked for."""
    on_gpu, on_host = ladder(WINDOW, "cuda:1")
    assert (on_gpu, on_host) == (Rung(WINDOW, "cuda:1"), Rung(WINDOW, "cpu"))
    tiles = [rung.window.tile for rung in ladder(WINDOW, "cuda", (8, 8, 8))]
    assert tiles == [(64, 64, 32), (64, 64, 32), (64, 32, 32), (32, 32, 32)]


def test_ladder_on_the_cpu():
    """Sums are in host memory from the start."""
    assert ladder(WINDOW, "cpu") == (Rung(WINDOW, "cpu"),)


def test_batches_are_given_up_first():
    """Where memory ends, tiles go through the network one by one before anything else is changed."""
    together = replace(WINDOW, batch=4)
    assert ladder(together, "cuda") == (Rung(together, "cuda"), Rung(WINDOW, "cuda"), Rung(WINDOW, "cpu"))


def test_smaller_tiles_fit_the_network():
    """Tiles stay multiples of what the network halves them by."""
    tiles = [rung.window.tile for rung in ladder(Window((160, 96), 0.5, (), 2), "cpu", (32, 32))]
    assert tiles == [(160, 96), (64, 96), (64, 32), (32, 32)]
