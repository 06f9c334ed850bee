"""TotalSegmentator's networks, each loaded once and kept on its device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..model import ModelError
from ..nnunet.network import Inference, TrainedNetwork, load_network
from ..speed import AS_TRAINED, Speed
from .steps import Labels
from .tasks import Network, Spacing, Task
from .weights import checkpoints_of, model_folder

OWN_TRAINERS = (
    "nnUNetTrainer_MOSAIC_1k_QuarterLR_NoMirroring",
    "nnUNetTrainerDiceTopK10Loss_2000epochs",
    "nnUNetTrainerSkeletonRecall",
)
"""Trainers of the package (nnunet.custom_trainers); none of them builds a network of its own."""

WIDE_STEP, STEP = 0.8, 0.5
WIDE_STEP_CLASS_MAPS = ("total", "total_v3", "total_mr")
"""Class maps whose tiles overlap less (nnUNet_predict_image, ``step_size``)."""

READERS = ("NibabelIOWithReorient", "NibabelIO", "SimpleITKIO", "SimpleITKIOWithReorient")
"""nnU-Net's readers that give a canonical image as (z, y, x) with its spacing, and nothing else."""


class UnknownReader(ModelError):
    """A network that was trained on images read in another way than is known here."""

    code = "UNKNOWN_READER"


class WarmNetworks:
    """All networks of a task; made by `load_networks`.

    Parameters
    ----------
    loaded : mapping of Network to TrainedNetwork
    speed : Speed
        How they compute.
    """

    def __init__(self, loaded: Mapping[Network, TrainedNetwork], speed: Speed = AS_TRAINED) -> None:
        self._loaded, self._speed = loaded, speed

    def at(self, speed: Speed) -> WarmNetworks:
        """The same networks, computing in another way."""
        return WarmNetworks(self._loaded, speed)

    def labels(self, network: Network, image: NDArray[Any], spacing_mm: Spacing, class_map: str) -> Labels:
        """Labels (x, y, z) of a canonical image; see `totalsegmentator_steps.Networks`."""
        channels = image.transpose(2, 1, 0)[np.newaxis]
        x_mm, y_mm, z_mm = spacing_mm
        step_size = WIDE_STEP if class_map in WIDE_STEP_CLASS_MAPS else STEP
        inference = Inference(mirroring=False, step_size=step_size, speed=self._speed)
        found = self._loaded[network].labels(channels, (z_mm, y_mm, x_mm), inference)
        return found.transpose(2, 1, 0).astype(np.uint8, copy=False)


def load_networks(task: Task, device: str) -> WarmNetworks:
    """All networks of a task whose weights are on this machine.

    Parameters
    ----------
    task : Task
    device : str
        ``cpu``, ``cuda``, ``cuda:1``, ...

    Raises
    ------
    InvalidWeights, UnknownReader
        If a network's files do not make a network that can be used.
    """
    return WarmNetworks({network: _load(network, device) for network in task.networks})


def _load(network: Network, device: str) -> TrainedNetwork:
    loaded = load_network(model_folder(network), dict.fromkeys(checkpoints_of(network)), device, OWN_TRAINERS)
    if loaded.reader not in READERS:
        raise UnknownReader(network.dataset, f"{loaded.reader} read its training images, which is not known here")
    return loaded
