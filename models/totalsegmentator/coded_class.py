"""What a class of TotalSegmentator is, in codes."""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.sr.coding import Code

from ..codes import ANATOMICAL_STRUCTURE


@dataclass(frozen=True, slots=True)
class CodedClass:
    """What a class is, in codes.

    Attributes
    ----------
    label : str
        For people, with the side first, as in ``Right Kidney`` of the published collection.
    type : Code
        Segmented Property Type.
    region : Code or None
        Anatomic Region, for findings and parts.
    category : Code
        Segmented Property Category.
    laterality : Code or None
    color : tuple of int or None
        Of the package's table, sRGB.
    """

    label: str
    type: Code
    region: Code | None = None
    category: Code = ANATOMICAL_STRUCTURE
    laterality: Code | None = None
    color: tuple[int, int, int] | None = None


def sct(value: str, meaning: str) -> Code:
    """A code of SNOMED CT."""
    return Code(value, "SCT", meaning)
