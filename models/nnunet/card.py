"""The card of a trained nnU-Net v2 folder: ``card.yaml`` beside its ``plans.json`` and ``dataset.json``.

The schema is that of every card. The card's weights are the checkpoints that are loaded, by their path in the
folder, each with its SHA-256; ``plans.json`` and ``dataset.json`` may be pinned in the same way::

    weights:
      - {url: fold_0/checkpoint_final.pth, sha256: ...}

A segment's ``name`` is the name that ``dataset.json`` gives to a label or region. Parameters, each with its default:

``folds: all``
    Or some of those that are loaded, e.g. ``0,1``.
``mirroring: yes``
    The mean over the mirrorings that the training allows, or ``no``.
``step_size: 0.5``
    Distance of tiles as a part of their size.
``smaller_tiles: no``
    ``yes`` lets a GPU whose memory does not suffice try smaller tiles, which changes the result a little.
``orientation``
    Directions of the axes i, j, k that the training images had, as in NIfTI tools: ``LPS``, ``RAS``, ``LAS`` (what
    dcm2niix writes), or ``stored`` for the axes of the series as it comes, which is the default, and right where
    SimpleITK converted axial DICOM series. For nnU-Net's reorienting readers it is ``RAS``, and cannot be changed.
``network: trainer``
    The network is the one that nnU-Net's trainer class builds; ``plans`` for a trainer that nnU-Net does not ship
    and that takes the network of the plans.
``precision: default``, ``compile: no``, ``batch: 1``
    See `speed`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from .. import speed
from ..card_file import InvalidCard, read_card
from ..model import ModelCard

FAMILY = "nnunet"
CARD, DATASET, PLANS = "card.yaml", "dataset.json", "plans.json"
CHECKPOINT_SUFFIX = ".pth"
REPRODUCIBILITY = (
    "On the CPU the same volume gives the same bits, whatever was segmented before (tested). On a GPU cuDNN is "
    "held to fixed algorithms, for the same bits on the same device; that was not measured."
)
STORED = "stored"
"""Orientation: the axes of the series as they are."""

_DEFAULTS = {
    "folds": "all",
    "mirroring": "yes",
    "network": "trainer",
    "orientation": STORED,
    "smaller_tiles": "no",
    "step_size": "0.5",
    **speed.DEFAULTS,
}


@dataclass(frozen=True, slots=True)
class Label:
    """One label or region of ``dataset.json``.

    Attributes
    ----------
    name : str
        As written there.
    value : int
        Its value in nnU-Net's label maps.
    parts : frozenset of int
        Labels that it is made of; one, but for regions.
    """

    name: str
    value: int
    parts: frozenset[int]


def card(folder: Path) -> ModelCard:
    """The card of a trained folder, under the name ``nnunet:<name on it>``, with all parameters.

    Raises
    ------
    InvalidCard
        If there is none, or it does not fit ``dataset.json`` and ``plans.json``.
    """
    root = folder.resolve()
    found = read_card(root / CARD)
    labels = labels_of(_json(root / DATASET))
    _check_segments(found, labels)
    _check_weights(found)
    unknown = set(found.parameters) - set(_DEFAULTS)
    if unknown:
        raise InvalidCard(CARD, f"parameters.{min(unknown)}", f"unknown; known are {', '.join(_DEFAULTS)}")
    parameters = {**_DEFAULTS, **found.parameters}
    if "Reorient" in str(_json(root / PLANS).get("image_reader_writer")):
        if found.parameters.get("orientation", "RAS") != "RAS":
            raise InvalidCard(CARD, "parameters.orientation", "RAS is what this network's reader turns images to")
        parameters["orientation"] = "RAS"
    name, said = f"{FAMILY}:{found.name}", found.reproducibility or REPRODUCIBILITY
    return replace(found, name=name, parameters=parameters, place=str(root), reproducibility=said)


def labels_of(dataset: Mapping[str, Any]) -> tuple[Label, ...]:
    """Labels or regions of a ``dataset.json``, in its order; without background and ignored voxels.

    Raises
    ------
    InvalidCard
        If there are none, or regions without an order.
    """
    written = dataset.get("labels")
    if not isinstance(written, dict):
        raise InvalidCard(DATASET, "labels", "a mapping of names to values is needed")
    parts = {
        str(name): frozenset(map(int, value if isinstance(value, list) else [value]))
        for name, value in written.items()
        if name != "ignore"
    }
    parts = {name: values for name, values in parts.items() if values != {0}}
    if all(len(values) == 1 for values in parts.values()):
        return tuple(Label(name, min(values), values) for name, values in parts.items())
    order = dataset.get("regions_class_order")
    if not isinstance(order, list) or len(order) != len(parts):
        raise InvalidCard(DATASET, "regions_class_order", f"{len(parts)} values are needed, one for each region")
    return tuple(Label(name, int(value), values) for (name, values), value in zip(parts.items(), order, strict=True))


def _check_segments(found: ModelCard, labels: tuple[Label, ...]) -> None:
    """Refuse segments that are not the labels; and regions whose inner ones are not said to be contained."""
    by_name = {label.name: label for label in labels}
    numbers = {segment.name: segment.number for segment in found.segments}
    if set(numbers) != set(by_name) or len(numbers) != len(found.segments):
        differing = ", ".join(sorted(set(numbers) ^ set(by_name))) or "a name stands twice"
        raise InvalidCard(CARD, "segments", f"names are not the labels of {DATASET}: {differing}")
    for segment in found.segments:
        parts = by_name[segment.name].parts
        inner = sorted(numbers[label.name] for label in labels if label.parts < parts)
        if sorted(segment.contains) != inner:
            key = f"segments[{segment.number - 1}].contains"
            raise InvalidCard(CARD, key, f"by its regions in {DATASET}, {segment.name} contains {inner}")


def _check_weights(found: ModelCard) -> None:
    paths = [PurePosixPath(weights.url) for weights in found.weights]
    if not any(path.suffix == CHECKPOINT_SUFFIX for path in paths):
        raise InvalidCard(CARD, "weights", "no checkpoint, such as fold_0/checkpoint_final.pth, is named")
    folds = [path.parent.name for path in paths if path.suffix == CHECKPOINT_SUFFIX]
    if len(set(folds)) < len(folds):
        raise InvalidCard(CARD, "weights", f"one checkpoint of a fold is needed: {', '.join(sorted(folds))} are named")
    for number, path in enumerate(paths):
        if path.is_absolute() or ".." in path.parts:
            raise InvalidCard(CARD, f"weights[{number}].url", f"{path} lies outside the folder")


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as exc:
        raise InvalidCard(path.name, "", f"cannot be read: {exc}") from exc
    if not isinstance(content, dict):
        raise InvalidCard(path.name, "", "is no JSON object")
    return content
