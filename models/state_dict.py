"""Weights of a torch network, read as plain tensors: nothing that a file holds is executed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from .memory import ran_out_of_memory
from .weights import InvalidWeights, UnsafeWeights

_GLOBAL = re.compile(r"GLOBAL (\S+)")


def read_state_dict(model: str, path: Path, device: str) -> Mapping[str, Any]:
    """What ``torch.save`` wrote: tensors by name, and plain values.

    Raises
    ------
    UnsafeWeights
        If the file refers to anything beyond tensors and plain values.
    InvalidWeights
        If it is truncated, or no such file at all.
    """
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except UnpicklingError as exc:
        if found := _GLOBAL.search(str(exc)):
            raise UnsafeWeights(model, f"{path.name} asks for {found[1]} when it is read: it was not executed") from exc
        raise InvalidWeights(model, f"{path.name} is truncated, or holds no weights") from exc
    except (RuntimeError, OSError, EOFError, ValueError, KeyError) as exc:
        if ran_out_of_memory(exc):
            raise
        raise InvalidWeights(model, f"{path.name} is truncated, or holds no weights") from exc
    if not isinstance(content, Mapping):
        raise InvalidWeights(model, f"{path.name} holds a {type(content).__name__}, not weights by name")
    return content


def load_into(model: str, network: torch.nn.Module, state: Mapping[str, Any], path: Path) -> None:
    """Give a network its weights; every one of them, and none that is not its own.

    Raises
    ------
    InvalidWeights
        If names or shapes differ.
    """
    try:
        network.load_state_dict(state)
    except (RuntimeError, AttributeError, TypeError) as exc:
        reason = " ".join(str(exc).split())[:300]
        raise InvalidWeights(model, f"{path.name} does not fit the network: {reason}") from exc
