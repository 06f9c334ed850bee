"""Structures of expert and model paired by code and side, never by name.

First what is coded alike; then what the crosswalk tells in the other's words; what has no partner is
listed with the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .. import Error
from .crosswalk import Concept, Crosswalk, Side, concept_of
from .references.coding import current, same_code
from .references.packed_mask import PackedMask, union, without
from .references.reference import Annotation, Structure

NO_CODE = "NO_CODE"
UNKNOWN_CODE = "UNKNOWN_CODE"
NO_PARTNER = "NO_PARTNER"
PARTS_MISSING = "PARTS_MISSING"
_DEPTH = 4
"""Unions within unions: a pair of lungs, a lung, a lobe, a segment."""


class NothingPaired(Error):
    """No structure of the expert has a partner in the prediction."""

    code = "NOTHING_PAIRED"
    refused = True

    def __init__(self, reference: str, unpaired: tuple[str, ...]) -> None:
        super().__init__(reference, unpaired)

    def __str__(self) -> str:
        reference, unpaired = self.args
        told = "; ".join(unpaired) or "it describes no structure"
        return f"reference {reference}: nothing has a partner: {told}"


@dataclass(frozen=True, slots=True)
class Part:
    """One side of a pair.

    Attributes
    ----------
    numbers : tuple of int
        Structures that are taken together.
    excluded : tuple of int
        Structures whose voxels are taken away.
    crosswalk : str
        Name of the entry that told it; empty where the codes are alike.
    """

    numbers: tuple[int, ...]
    excluded: tuple[int, ...] = ()
    crosswalk: str = ""

    def mask(self, annotation: Annotation) -> PackedMask:
        """Voxels of this part of an annotation (of the one whose structures were paired)."""
        whole = union(annotation.masks[number] for number in self.numbers)
        return without(whole, (annotation.masks[number] for number in self.excluded)) if self.excluded else whole


@dataclass(frozen=True, slots=True)
class Pair:
    """One structure, as the expert and the model have it."""

    concept: Concept
    expert: Part
    prediction: Part

    @property
    def name(self) -> str:
        """Of the pair, for people and tables: the same for every model."""
        return self.concept.name


@dataclass(frozen=True, slots=True)
class Unpaired:
    """A structure without partner.

    Attributes
    ----------
    side : str
        ``expert`` or ``prediction``: who marked it.
    code : str
        ``NO_CODE``, ``UNKNOWN_CODE``, ``NO_PARTNER`` or ``PARTS_MISSING``.
    """

    side: Side
    structure: Structure
    code: str
    reason: str

    def __str__(self) -> str:
        return f"{self.side} {self.structure.name}: {self.code}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Pairing:
    """All pairs, in the order of the expert's structures, and all without partner."""

    pairs: tuple[Pair, ...]
    unpaired: tuple[Unpaired, ...]


def pair_structures(
    expert: Sequence[Structure], prediction: Sequence[Structure], crosswalk: Crosswalk, reference: str = ""
) -> Pairing:
    """Pairs of structures that are the same by code and side.

    Structures of one side with one code are taken together: ten nodules are one pair, whose
    components the lesion metrics tell apart.

    Parameters
    ----------
    expert, prediction : sequence of Structure
        All that the expert marked, and all that the model can find, found or not. Of an `Annotation`
        those that have a mask: `outlined`.
    reference : str
        Named by the error.

    Raises
    ------
    NothingPaired
        If there is not one pair.
    """
    known = [concept for each in (*expert, *prediction) if (concept := concept_of(each)) is not None]
    of_expert = _Words(expert, crosswalk, "expert", known)
    of_prediction = _Words(prediction, crosswalk, "prediction", known)
    pairs: list[Pair] = []
    for concept in (*of_expert.concepts(), *of_prediction.concepts()):
        if any(pair.concept.is_same(concept) for pair in pairs):
            continue
        one, other = of_expert.tell(concept), of_prediction.tell(concept)
        if one is not None and other is not None and not _told(pairs, one, other):
            pairs.append(Pair(concept, one, other))
    unpaired = (
        *_without_partner(of_expert, of_prediction, [pair.expert for pair in pairs]),
        *_without_partner(of_prediction, of_expert, [pair.prediction for pair in pairs]),
    )
    if not pairs:
        raise NothingPaired(reference, tuple(str(each) for each in unpaired if each.side == "expert"))
    return Pairing(tuple(pairs), unpaired)


def outlined(annotation: Annotation) -> tuple[Structure, ...]:
    """Structures of an annotation that have a mask."""
    return tuple(each for each in annotation.structures if each.number in annotation.masks)


@dataclass(frozen=True, slots=True)
class _Words:
    """The structures of one side, asked for concepts."""

    structures: Sequence[Structure]
    crosswalk: Crosswalk
    side: Side
    known: Sequence[Concept]
    """Concepts of both sides."""

    def concepts(self) -> list[Concept]:
        """Each concept once, in order."""
        found: list[Concept] = []
        for structure in self.structures:
            concept = concept_of(structure)
            if concept is not None and not any(each.is_same(concept) for each in found):
                found.append(concept)
        return found

    def tell(self, concept: Concept, depth: int = _DEPTH) -> Part | None:
        """The concept in these words; entries with an exclusion go before the code itself, others after it."""
        entries = list(self.crosswalk.of(concept, self.side)) if depth else []
        for entry in (each for each in entries if each.exclude):
            part = self._join(entry.name, entry.union, entry.exclude, depth - 1)
            if part is not None:
                return part
        if numbers := self._coded(concept):
            return Part(numbers)
        for entry in (each for each in entries if not each.exclude):
            part = self._join(entry.name, entry.union, (), depth - 1)
            if part is not None:
                return part
        return None

    def _join(self, name: str, parts: Iterable[Concept], excluded: Iterable[Concept], depth: int) -> Part | None:
        """All parts together, or None where one is not there."""
        taken = [self._inner(each, depth) for each in parts]
        away = [self._inner(each, depth) for each in excluded]
        whole = [part for part in (*taken, *away) if part is not None]
        if len(whole) < len(taken) + len(away):
            return None
        numbers = dict.fromkeys(n for part in whole[: len(taken)] for n in part.numbers)
        minus = [n for part in whole[: len(taken)] for n in part.excluded]
        minus += [n for part in whole[len(taken) :] for n in part.numbers]
        return Part(tuple(numbers), tuple(dict.fromkeys(minus)), name)

    def _inner(self, concept: Concept, depth: int) -> Part | None:
        """A part of a union: what is coded so, before any other words for it."""
        numbers = self._coded(concept)
        return Part(numbers) if numbers else self.tell(concept, depth)

    def _coded(self, concept: Concept) -> tuple[int, ...]:
        """Structures of that code; a region that only some tell is no difference if there is one such region."""
        own = [(each.number, told) for each in self.structures if (told := concept_of(each)) is not None]
        exact = tuple(number for number, told in own if told.is_same(concept))
        if exact or len(_regions(concept, self.known)) > 1:
            return exact
        return tuple(number for number, told in own if _is_same_but_region(told, concept))


def _is_same_but_region(one: Concept, other: Concept) -> bool:
    return same_code(one.type, other.type) and same_code(one.laterality, other.laterality)


def _regions(concept: Concept, known: Sequence[Concept]) -> set[tuple[str, str]]:
    """Regions in which anyone marked what the concept is."""
    regions = (each.anatomic_region for each in (concept, *known) if _is_same_but_region(each, concept))
    return {current(region) for region in regions if region is not None}


def _told(pairs: list[Pair], expert: Part, prediction: Part) -> bool:
    """Whether the same voxels of both sides are a pair already, under another word."""
    return any(
        set(pair.expert.numbers) == set(expert.numbers) and set(pair.prediction.numbers) == set(prediction.numbers)
        for pair in pairs
    )


def _without_partner(own: _Words, other: _Words, used: list[Part]) -> list[Unpaired]:
    taken = {number for part in used for number in (*part.numbers, *part.excluded)}
    return [
        Unpaired(own.side, structure, *_reason(structure, other))
        for structure in own.structures
        if structure.number not in taken
    ]


def _reason(structure: Structure, other: _Words) -> tuple[str, str]:
    concept = concept_of(structure)
    if concept is None:
        return NO_CODE, "has no code: give it one in a table of labels"
    code = concept.type
    shown = f"({code.value}, {code.scheme_designator}, {code.meaning})"
    if current(code)[0].startswith("99") or current(code)[0] == "SRT":
        return UNKNOWN_CODE, f"{shown} is neither SNOMED CT nor DICOM, and no crosswalk tells it in other words"
    for entry in other.crosswalk.of(concept, other.side):
        missing = [part.name for part in (*entry.union, *entry.exclude) if other.tell(part) is None]
        if 0 < len(missing) < len(entry.union) + len(entry.exclude):
            return PARTS_MISSING, f"the {other.side} has not all parts of {entry.name}: {', '.join(missing)}"
    return NO_PARTNER, f"nothing of the {other.side} is {concept.name} {shown}, nor are its parts by a crosswalk"
