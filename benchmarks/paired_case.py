"""A series read and paired: for each structure what every reader marked and every model found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .. import Error
from ..enrich.series import SourceImage
from .agreement import LEAST_READERS, consensus
from .case import Candidate, CaseRequest, ClaimedFile, Problem
from .crosswalk import Concept, Crosswalk, concept_of, load_crosswalk
from .mask_pair import Grid
from .pairing import NothingPaired, Pair, Pairing, Part, outlined, pair_structures
from .readings import Expert, read_experts, read_prediction
from .references.packed_mask import PackedMask
from .references.reference import Annotation, Structure


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What one model found on a series; without annotation, why there is none."""

    candidate: Candidate
    annotation: Annotation | None
    failure: str = ""

    def structures(self, expert: Annotation) -> tuple[Structure, ...]:
        """All that the model looks for; where nobody knows, what the expert marked."""
        if self.annotation is not None:
            return outlined(self.annotation)
        return self.candidate.vocabulary or outlined(expert)


@dataclass(slots=True)
class PairedCase:
    """Both sides of one series under names that are the same on both.

    Attributes
    ----------
    readings : dict
        By reader, or what the readers agree on: masks by the structure's name.
    found : dict
        By model: masks by the structure's name; None for a model without prediction.
    pairs : dict
        By model and reader: pairs by the structure's name.
    """

    image: SourceImage
    grid: Grid
    crosswalk: Crosswalk
    experts: tuple[Expert, ...]
    claimed: tuple[ClaimedFile, ...]
    problems: list[Problem]
    predictions: list[Prediction] = field(default_factory=list)
    readings: dict[str, dict[str, PackedMask]] = field(default_factory=dict)
    found: dict[str, dict[str, PackedMask | None]] = field(default_factory=dict)
    pairs: dict[tuple[str, str], dict[str, Pair]] = field(default_factory=dict)
    pairings: dict[tuple[str, str], Pairing] = field(default_factory=dict)
    names: list[tuple[Concept, str]] = field(default_factory=list)

    def name_of(self, concept: Concept) -> str:
        """One name for one concept, however each side spells it."""
        for known, name in self.names:
            if known.is_same(concept):
                return name
        self.names.append((concept, concept.name))
        return concept.name


def pair_case(image: SourceImage, request: CaseRequest) -> PairedCase:
    """References and predictions of a series, paired; what cannot be read or paired is a problem of it."""
    experts, claimed, errors = read_experts(image, request)
    file = request.rules.crosswalk
    low, row, column = (float(step) for step in image.volume.spacing)
    case = PairedCase(
        image,
        Grid(image.volume.spatial_shape, (low, row, column)),
        load_crosswalk(_path(file)),
        experts,
        claimed,
        [Problem(each.code, str(each)) for each in errors],
    )
    if not experts:
        return case
    for candidate in request.candidates:
        prediction = _prediction(image, candidate, request)
        case.predictions.append(prediction)
        for expert in experts:
            _pair(case, prediction, expert)
    if request.rules.consensus:
        _agree(case)
    return case


def _path(file: str) -> Path | None:
    return Path(file) if file else None


def _prediction(image: SourceImage, candidate: Candidate, request: CaseRequest) -> Prediction:
    if candidate.failure:
        return Prediction(candidate, None, candidate.failure)
    try:
        return Prediction(candidate, read_prediction(image, candidate, request))
    except Error as exc:
        return Prediction(candidate, None, f"{exc.code}: {exc}")


def _pair(case: PairedCase, prediction: Prediction, expert: Expert) -> None:
    """Masks of one model and one reader, into the case."""
    model, annotation = prediction.candidate.model, expert.annotation
    if not outlined(annotation):
        return
    try:
        pairing = pair_structures(
            outlined(annotation), prediction.structures(annotation), case.crosswalk, annotation.origin.source
        )
    except NothingPaired as exc:
        case.problems.append(Problem(exc.code, str(exc), model, expert.name))
        return
    case.pairings[model, expert.name] = pairing
    named = {case.name_of(pair.concept): pair for pair in pairing.pairs}
    case.pairs[model, expert.name] = named
    found = case.found.setdefault(model, {})
    reading = case.readings.setdefault(expert.name, {})
    for name, pair in named.items():
        if name not in reading:
            reading[name] = pair.expert.mask(annotation)
        if name not in found:
            found[name] = None if prediction.annotation is None else pair.prediction.mask(prediction.annotation)


def _agree(case: PairedCase) -> None:
    """What each reader marked in own words too, and what all agree on, as further readings."""
    for expert in case.experts:
        reading = case.readings.setdefault(expert.name, {})
        for concept, part in _coded(outlined(expert.annotation)):
            name = case.name_of(concept)
            if name not in reading:
                reading[name] = part.mask(expert.annotation)
    if len(case.experts) >= LEAST_READERS:
        case.readings |= {name: dict(reading) for name, reading in consensus(case.readings).items()}


def _coded(structures: tuple[Structure, ...]) -> Iterator[tuple[Concept, Part]]:
    """Concepts of structures, each once, with all that are coded so."""
    seen: list[Concept] = []
    for structure in structures:
        concept = concept_of(structure)
        if concept is None or any(each.is_same(concept) for each in seen):
            continue
        seen.append(concept)
        alike = [each.number for each in structures if (c := concept_of(each)) is not None and c.is_same(concept)]
        yield concept, Part(tuple(alike))
