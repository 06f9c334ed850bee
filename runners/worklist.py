"""Which workitems the series of an archive make."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from .. import Error
from ..enrich.archives.archive import Archive, RefusedObject
from ..models.model import ModelCard
from ..models.parameters import check_numbers
from .workitem import Workitem

NO_IMAGES = frozenset({"SEG", "SR", "PR", "KO", "RTSTRUCT", "RTPLAN", "RTDOSE", "REG", "RWV", "DOC", "ANN", "PLAN"})
"""Modalities (PS3.3 C.7.3.1.1.1) of objects that refer to images and are none: passed over."""


class UnknownParameter(Error):
    """A parameter that the model's card does not declare."""

    code = "UNKNOWN_PARAMETER"

    def __init__(self, model: str, name: str, known: tuple[str, ...]) -> None:
        super().__init__(model, name, known)

    def __str__(self) -> str:
        model, name, known = self.args
        return f"{model} has no parameter {name!r}; it has {', '.join(known) or 'none'}"


class LabelmapCannotOverlap(Error):
    """LABELMAP was asked of a model whose segments share voxels."""

    code = "OVERLAPPING_SEGMENTS"

    def __init__(self, model: str) -> None:
        super().__init__(model)

    def __str__(self) -> str:
        return (
            f"{self.args[0]} has segments that share voxels, which a label map cannot hold "
            "(PS3.3 C.8.20.2.3.3); use --seg binary"
        )


class DoubledModel(Error):
    """Two models of one run that are called the same, whose results nobody could tell apart."""

    code = "DOUBLED_MODEL"

    def __init__(self, name: str, first: str, second: str) -> None:
        super().__init__(name, first, second)

    def __str__(self) -> str:
        name, first, second = self.args
        return f"{first} and {second} are both called {name}: give one card another name"


class LicenceNotAccepted(Error):
    """Weights whose licence forbids commercial use, and nobody said that this use is none."""

    code = "LICENCE_NOT_ACCEPTED"

    def __init__(self, model: str, licence: str) -> None:
        super().__init__(model, licence)

    def __str__(self) -> str:
        model, licence = self.args
        return (
            f"the weights of {model} are under {licence}, which forbids commercial use; "
            "run with --accept-licence if yours is none"
        )


@dataclass(frozen=True, slots=True)
class Wish:
    """One model with its parameters, and how its results are to be written."""

    card: ModelCard
    parameters: tuple[tuple[str, str], ...]
    segmentation_type: str = "BINARY"
    repair: bool = False
    features: str = ""


def wish(
    card: ModelCard, changes: Mapping[str, str], segmentation_type: str, *, repair: bool, features: str = ""
) -> Wish:
    """A checked wish: the card's parameters with the caller's changes.

    Parameters
    ----------
    features : str
        Content of a parameter file of pyradiomics; empty for the published features.

    Raises
    ------
    UnknownParameter
        If a change names no parameter of the card.
    InvalidParameter
        If a change is no number where the card has one: said before any series pays for it.
    LabelmapCannotOverlap
        If `segmentation_type` is LABELMAP and the model's segments share voxels.
    """
    for name in changes:
        if name not in card.parameters:
            raise UnknownParameter(card.name, name, tuple(card.parameters))
    check_numbers(card, changes)
    if segmentation_type == "LABELMAP" and card.overlapping:
        raise LabelmapCannotOverlap(card.name)
    parameters = tuple(sorted({**card.parameters, **changes}.items()))
    return Wish(card, parameters, segmentation_type, repair, features)


def references(wishes: tuple[Wish, ...]) -> tuple[tuple[str, str], ...]:
    """Name and catalogue reference of each model that a user brings; for `StageSettings.models`.

    Raises
    ------
    DoubledModel
        If two of them have one name.
    """
    found: dict[str, str] = {}
    for asked in wishes:
        reference = found.setdefault(asked.card.name, asked.card.reference)
        if reference != asked.card.reference:
            raise DoubledModel(asked.card.name, reference, asked.card.reference)
    return tuple((name, reference) for name, reference in found.items() if name != reference)


def check_licence(card: ModelCard, *, accepted: bool) -> None:
    """Refuse a model whose weights forbid commercial use, unless that was accepted.

    Raises
    ------
    LicenceNotAccepted
        Naming the licence.
    """
    if card.forbids_commercial_use and not accepted:
        raise LicenceNotAccepted(card.name, card.weights_licence)


def worklist(archive: Archive, wishes: tuple[Wish, ...], target: str) -> Iterator[Workitem | RefusedObject]:
    """A workitem for every series of images and every wish; and what the search refused.

    Series of another modality than the model's become workitems too: they are refused, and
    recorded, when their turn comes, before anything of them is retrieved.
    """
    for entry in archive.search():
        if isinstance(entry, RefusedObject):
            yield entry
            continue
        if entry.modality in NO_IMAGES:
            continue
        for asked in wishes:
            yield Workitem(
                study_instance_uid=entry.study_instance_uid,
                series_instance_uid=entry.series_instance_uid,
                modality=entry.modality,
                instances=entry.instances,
                bytes=entry.bytes,
                source=archive.uri,
                target=target,
                model=asked.card.name,
                model_version=asked.card.version,
                weights_sha256=asked.card.weights_sha256,
                parameters=asked.parameters,
                segmentation_type=asked.segmentation_type,
                repair=asked.repair,
                features=asked.features,
            )
