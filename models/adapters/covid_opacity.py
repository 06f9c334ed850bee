"""covid-opacity:FOLDER - the opacities that a network of the user's finds, in RICORD's words, inside each lung.

The network is an nnU-Net or a MONAI bundle; the lungs are those of covid-opacity-hu, or the network's own. Opacity
outside of both lungs is left out. Each lung contains its opacities, so that the percentage of lung involved is
measured as for covid-opacity-hu.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import highdicom as hd
import numpy as np

from ..covid_opacity.card import Classes, classes_of, is_nnunet, network_card, segment_number
from ..covid_opacity.lungs import LEFT, RIGHT, lungs_by_rules, lungs_of_network
from ..model import Model, ModelCard
from ..segmentation import Segmentation


class CovidOpacity:
    """A network, loaded, whose findings are put into the lungs."""

    def __init__(self, card: ModelCard, network: Model, classes: Classes) -> None:
        self._card, self._network, self._classes = card, network, classes

    @property
    def card(self) -> ModelCard:
        """What the model declares about itself."""
        return self._card

    def segment(self, volume: hd.Volume, parameters: Mapping[str, str]) -> Segmentation:
        """Lungs and opacities on the grid of `volume`; see `Model.segment`.

        Raises
        ------
        NoLung
            If the network does not find lungs, and the rules find none.
        ModelError
            As the network does.
        """
        # Rules first: a scan without lungs needs no network.
        lungs = None if self._classes.lungs else lungs_by_rules(volume, self._card.name)
        found = self._network.segment(volume, parameters)
        if lungs is None:
            lungs = lungs_of_network(found, self._classes)
        labels = lungs.aerated.copy()
        for place, (number, _) in enumerate(self._classes.findings):
            opaque = found.labelmap.array == number
            for side, lung in enumerate((RIGHT, LEFT)):
                labels[opaque & (lungs.reach == lung)] = np.uint8(segment_number(place, side))
        return Segmentation(volume.with_array(labels), self._card.segments)


def load(card: ModelCard, device: str) -> CovidOpacity:
    """The network on a device; errors as those of its own family."""
    network = network_card(Path(card.place))
    if is_nnunet(network):
        from . import nnunet as family
    else:
        from . import monai_bundle as family  # type: ignore[no-redef]
    return CovidOpacity(card, family.load(network, device), classes_of(network))
