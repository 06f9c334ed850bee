"""How libraries say that memory ran out, and what sounds alike and is another error."""

from __future__ import annotations

import errno
import os

import pytest
from voxfleet.models.memory import OutOfMemory, ran_out_of_memory


class OutOfMemoryError(RuntimeError):
    """Called as torch's, which holds no words of its own."""


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OutOfMemory("net", "the memory does not suffice"),
        OutOfMemoryError("Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:114] err == 0. DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("CUDA error: out of memory"),
        OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
    ],
    ids=repr,
)
def test_memory_that_ran_out(error):
    """Python, torch's two allocators, cuBLAS, the CUDA runtime (cudaErrorMemoryAllocation) and the kernel (ENOMEM)."""
    assert ran_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("CUDA error: invalid device ordinal"),
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        ValueError("error: out of memory"),
    ],
    ids=repr,
)
def test_other_errors(error):
    """Smaller tiles or a bigger machine would not help."""
    assert not ran_out_of_memory(error)


def test_weights_that_do_not_fit_into_memory_are_not_called_damaged(tmp_path, monkeypatch):
    """Where torch finds no memory while it reads a file, that is what is told: a bigger machine may load it."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("nnunetv2")
    from voxfleet.models.nnunet.checkpoint import read_checkpoint
    from voxfleet.models.state_dict import read_state_dict

    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr("torch.load", full)
    path = tmp_path / "net.pth"
    path.write_bytes(b"weights")
    for read in (lambda: read_state_dict("net", path, "cpu"), lambda: read_checkpoint(path)):
        with pytest.raises(torch.OutOfMemoryError):
            read()


def test_torchscript_that_does_not_fit_into_memory_is_not_called_damaged(tmp_path, monkeypatch):
    """As above, for a bundle whose network is TorchScript."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("monai")
    from voxfleet.models.adapters.monai_bundle import _network
    from voxfleet.models.monai_card import BundleFiles

    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr("torch.jit.load", full)
    files = BundleFiles(tmp_path, tmp_path / "inference.json", tmp_path / "model.ts")
    with pytest.raises(torch.OutOfMemoryError):
        _network("net", None, files, "cpu")
