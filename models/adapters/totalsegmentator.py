"""totalsegmentator:TASK - every open task of the TotalSegmentator package, its networks kept warm.

The package (Wasserthal, Radiology AI 2023, doi:10.1148/ryai.230024) loads its networks anew for each
image and hands every intermediate image on as a NIfTI file. Here the same steps, with the same
result voxel by voxel, run on images in memory. Its `python_api` is not called: no statistics are
sent, nothing is downloaded, no environment variable is set.
"""

from __future__ import annotations

from pathlib import Path

from ..model import Model, ModelCard
from ..totalsegmentator.card import FAMILY, card_of, offered
from ..totalsegmentator.weights import check_installed, weights_folder


def names() -> tuple[str, ...]:
    """Names of the tasks that the installed package offers, each after ``totalsegmentator:``."""
    return tuple(f"{FAMILY}:{name}" for name in offered())


def card(name: str) -> ModelCard:
    """What a task declares, without loading it; `name` is one of `names()`."""
    return card_of(offered()[name.removeprefix(f"{FAMILY}:")])


def load(card: ModelCard, device: str) -> Model:
    """The task with all its networks in memory.

    Raises
    ------
    WeightsMissing
        If a network's weights are not on this machine.
    InvalidWeights, UnknownReader
        If they do not make a network that can be used.
    """
    task = offered()[card.name.removeprefix(f"{FAMILY}:")]
    check_installed(card.name, task)
    from ..totalsegmentator.model import TotalSegmentator
    from ..totalsegmentator.networks import load_networks

    return TotalSegmentator(card, task, load_networks(task, device))


def archives_folder() -> Path:
    """Where the package looks for its networks' folders."""
    return weights_folder()
