"""The card of a MONAI bundle: ``card.yaml`` in its folder, whose weights are the bundle's own files.

A bundle is a program: its configuration names classes and holds Python expressions. So the card pins, by SHA-256,
the configuration that is run and the network's file; ``url`` is the path within the bundle::

    weights:
      - {url: configs/inference.json, sha256: ...}
      - {url: models/model.pt, sha256: ...}
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from .card_file import InvalidCard, read_card
from .model import ModelCard
from .weights import check_hash

FAMILY = "monai"
CARD = "card.yaml"
CONFIG_ENDINGS = (".json", ".yaml", ".yml")
TORCHSCRIPT_ENDINGS = (".ts", ".torchscript")
STATE_ENDINGS = (".pt", ".pth")

REPRODUCIBILITY = (
    "On the CPU network and sliding window give the same volume the same bits (tested with MONAI's own parts); what "
    "other code of a bundle does is not known. On a GPU cuDNN is held to fixed algorithms; that was not measured."
)


@dataclass(frozen=True, slots=True)
class BundleFiles:
    """The files of a bundle that its card pins.

    Attributes
    ----------
    root : Path
        The bundle's folder.
    config : Path
        The inference configuration.
    network : Path
        TorchScript, or a state dict.
    """

    root: Path
    config: Path
    network: Path

    @property
    def is_torchscript(self) -> bool:
        """Whether the network's file holds its structure too."""
        return self.network.suffix in TORCHSCRIPT_ENDINGS


def card(folder: Path) -> ModelCard:
    """The card of the bundle in a folder, under the name ``monai:<name on it>``.

    Raises
    ------
    InvalidCard
        If there is none, or it does not name one configuration and one file of weights.
    """
    root = folder.resolve()
    found = read_card(root / CARD)
    _one(found, root, CONFIG_ENDINGS, "inference configuration")
    _one(found, root, (*TORCHSCRIPT_ENDINGS, *STATE_ENDINGS), "file of weights")
    said = found.reproducibility or REPRODUCIBILITY
    return replace(found, name=f"{FAMILY}:{found.name}", place=str(root), reproducibility=said)


def verified_files(card: ModelCard) -> BundleFiles:
    """The bundle's files, each with the SHA-256 that its card gives.

    Raises
    ------
    WeightsMissing, WrongHash
        Naming the file.
    """
    root = Path(card.place)
    for weights in card.weights:
        check_hash(card.name, root / weights.url, weights.sha256)
    return BundleFiles(
        root=root,
        config=_one(card, root, CONFIG_ENDINGS, "inference configuration"),
        network=_one(card, root, (*TORCHSCRIPT_ENDINGS, *STATE_ENDINGS), "file of weights"),
    )


def _one(card: ModelCard, root: Path, endings: tuple[str, ...], what: str) -> Path:
    """The one pinned file of a kind, within the bundle."""
    paths = [root / weights.url for weights in card.weights if weights.url.endswith(endings)]
    if len(paths) != 1:
        raise InvalidCard(CARD, "weights", f"{len(paths)} entries end in {' or '.join(endings)}: one {what} is needed")
    if not paths[0].resolve().is_relative_to(root):
        raise InvalidCard(CARD, "weights", f"{paths[0]} lies outside the bundle")
    return paths[0]
