"""Codes compared: SNOMED RT and SNOMED CT are one vocabulary."""

from __future__ import annotations

from collections.abc import Iterable

from pydicom import Dataset
from pydicom.sr._snomed_dict import mapping as snomed_mapping
from pydicom.sr.coding import Code

from ...enrich.encoding.equipment import code_of

OLD_SNOMED = frozenset({"SRT", "SNM3", "99SDM"})
"""Coding Scheme Designators under which SNOMED RT codes were written (PS3.16 section 8.1)."""
SIDES = frozenset({("SCT", "24028007"), ("SCT", "7771000"), ("SCT", "51440002"), ("SCT", "66459002")})
"""Right, left, right and left, unilateral (CID 244)."""
_SUCCESSORS: dict[str, str] = snomed_mapping["SRT"]
"""SNOMED CT value of each SNOMED RT one (PS3.16 annex O), as pydicom has it."""


def current(code: Code) -> tuple[str, str]:
    """Scheme and value of a code: SNOMED CT's for one of SNOMED RT, where there is one."""
    if code.scheme_designator not in OLD_SNOMED:
        return code.scheme_designator, code.value
    value = _SUCCESSORS.get(code.value)
    return ("SRT", code.value) if value is None else ("SCT", value)


def same_code(one: Code | None, other: Code | None) -> bool:
    """Whether two codes mean the same, whatever their meanings' spelling (PS3.16 annex O)."""
    if one is None or other is None:
        return one is other
    return current(one) == current(other)


def laterality_of(modifiers: Iterable[Dataset]) -> Code | None:
    """First of the modifiers (items of code sequences) that is a side."""
    codes = (code_of(item) for item in modifiers)
    return next((code for code in codes if current(code) in SIDES), None)
