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
