"""Crosswalk: one structure told in another's words, where vocabularies differ.

A crosswalk file (YAML) says which structures together are another one:

.. code-block:: yaml

    crosswalk: 1
    entries:
      - name: Right lung
        concept: {type: ["39607008", SCT, Lung], laterality: ["24028007", SCT, Right]}
        union:
          - {type: ["45653009", SCT, Upper lobe of lung], laterality: ["24028007", SCT, Right]}
          - {type: ["72481006", SCT, Middle lobe of right lung]}
          - {type: ["90572001", SCT, Lower lobe of lung], laterality: ["24028007", SCT, Right]}

``exclude`` lists what the union is taken without, ``side`` (``expert``, ``prediction`` or ``both``) whose
words the entry translates. Entries of the user's file come before the built-in ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydicom.sr.coding import Code

from .. import Error
from .references.coding import same_code
from .references.reference import Structure

SCHEMA_VERSION = 1
Side = Literal["expert", "prediction", "both"]
_ENTRY = {"name", "concept", "union", "exclude", "side"}
_CONCEPT = {"type", "laterality", "anatomic_region"}
_CODE_PARTS = 3


class InvalidCrosswalk(Error):
    """A crosswalk file that cannot be read, or whose keys are not those of the schema."""

    code = "INVALID_CROSSWALK"

    def __init__(self, file: str, key: str, reason: str) -> None:
        super().__init__(file, key, reason)

    def __str__(self) -> str:
        file, key, reason = self.args
        return f"{file}: {key}: {reason}" if key else f"{file}: {reason}"


@dataclass(frozen=True, slots=True)
class Concept:
    """What a structure is: type, side and, for a finding, where."""

    type: Code
    laterality: Code | None = None
    anatomic_region: Code | None = None

    def is_same(self, other: Concept) -> bool:
        """Whether all three are the same."""
        return (
            same_code(self.type, other.type)
            and same_code(self.laterality, other.laterality)
            and same_code(self.anatomic_region, other.anatomic_region)
        )

    @property
    def name(self) -> str:
        """For people, e.g. ``Right Lung``, ``Nodule of Right Lung``."""
        side = f"{self.laterality.meaning} " if self.laterality else ""
        if self.anatomic_region is None:
            return f"{side}{self.type.meaning}"
        return f"{self.type.meaning} of {side}{self.anatomic_region.meaning}"


def concept_of(structure: Structure) -> Concept | None:
    """Concept of a structure; None where it has no code."""
    if structure.type is None:
        return None
    return Concept(structure.type, structure.laterality, structure.anatomic_region)


@dataclass(frozen=True, slots=True)
class Entry:
    """A structure, and those that together are it.

    Attributes
    ----------
    concept : Concept
        What is looked for.
    union, exclude : tuple of Concept
        It is the voxels of all of `union` that are in none of `exclude`; each part must be there.
    side : str
        Whose structures are looked through.
    """

    name: str
    concept: Concept
    union: tuple[Concept, ...]
    exclude: tuple[Concept, ...] = ()
    side: Side = "both"


@dataclass(frozen=True, slots=True)
class Crosswalk:
    """Entries, in the order in which they are tried."""

    entries: tuple[Entry, ...] = ()

    def of(self, concept: Concept, side: Side) -> Iterator[Entry]:
        """Entries that tell a concept in a side's words."""
        return (e for e in self.entries if e.side in (side, "both") and e.concept.is_same(concept))


def load_crosswalk(path: Path | None = None) -> Crosswalk:
    """The user's crosswalk, if there is one, and after it the built-in one.

    Raises
    ------
    InvalidCrosswalk
        If the file is not there or no YAML, or a key is unknown, missing or of the wrong kind.
    """
    built_in = read_crosswalk(files(__package__) / "crosswalks" / "anatomy.yaml")
    return built_in if path is None else Crosswalk((*read_crosswalk(path).entries, *built_in.entries))


def read_crosswalk(path: Path | Traversable) -> Crosswalk:
    """The crosswalk of one file.

    Raises
    ------
    InvalidCrosswalk
        As `load_crosswalk`.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as exc:
        raise InvalidCrosswalk(path.name, "", f"cannot be read: {exc}") from exc
    reader = _Reader(path.name)
    top = reader.mapping("", content, {"crosswalk", "entries"}, {"crosswalk", "entries"})
    if top["crosswalk"] != SCHEMA_VERSION:
        raise InvalidCrosswalk(path.name, "crosswalk", f"{top['crosswalk']!r} is not the schema {SCHEMA_VERSION}")
    return Crosswalk(tuple(reader.entry(f"entries[{n}]", each) for n, each in enumerate(top["entries"] or ())))


@dataclass(frozen=True, slots=True)
class _Reader:
    """Checks of one file, each of which names file and key."""

    file: str

    def entry(self, where: str, item: object) -> Entry:
        found = self.mapping(where, item, _ENTRY, {"name", "concept", "union"})
        side = found.get("side", "both")
        if side not in get_args(Side):
            raise InvalidCrosswalk(self.file, f"{where}.side", f"{side!r} is none of {', '.join(get_args(Side))}")
        union = self.concepts(f"{where}.union", found["union"])
        if not union:
            raise InvalidCrosswalk(self.file, f"{where}.union", "at least one structure is needed")
        concept = self.concept(f"{where}.concept", found["concept"])
        exclude = self.concepts(f"{where}.exclude", found.get("exclude", []))
        if not exclude and any(part.is_same(concept) for part in union):
            raise InvalidCrosswalk(self.file, f"{where}.union", f"{concept.name} is told by itself")
        return Entry(str(found["name"]), concept, union, exclude, side)

    def concepts(self, where: str, items: object) -> tuple[Concept, ...]:
        if not isinstance(items, list):
            raise InvalidCrosswalk(self.file, where, f"a list is needed, not {type(items).__name__}")
        return tuple(self.concept(f"{where}[{n}]", item) for n, item in enumerate(items))

    def concept(self, where: str, item: object) -> Concept:
        found = self.mapping(where, item, _CONCEPT, {"type"})
        return Concept(**{key: self.code(f"{where}.{key}", value) for key, value in found.items()})

    def code(self, where: str, item: object) -> Code:
        if not isinstance(item, list) or len(item) != _CODE_PARTS or not all(isinstance(part, str) for part in item):
            raise InvalidCrosswalk(self.file, where, 'a code is written ["value", scheme, meaning], all three as text')
        return Code(*item)

    def mapping(self, where: str, item: object, known: set[str], needed: set[str]) -> dict[str, Any]:
        if not isinstance(item, dict):
            raise InvalidCrosswalk(self.file, where, f"a mapping is needed, not {type(item).__name__}")
        prefix = f"{where}." if where else ""
        for key in item:
            if key not in known:
                raise InvalidCrosswalk(self.file, f"{prefix}{key}", "unknown key")
        for key in sorted(needed):
            if key not in item:
                raise InvalidCrosswalk(self.file, f"{prefix}{key}", "missing key")
        return item
