"""Weights on this machine: carried with the package or fetched once, and checked by SHA-256 before every use."""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache
from pathlib import Path

from .model import ModelCard, ModelError, Weights

STORE_VARIABLE = "VOXFLEET_WEIGHTS"
"""Environment variable that names the store's folder."""

CARRIED = Path(__file__).parent / "data"
"""Folder of the weights that are small enough to travel with the package: ``<model>/<file>``."""


class WeightsMissing(ModelError):
    """Weights that are not on this machine; says what fetches them."""

    code = "WEIGHTS_MISSING"


class WrongHash(ModelError):
    """A file whose SHA-256 is not the one that the model's card gives."""

    code = "WRONG_HASH"


class InvalidWeights(ModelError):
    """Weights that are truncated, or not those of the network they stand beside."""

    code = "INVALID_WEIGHTS"


class UnsafeWeights(ModelError):
    """A file that asks for code to be run while it is read; none was."""

    code = "UNSAFE_WEIGHTS"


def store_folder() -> Path:
    """Folder of fetched weights: ``$VOXFLEET_WEIGHTS``, or ``voxfleet/weights`` in the user's cache."""
    if folder := os.environ.get(STORE_VARIABLE):
        return Path(folder)
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "voxfleet" / "weights"


def place_of(weights: Weights) -> Path:
    """Where the store keeps a file: in a folder named by its SHA-256, so that no two versions meet."""
    return store_folder() / weights.sha256 / weights.file


def located(card: ModelCard) -> tuple[Path, ...]:
    """Every weights file of a model, in the order of the card; only looked for, not read.

    Raises
    ------
    WeightsMissing
        Names the first file that is not there and the command that fetches it.
    """
    return tuple(_located(card, weights) for weights in card.weights)


def verified(card: ModelCard) -> tuple[Path, ...]:
    """Every weights file of a model, in the order of the card, each with the SHA-256 that the card gives.

    Raises
    ------
    WeightsMissing, WrongHash
        Naming the file.
    """
    paths = located(card)
    for weights, path in zip(card.weights, paths, strict=True):
        check_hash(card.name, path, weights.sha256)
    return paths


def check_hash(model: str, path: Path, sha256: str) -> None:
    """Refuse a file that is not the one meant.

    Raises
    ------
    WeightsMissing, WrongHash
        If the file is not there; if it holds something else.
    """
    try:
        found = sha256_of(path)
    except OSError as exc:
        raise WeightsMissing(model, f"{path} is not there") from exc
    if found != sha256:
        raise WrongHash(model, f"{path} has SHA-256 {found}, the card says {sha256}: it is not used")


def _located(card: ModelCard, weights: Weights) -> Path:
    carried = CARRIED / card.name / weights.file
    if carried.is_file():
        return carried
    path = place_of(weights)
    if not path.is_file():
        reason = f"weights {weights.file} are not in {store_folder()}; run: voxfleet models fetch {card.reference}"
        raise WeightsMissing(card.name, reason)
    return path


def sha256_of(path: Path) -> str:
    """SHA-256 of a file as it is now, read once for as long as it does not change; OSError where it is not there."""
    status = path.stat()
    return _sha256_of(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=256)
def _sha256_of(path: Path, size: int, mtime_ns: int) -> str:  # noqa: ARG001 - a changed file is another key
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
