"""An nnU-Net checkpoint, checked against its hash and read without executing anything it holds."""

from __future__ import annotations

import hashlib
import io
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..memory import ran_out_of_memory
from ..weights import InvalidWeights, UnsafeWeights, WeightsMissing, WrongHash

_SCALAR = np._core.multiarray.scalar  # type: ignore[attr-defined]  # noqa: SLF001 - how NumPy pickles its scalars
_HARMLESS = [
    _SCALAR,
    (_SCALAR, "numpy.core.multiarray.scalar"),  # the name under which NumPy 1 wrote it
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("float64", "float32", "int64", "int32", "bool")),
]
"""What the training log of a checkpoint holds beside tensors and plain values: NumPy scalars."""


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """What prediction needs of a trained fold.

    Attributes
    ----------
    weights : mapping of str to torch.Tensor
        The network's state, on the CPU.
    trainer : str
        Class of nnU-Net that trained it; it decides which network the plans stand for.
    configuration : str
        Of the plans, e.g. ``3d_fullres``.
    mirroring_axes : tuple of int
        Spatial axes along which it may be mirrored at prediction; empty for none.
    """

    weights: Mapping[str, torch.Tensor]
    trainer: str
    configuration: str
    mirroring_axes: tuple[int, ...]


def read_verified(path: Path, sha256: str | None) -> bytes:
    """A file's bytes, read once, so that what is used is what was hashed.

    Raises
    ------
    WeightsMissing, WrongHash
        If the file is not there; if `sha256` is given and is not its hash.
    """
    place = f"{path.parent.name}/{path.name}"
    try:
        content = path.read_bytes()
    except OSError as exc:
        raise WeightsMissing(place, f"cannot be read: {exc.strerror}") from exc
    found = hashlib.sha256(content).hexdigest()
    if sha256 is not None and found != sha256.lower():
        raise WrongHash(place, f"SHA-256 is {found}, the card says {sha256}")
    return content


def read_checkpoint(path: Path, sha256: str | None = None) -> Checkpoint:
    """A checkpoint of nnU-Net v2 (``fold_X/checkpoint_final.pth``).

    Raises
    ------
    InvalidWeights
        If it is truncated, or no checkpoint of nnU-Net.
    WeightsMissing, WrongHash
        If it is not there; if `sha256` is given and is not its hash: nothing of it is unpickled then.
    UnsafeWeights
        If its pickle asks for more than tensors, plain values and NumPy scalars.
    """
    place = f"{path.parent.name}/{path.name}"
    content = read_verified(path, sha256)
    try:
        with torch.serialization.safe_globals(_HARMLESS):
            found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as exc:
        if named := re.search(r"GLOBAL (\S+)", str(exc)):
            raise UnsafeWeights(place, f"asks for {named[1]} when it is read: it was not executed") from exc
        raise InvalidWeights(place, f"is no checkpoint: {_first(exc)}") from exc
    except (RuntimeError, EOFError, KeyError, ValueError, AttributeError, IndexError, TypeError) as exc:
        if ran_out_of_memory(exc):
            raise
        raise InvalidWeights(place, f"is damaged or no checkpoint: {_first(exc)}") from exc
    return _checkpoint(place, found)


def _checkpoint(place: str, found: Any) -> Checkpoint:
    """The parts of a loaded checkpoint, each of the kind it must be."""
    try:
        weights, trainer = found["network_weights"], found["trainer_name"]
        configuration = found["init_args"]["configuration"]
        axes = found.get("inference_allowed_mirroring_axes") or ()
    except (KeyError, TypeError, AttributeError) as exc:
        raise InvalidWeights(place, f"is no checkpoint of nnU-Net v2: {_first(exc)}") from exc
    tensors = isinstance(weights, dict) and all(isinstance(each, torch.Tensor) for each in weights.values())
    if not tensors or not isinstance(trainer, str) or not isinstance(configuration, str):
        raise InvalidWeights(place, "is no checkpoint of nnU-Net v2: weights, trainer or configuration is missing")
    return Checkpoint(weights, trainer, configuration, tuple(int(axis) for axis in axes))


def _first(exc: Exception) -> str:
    """First line of what a library says, for a one-line message."""
    return (str(exc).strip().splitlines() or [type(exc).__name__])[0][:200]
