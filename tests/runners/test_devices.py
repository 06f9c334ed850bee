"""Which devices are meant, and which GPUs are there; the driver's program is a stand-in."""

from __future__ import annotations

import pytest
from voxfleet.runners.devices import NoSuchDevice, checked, devices_of, gpus_here


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """Gives the machine an ``nvidia-smi`` that lists so many GPUs."""

    def install(gpus: int) -> None:
        lines = "".join(f"echo 'GPU {number}: NVIDIA H100 (UUID: GPU-{number})'\n" for number in range(gpus))
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n{lines}")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    return install


def test_cuda_is_every_gpu(driver):
    """``cuda`` stands for all GPUs that the driver lists; what is named by number stays as it is."""
    driver(3)
    assert devices_of(["cuda"]) == ("cuda:0", "cuda:1", "cuda:2")
    assert devices_of(["cpu", "cuda:1", "cuda:1"]) == ("cpu", "cuda:1", "cuda:1")


@pytest.mark.parametrize(("visible", "number"), [("2,3", 2), ("GPU-1", 1), ("", 0), ("-1", 0), ("0,-1,1", 1)])
def test_only_visible_gpus_count(driver, monkeypatch, visible, number):
    """CUDA numbers the GPUs that CUDA_VISIBLE_DEVICES names from 0, up to the first that is none."""
    driver(8)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpus_here() == number


def test_no_gpu(tmp_path, monkeypatch):
    """Where there is no driver, ``cuda`` is an error and not a run that does nothing."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with pytest.raises(NoSuchDevice, match="there is no GPU on this machine"):
        devices_of(["cuda"])


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "CPU", ""])
def test_other_names(name):
    """A name that is none is said before any work."""
    with pytest.raises(NoSuchDevice, match="is none of cpu, cuda:N"):
        checked([name])
