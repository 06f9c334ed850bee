"""Memory that did not suffice: one error, and how libraries say it."""

from __future__ import annotations

from .model import ModelError

_SAID = ("allocate memory", "ALLOC_FAILED")
"""What torch's allocator on the CPU, cuBLAS and cuDNN say, in a plain RuntimeError."""


class OutOfMemory(ModelError):
    """Everything that needs less memory was tried, and the memory did not suffice: work for a bigger machine."""

    code = "OUT_OF_MEMORY"


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there is not enough memory, on the host or on a GPU."""
    if isinstance(error, MemoryError | OutOfMemory):
        return True
    # torch.OutOfMemoryError, and what other libraries call so too.
    named = type(error).__name__ == "OutOfMemoryError"
    return named or (isinstance(error, RuntimeError) and any(words in str(error) for words in _SAID))
