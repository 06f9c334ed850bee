"""Content items of a structured report, one function a value type (PS3.3 C.17.3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydicom import Dataset
from pydicom.sr.coding import Code
from pydicom.valuerep import format_number_as_ds

from .composite import reference_item
from .equipment import code_item, code_of

CONTAINS = "CONTAINS"
HAS_OBS_CONTEXT = "HAS OBS CONTEXT"
HAS_CONCEPT_MOD = "HAS CONCEPT MOD"
HAS_ACQ_CONTEXT = "HAS ACQ CONTEXT"


def container(concept: Code, relationship: str | None, children: Sequence[Dataset], template: str | None) -> Dataset:
    """CONTAINER of separate items; the root has no relationship.

    `template` is the DCMR identifier (Content Template Sequence), for templates that start with it.
    """
    item = _item("CONTAINER", concept, relationship)
    item.ContinuityOfContent = "SEPARATE"
    if template is not None:
        identification = Dataset()
        identification.MappingResource = "DCMR"
        identification.TemplateIdentifier = template
        item.ContentTemplateSequence = [identification]
    if children:
        item.ContentSequence = list(children)
    return item


def text_item(concept: Code, relationship: str, value: str) -> Dataset:
    """TEXT."""
    item = _item("TEXT", concept, relationship)
    item.TextValue = value
    return item


def uid_item(concept: Code, relationship: str, value: str) -> Dataset:
    """UIDREF."""
    item = _item("UIDREF", concept, relationship)
    item.UID = value
    return item


def coded_item(concept: Code, relationship: str, value: Code, children: Sequence[Dataset] = ()) -> Dataset:
    """CODE, with items that modify it."""
    item = _item("CODE", concept, relationship)
    item.ConceptCodeSequence = [code_item(value)]
    if children:
        item.ContentSequence = list(children)
    return item


def number_item(concept: Code, relationship: str, value: float, unit: Code) -> Dataset:
    """NUM: the decimal in 16 characters at most, and beside it the double itself (0040,A161)."""
    measured = Dataset()
    measured.NumericValue = format_number_as_ds(float(value))
    measured.FloatingPointValue = float(value)
    measured.MeasurementUnitsCodeSequence = [code_item(unit)]
    item = _item("NUM", concept, relationship)
    item.MeasuredValueSequence = [measured]
    return item


def image_item(
    concept: Code | None, sop_class_uid: str, sop_instance_uid: str, segment_number: int | None = None
) -> Dataset:
    """IMAGE; with a segment's number, a segment of a SEG."""
    item = _item("IMAGE", concept, CONTAINS)
    more = {} if segment_number is None else {"ReferencedSegmentNumber": segment_number}
    item.ReferencedSOPSequence = [reference_item(sop_class_uid, sop_instance_uid, more)]
    return item


def children(item: Dataset, concept: Code, value_type: str | None = None) -> Iterator[Dataset]:
    """Items directly below `item` with this concept name (value and scheme) and value type."""
    for child in item.get("ContentSequence") or ():
        names = child.get("ConceptNameCodeSequence")
        if names and code_of(names[0]) == concept and value_type in (None, child.ValueType):
            yield child


def _item(value_type: str, concept: Code | None, relationship: str | None) -> Dataset:
    item = Dataset()
    if relationship is not None:
        item.RelationshipType = relationship
    item.ValueType = value_type
    if concept is not None:
        item.ConceptNameCodeSequence = [code_item(concept)]
    return item
