"""meshnet-gwm: grey and white matter of a T1-weighted MR by brainchop's small MeshNet.

The volume is conformed to 256 voxels of 1 mm along each axis, as brainchop does, and scaled to mean 0 and standard
deviation 1 over all of that grid, as its authors did in training (neuroneural's ``DataLoaderClass``; the running
statistics in the weights' own normalisation layers agree). Then brainchop's default postprocessing: of all that is
grey or white, the largest piece that hangs together.

MeshNet: Fedorov et al., End-to-end learning of brain tissue segmentation from imperfect labeling, IJCNN 2017.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

import cc3d
import highdicom as hd
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..conform import conform, restore
from ..model import ModelCard
from ..parameters import numbers
from ..reproducible import fixed_algorithms
from ..segmentation import Segmentation
from ..state_dict import load_into, read_state_dict
from ..volume_check import finite_values
from ..weights import verified

DILATIONS = (1, 2, 4, 8, 16, 8, 4, 2, 1)
"""Of the convolutions of brainchop's model5_gw_ae; a last one of kernel 1 gives the classes."""

CHANNELS, CLASSES = 5, 3
"""Of each convolution; background, white matter, grey matter."""


class MeshnetGwm:
    """The loaded network.

    Parameters
    ----------
    device : str
        ``cpu``, ``cuda:0``, ...
    """

    def __init__(self, card: ModelCard, network: nn.Module, device: str) -> None:
        self._card = card
        self._network = network
        self._device = device

    @property
    def card(self) -> ModelCard:
        """What the model declares about itself."""
        return self._card

    def segment(self, volume: hd.Volume, parameters: Mapping[str, str]) -> Segmentation:
        """White and grey matter on the grid of `volume`; see `Model.segment`.

        Raises
        ------
        InvalidParameter, InvalidVolume
            If a parameter is given (there are none); if the volume is empty, constant or not finite.
        """
        numbers(self._card, parameters)
        values = conform(volume.with_array(finite_values(volume, self._card.name)))
        values -= values.mean()
        values /= values.std()
        labels = largest_piece(self.classes(values))
        return Segmentation(restore(labels, volume), self._card.segments)

    def classes(self, values: NDArray[np.float32]) -> NDArray[np.uint8]:
        """The likeliest class of each voxel, for values as the network wants them."""
        with torch.inference_mode(), fixed_algorithms():
            batch = torch.from_numpy(values).to(self._device)[None, None]
            classes: NDArray[np.uint8] = self._network(batch)[0].argmax(0).to(torch.uint8).cpu().numpy()
        return classes


def load(card: ModelCard, device: str) -> MeshnetGwm:
    """The model on a device.

    Raises
    ------
    WeightsMissing, WrongHash, InvalidWeights
        If the weights are not the ones that the card names.
    """
    (path,) = verified(card)
    network = meshnet()
    load_into(card.name, network, read_state_dict(card.name, path, "cpu"), path)
    return MeshnetGwm(card, network.eval().to(device), device)


def meshnet() -> nn.Sequential:
    """The network with weights yet to be loaded; its parameters have the names of the published file."""
    layers: list[nn.Module] = []
    channels = 1
    for dilation in DILATIONS:
        layers.append(
            nn.Sequential(
                OrderedDict(
                    conv=nn.Conv3d(channels, CHANNELS, 3, padding=dilation, dilation=dilation),
                    bnorm=nn.BatchNorm3d(CHANNELS),
                    relu=nn.ReLU(inplace=True),
                )
            )
        )
        channels = CHANNELS
    layers.append(nn.Conv3d(CHANNELS, CLASSES, 1))
    return nn.Sequential(OrderedDict(model=nn.Sequential(*layers)))


def largest_piece(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Labels with all but the largest 26-connected piece set to 0, whatever the labels in it."""
    piece = np.asarray(cc3d.largest_k(labels > 0, k=1, connectivity=26), dtype=np.bool_)
    return labels * piece
