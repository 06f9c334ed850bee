"""TotalSegmentator's weights where the package keeps them, and their digests.

The layout is the package's own: ``DatasetNNN_name/trainer__plans__configuration/fold_N/checkpoint_final.pth``
under ``$TOTALSEG_WEIGHTS_PATH``, or ``$TOTALSEG_HOME_DIR/nnunet/results``, or ``~/.totalsegmentator/nnunet/results``
(its `config.get_weights_dir`). Nothing is downloaded here.
"""

from __future__ import annotations

import os
from pathlib import Path

from ..model import Weights
from ..weights import WeightsMissing, sha256_of
from .tasks import Network, Task

CHECKPOINT = "checkpoint_final.pth"
NOT_INSTALLED = "not-installed"
"""Stands for the SHA-256 of weights that are not on this machine."""


def weights_folder() -> Path:
    """Folder that holds the networks' folders."""
    if folder := os.environ.get("TOTALSEG_WEIGHTS_PATH"):
        return Path(folder)
    if home := os.environ.get("TOTALSEG_HOME_DIR"):
        return Path(home) / "nnunet" / "results"
    return Path.home() / ".totalsegmentator" / "nnunet" / "results"


def model_folder(network: Network) -> Path:
    """Folder with a network's ``plans.json``, ``dataset.json`` and folds."""
    return weights_folder() / network.dataset / network.model


def checkpoints_of(network: Network) -> tuple[str, ...]:
    """Files of the folds whose mean is taken, in the network's folder: those of the task, or all that are there."""
    if network.folds is not None:
        return tuple(f"fold_{fold}/{CHECKPOINT}" for fold in network.folds)
    folder = model_folder(network)
    return tuple(sorted(path.relative_to(folder).as_posix() for path in folder.glob(f"fold_[0-9]*/{CHECKPOINT}")))


def check_installed(name: str, task: Task) -> None:
    """Refuse a task whose weights are not all there.

    Raises
    ------
    WeightsMissing
        Names the command that brings them, the archives it takes, and the folder looked for.
    """
    missing = [each for each in task.networks if not _is_installed(each)]
    if missing:
        archives = " and ".join(network.url for network in missing)
        raise WeightsMissing(
            name,
            f"no weights in {model_folder(missing[0])}; run: voxfleet models fetch {name} (it unpacks {archives} in "
            f"{weights_folder()}), or let TOTALSEG_WEIGHTS_PATH name the folder that holds {missing[0].dataset}",
        )


def weights_of(task: Task) -> tuple[Weights, ...]:
    """Every file that the task's result depends on, with the digest of what is on this machine."""
    return tuple(
        Weights(f"{network.url}#{path.relative_to(weights_folder()).as_posix()}", _digest(path))
        for network in task.networks
        for path in _files(network)
    )


def _is_installed(network: Network) -> bool:
    return bool(checkpoints_of(network)) and all(path.is_file() for path in _files(network))


def _files(network: Network) -> tuple[Path, ...]:
    folder = model_folder(network)
    return tuple(folder / file for file in ("plans.json", "dataset.json", *checkpoints_of(network)))


def _digest(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError:
        return NOT_INSTALLED
