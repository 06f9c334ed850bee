"""The same input, the same output, bit for bit: what torch must be told for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def fixed_algorithms() -> Iterator[None]:
    """Let cuDNN take the same algorithm each time, and none that adds up in whatever order its threads come."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
        yield
