"""Whether a faster way of computing leaves a model's result as it is: Dice on a made-up volume.

A precision, a compilation or a batch (`models.speed`) is a parameter like any other, and goes into provenance. Before a
worker uses one, it segments the volume below in the usual way and in the asked one; if a structure differs by more
than a thousandth, every series that asks for it fails with NOT_FAITHFUL. ``voxfleet models check`` shows the figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import highdicom as hd
import numpy as np

from .. import Error
from ..enrich.phantom import chest_phantom
from ..models.model import Model, ModelCard
from ..models.speed import DEFAULTS, without_speed

LEAST_DICE = 0.999
"""Of every structure that is found in either way."""
PHANTOM_SEED = 1


class NotFaithful(Error):
    """A faster way of computing that changes the result, or could not be judged."""

    code = "NOT_FAITHFUL"

    def __init__(self, model: str, reason: str) -> None:
        super().__init__(model, reason)

    def __str__(self) -> str:
        return f"{self.args[0]}: {self.args[1]}; leave out precision, compile and batch"


@dataclass(frozen=True, slots=True)
class Fidelity:
    """Dice of each structure found by the usual or by the faster way, by name; 0 where only one of them found it."""

    dice: Mapping[str, float]

    @property
    def passed(self) -> bool:
        """Whether there was something to find, and all of it is the same to `LEAST_DICE`."""
        return bool(self.dice) and min(self.dice.values()) >= LEAST_DICE

    def judge(self, model: str) -> None:
        """Raise NotFaithful unless it passed."""
        if not self.dice:
            raise NotFaithful(model, "nothing is found in the volume that a faster way is checked on")
        name, least = min(self.dice.items(), key=lambda item: item[1])
        if not self.passed:
            raise NotFaithful(model, f"{name} has Dice {least:.5f} against the usual way; {LEAST_DICE} is needed")


def speed_changes(card: ModelCard, parameters: Mapping[str, str]) -> dict[str, str]:
    """Those of the parameters that make a model faster, and are not the card's own."""
    return {
        name: value
        for name, value in parameters.items()
        if name in DEFAULTS and value != card.parameters.get(name, value)
    }


def check_fidelity(model: Model, parameters: Mapping[str, str]) -> Fidelity:
    """The asked way against the usual one, on `sample_volume`."""
    volume = sample_volume(model.card)
    usual, asked = (model.segment(volume, each) for each in (without_speed(model.card, parameters), parameters))
    found = {}
    for segment in model.card.segments:
        a, b = usual.mask(segment.number), asked.mask(segment.number)
        if size := np.count_nonzero(a) + np.count_nonzero(b):
            found[segment.name] = float(2 * np.count_nonzero(a & b) / size)
    return Fidelity(found)


def sample_volume(card: ModelCard) -> hd.Volume:
    """A made-up volume of the model's modality: the chest phantom for CT, bright shells in a dark box for others."""
    if "CT" in card.modality:
        return chest_phantom(seed=PHANTOM_SEED).volume
    shape, spacing_mm = (48, 64, 64), (4.0, 4.0, 4.0)
    distances = np.ogrid[tuple(slice(-1.0, 1.0, size * 1j) for size in shape)]
    radius = np.sqrt(sum(axis**2 for axis in distances)) / 0.8
    array = np.select([radius < 0.5, radius < 0.9, radius < 1.0], [900, 600, 200], 0).astype(np.int16)  # noqa: PLR2004
    affine = np.zeros((4, 4))
    for row, axis in enumerate((2, 1, 0)):
        affine[row, axis] = spacing_mm[axis]
    affine[3, 3] = 1.0
    return hd.Volume(array, affine, "PATIENT")
