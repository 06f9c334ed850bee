"""What the benchmark of a GPU reads of its driver, and that it says so where there is none."""

from __future__ import annotations

import time

import pytest

pytest.importorskip("torch")
pytest.importorskip("totalsegmentator")

from voxfleet.benchmarks.performance.gpu_throughput import main, read_samples


def test_samples_of_the_driver():
    """Time, per cent and MiB as nvidia-smi writes them without units; a line that was cut off is left out."""
    first, second = read_samples("2026/11/21 10:11:12.250, 87, 4321\n2026/11/21 10:11:12.350, 0, 4000\n2026/11/21 10")
    assert (first.busy, first.bytes_used, second.busy) == (0.87, 4321 * 2**20, 0.0)
    assert second.at - first.at == pytest.approx(0.1)
    assert time.localtime(first.at)[:6] == (2026, 11, 21, 10, 11, 12)


def test_no_gpu_is_told(tmp_path, monkeypatch, capsys):
    """Without a GPU there is an error before any work, and no file of results."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert main(["--output", str(tmp_path / "out.json")]) == 1
    assert "NO_SUCH_DEVICE" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
