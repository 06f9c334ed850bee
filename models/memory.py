"""Memory that did not suffice: one error, and how libraries say it."""

from __future__ import annotations

import errno

from .model import ModelError

_SAID = ("allocate memory", "ALLOC_FAILED", "error: out of memory")
"""What torch's allocator on the CPU, cuBLAS and cuDNN, and CUDA (a GPU that others fill) say in a RuntimeError."""


class OutOfMemory(ModelError):
    """Everything that needs less memory was tried, and the memory did not suffice: work for a bigger machine."""

    code = "OUT_OF_MEMORY"


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there is not enough memory, on the host or on a GPU."""
    if isinstance(error, MemoryError | OutOfMemory):
        return True
    # A mapping or a new process that the kernel has no memory for.
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    # torch.OutOfMemoryError, and what other libraries call so too.
    named = type(error).__name__ == "OutOfMemoryError"
    return named or (isinstance(error, RuntimeError) and any(words in str(error) for words in _SAID))
