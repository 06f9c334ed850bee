"""The card of a network that finds opacities: that of the network itself, read as one of lungs and what is in them.

``covid-opacity:FOLDER`` names a trained nnU-Net v2 folder or a MONAI bundle, with the ``card.yaml`` that it needs as
``nnunet:FOLDER`` or ``monai:FOLDER``. Its segments are named by labels of RICORD, as there or as class names
(``Infectious opacity`` or ``infectious_opacity``), some of them or all; beside them, if the network finds the lungs
too, ``lung_right`` and ``lung_left``. Their codes are RICORD's, whatever the card says.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from .. import codes, monai_card
from ..card_file import InvalidCard
from ..model import ModelCard
from ..nnunet import card as nnunet_card
from ..segmentation import Segment
from .vocabulary import FINDINGS, Finding, class_name

FAMILY = "covid-opacity"
LUNGS = ("lung_right", "lung_left")
"""Class names of lungs, in the order of their segment numbers."""
RICORD = (
    "Tsai EB, et al. The RSNA International COVID-19 Open Radiology Database (RICORD). Radiology 2021;299:E204-E213. "
    "doi:10.1148/radiol.2021203957 (the labels)"
)
_SIDES = (
    ("right", "Right Lung", codes.RIGHT, (172, 138, 115)),
    ("left", "Left Lung", codes.LEFT, (202, 164, 140)),
)


@dataclass(frozen=True, slots=True)
class Classes:
    """What the segments of a network stand for, by their numbers.

    Attributes
    ----------
    lungs : tuple of int
        Right and left; empty for a network that does not find lungs.
    findings : tuple of (int, Finding)
        In RICORD's order.
    """

    lungs: tuple[int, ...]
    findings: tuple[tuple[int, Finding], ...]


def card(folder: Path) -> ModelCard:
    """The card of the network in a folder, under the name ``covid-opacity:<name on it>``.

    Raises
    ------
    InvalidCard
        If there is none, or a segment is neither one of RICORD's labels nor a lung.
    """
    network = network_card(folder)
    classes = classes_of(network)
    whose = "its own lungs" if classes.lungs else "the lungs of covid-opacity-hu"
    return replace(
        network,
        name=f"{FAMILY}:{network.name.partition(':')[2]}",
        description=f"Opacities by {network.name}, inside {whose}, each in RICORD's words and by side.",
        segments=_segments(classes),
        citations=(*network.citations, RICORD),
        place=network.place,
    )


def network_card(folder: Path) -> ModelCard:
    """The card of the network itself."""
    read = nnunet_card.card if (folder / nnunet_card.PLANS).is_file() else monai_card.card
    return read(folder)


def is_nnunet(network: ModelCard) -> bool:
    """Whether the network is an nnU-Net; else it is a MONAI bundle."""
    return network.name.startswith(f"{nnunet_card.FAMILY}:")


def classes_of(network: ModelCard) -> Classes:
    """What the segments of a network stand for.

    Raises
    ------
    InvalidCard
        If one is neither one of RICORD's labels nor a lung, one lung is there without the other, or there is no label.
    """
    numbers = {class_name(segment.name): segment.number for segment in network.segments}
    lungs = tuple(numbers.pop(name) for name in LUNGS if name in numbers)
    findings = tuple((numbers.pop(each.name), each) for each in FINDINGS if each.name in numbers)
    if numbers:
        known = ", ".join((*(each.name for each in FINDINGS), *LUNGS))
        raise InvalidCard("card.yaml", "segments", f"{min(numbers)} is none of {known}")
    if len(lungs) == 1:
        raise InvalidCard("card.yaml", "segments", f"{' and '.join(LUNGS)} are needed, both or neither")
    if not findings:
        raise InvalidCard("card.yaml", "segments", "no label of RICORD is there")
    return Classes(lungs, findings)


def segment_number(finding: int, side: int) -> int:
    """Segment Number of a finding, counted from 0 among those of the network, on the right (0) or left (1)."""
    return 1 + len(LUNGS) + len(_SIDES) * finding + side


def _segments(classes: Classes) -> tuple[Segment, ...]:
    """Both lungs, each containing its opacities; then each opacity, right and left."""
    segments = []
    for side, (name, label, laterality, color) in enumerate(_SIDES):
        inner = tuple(segment_number(place, side) for place in range(len(classes.findings)))
        lung = Segment(
            side + 1, label, f"lung_{name}", codes.ANATOMICAL_STRUCTURE, codes.LUNG, color, laterality, contains=inner
        )
        segments.append(lung)
    for place, (_, finding) in enumerate(classes.findings):
        for side, (name, label, laterality, _) in enumerate(_SIDES):
            segments.append(
                Segment(
                    number=segment_number(place, side),
                    label=f"{finding.label} of {label}",
                    name=f"{finding.name}_{name}",
                    category=codes.MORPHOLOGICALLY_ABNORMAL_STRUCTURE,
                    type=finding.code,
                    color=finding.color,
                    laterality=laterality,
                    anatomic_region=codes.LUNG,
                )
            )
    return tuple(segments)
