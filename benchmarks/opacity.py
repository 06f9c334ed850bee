"""Opacity and lungs among the structures of an annotation, however they are coded."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom.sr.coding import Code

from ..models.codes import GROUND_GLASS_OPACITY, LUNG, LUNG_CONSOLIDATION
from .crosswalk import Crosswalk
from .pairing import NothingPaired, outlined, pair_structures
from .references.coding import same_code
from .references.packed_mask import PackedMask, union
from .references.reference import Annotation, Structure

OPACITIES = (
    GROUND_GLASS_OPACITY,
    LUNG_CONSOLIDATION,
    Code("112001", "DCM", "Opacity"),
    Code("112121", "DCM", "Infiltrate"),
    Code("112033", "DCM", "Abnormal opacity"),
)
"""CID 6101 and 6104, and what SNOMED CT has for consolidation."""
WHOLE_LUNGS = Structure(1, "Lungs", type=LUNG)


def opacity_structures(structures: Sequence[Structure]) -> tuple[Structure, ...]:
    """Those that are an opacity of the lung."""
    return tuple(each for each in structures if any(same_code(each.type, code) for code in OPACITIES))


def opacity_of(annotation: Annotation) -> PackedMask | None:
    """Voxels of all opacities; None where the annotation has no such structure."""
    found = [annotation.masks[each.number] for each in opacity_structures(outlined(annotation))]
    return union(found) if found else None


def lungs_of(annotation: Annotation, crosswalk: Crosswalk) -> PackedMask | None:
    """Voxels of both lungs, from lobes too; None where the annotation has none, or not all."""
    try:
        pairing = pair_structures([WHOLE_LUNGS], outlined(annotation), crosswalk)
    except NothingPaired:
        return None
    mask = pairing.pairs[0].prediction.mask(annotation)
    return None if mask.empty else mask
