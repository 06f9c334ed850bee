"""nnunet: any trained nnU-Net v2 folder, named ``nnunet:<folder>``, with a card beside it; see `nnunet_card`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import highdicom as hd
import numpy as np
from numpy.typing import NDArray

from ..model import ModelCard
from ..nnunet.card import DATASET, STORED, labels_of
from ..nnunet.network import Inference, TrainedNetwork, load_network
from ..parameters import InvalidParameter
from ..segmentation import Segmentation
from ..speed import speed_of
from ..volume_check import check_values

LARGEST_UINT8 = 255


class NnunetModel:
    """A network that is loaded, with what its label values stand for."""

    def __init__(self, card: ModelCard, network: TrainedNetwork, numbers: NDArray[np.uint8] | NDArray[np.uint16]):
        self._card, self._network, self._numbers = card, network, numbers

    @property
    def card(self) -> ModelCard:
        """What the model declares about itself."""
        return self._card

    def segment(self, volume: hd.Volume, parameters: Mapping[str, str]) -> Segmentation:
        """Segmentation on the grid of `volume`, equal to what ``nnUNetv2_predict`` gives; see `Model.segment`.

        Raises
        ------
        InvalidParameter, InvalidVolume
            If a parameter is unknown or has no such value; if the volume is empty, constant, or not finite.
        OutOfMemory, InvalidLogits
            If memory does not suffice; if the network gives values that are not finite.
        """
        asked = _asked(self._card, parameters)
        inference = _inference(self._card, asked, tuple(self._network.folds))
        turned = _turned(volume, asked["orientation"], self._card.name)
        check_values(turned, self._card.name)
        found = self._network.labels(turned.array[np.newaxis], turned.spacing, inference)
        labels = turned.with_array(self._numbers[found])
        back = labels.to_patient_orientation(volume.get_closest_patient_orientation())
        return Segmentation(volume.with_array(np.ascontiguousarray(back.array)), self._card.segments)


def load(card: ModelCard, device: str) -> NnunetModel:
    """The network of a card that `nnunet_card.card` gave, on a device.

    Raises
    ------
    InvalidWeights, WeightsMissing, WrongHash, UnsafeWeights
        If a file is missing, is not the one that the card pins, or is no network.
    """
    folder = Path(card.place)
    pinned = {weights.url: weights.sha256 for weights in card.weights}
    network = load_network(folder, pinned, device, None if card.parameters["network"] == "plans" else ())
    labels = {label.name: label.value for label in labels_of(json.loads((folder / DATASET).read_bytes()))}
    size = max(labels.values()) + 1
    small = len(card.segments) <= LARGEST_UINT8
    numbers = np.zeros(size, np.uint8) if small else np.zeros(size, np.uint16)
    for segment in card.segments:
        numbers[labels[segment.name]] = segment.number
    return NnunetModel(card, network, numbers)


def _asked(card: ModelCard, parameters: Mapping[str, str]) -> dict[str, str]:
    """The card's parameters with the caller's changes."""
    for name, value in parameters.items():
        if name not in card.parameters:
            raise InvalidParameter(card.name, f"no parameter {name!r}; known are {', '.join(card.parameters)}")
        if name == "network" and value != card.parameters[name]:
            raise InvalidParameter(card.name, "parameter network is the card's, and cannot be changed")
    return {**card.parameters, **parameters}


def _inference(card: ModelCard, asked: Mapping[str, str], loaded: tuple[str, ...]) -> Inference:
    folds = () if asked["folds"] == "all" else tuple(fold.strip() for fold in asked["folds"].split(","))
    if not set(folds) <= set(loaded) or len(set(folds)) != len(folds):
        raise InvalidParameter(card.name, f"parameter folds: {asked['folds']!r}; loaded are {', '.join(loaded)}")
    try:
        step_size = float(asked["step_size"])
    except ValueError:
        step_size = 0.0
    if not 0 < step_size <= 1:
        raise InvalidParameter(card.name, f"parameter step_size: {asked['step_size']!r} is not in (0, 1]")
    mirroring, smaller_tiles = (_yes(card, asked, name) for name in ("mirroring", "smaller_tiles"))
    return Inference(folds, mirroring, step_size, smaller_tiles, speed_of(card, asked))


def _yes(card: ModelCard, asked: Mapping[str, str], name: str) -> bool:
    if asked[name] not in ("yes", "no"):
        raise InvalidParameter(card.name, f"parameter {name}: {asked[name]!r} is neither yes nor no")
    return asked[name] == "yes"


def _turned(volume: hd.Volume, orientation: str, model: str) -> hd.Volume:
    """The volume with its axes i, j, k towards the letters of `orientation`."""
    if orientation == STORED:
        return volume
    # NIfTI tools name axes i, j, k and say S(uperior), I(nferior); highdicom's are k, j, i, with H(ead), F(eet).
    letters = orientation[::-1].replace("S", "H").replace("I", "F")
    try:
        return volume.to_patient_orientation(letters)
    except ValueError as exc:
        reason = f"parameter orientation: {orientation!r} is neither {STORED} nor three directions such as RAS"
        raise InvalidParameter(model, reason) from exc
