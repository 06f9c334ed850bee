"""Content items of a structured report, one function a value type (PS3.3 C.17.3).

An item is the bytes of its elements (see `encoded`): a report of 104 segments has 4,000 of them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from pydicom import Dataset
from pydicom.sr.coding import Code
from pydicom.valuerep import format_number_as_ds

from .encoded import code_sequence, element, raw_sequence, sequence, text
from .equipment import code_item, code_of

CONTAINS = "CONTAINS"
HAS_OBS_CONTEXT = "HAS OBS CONTEXT"
HAS_CONCEPT_MOD = "HAS CONCEPT MOD"
HAS_ACQ_CONTEXT = "HAS ACQ CONTEXT"
INFERRED_FROM = "INFERRED FROM"

_MAPPING_RESOURCE = 0x00080105
_REFERENCED_SOP_CLASS_UID = 0x00081150
_REFERENCED_SOP_INSTANCE_UID = 0x00081155
_REFERENCED_SOP_SEQUENCE = 0x00081199
_MEASUREMENT_UNITS_CODE_SEQUENCE = 0x004008EA
_RELATIONSHIP_TYPE = 0x0040A010
_VALUE_TYPE = 0x0040A040
_CONCEPT_NAME_CODE_SEQUENCE = 0x0040A043
_CONTINUITY_OF_CONTENT = 0x0040A050
_UID = 0x0040A124
_TEXT_VALUE = 0x0040A160
_FLOATING_POINT_VALUE = 0x0040A161
_CONCEPT_CODE_SEQUENCE = 0x0040A168
_MEASURED_VALUE_SEQUENCE = 0x0040A300
_NUMERIC_VALUE = 0x0040A30A
_CONTENT_TEMPLATE_SEQUENCE = 0x0040A504
_CONTENT_SEQUENCE = 0x0040A730
_TEMPLATE_IDENTIFIER = 0x0040DB00
_REFERENCED_SEGMENT_NUMBER = 0x0062000B


def root(concept: Code, children: Sequence[bytes], template: str) -> Dataset:
    """CONTAINER at the root of a report, for its data set; pydicom reads the items below when they are asked for."""
    dataset = Dataset()
    dataset.ValueType = "CONTAINER"
    dataset.ConceptNameCodeSequence = [code_item(concept)]
    dataset.ContinuityOfContent = "SEPARATE"
    identification = Dataset()
    identification.MappingResource = "DCMR"
    identification.TemplateIdentifier = template
    dataset.ContentTemplateSequence = [identification]
    content = raw_sequence(_CONTENT_SEQUENCE, children)
    dataset[content.tag] = content
    return dataset


def container(concept: Code, relationship: str, children: Sequence[bytes], template: str | None) -> bytes:
    """CONTAINER of separate items.

    `template` is the DCMR identifier (Content Template Sequence), for templates that start with it.
    """
    identification = b""
    if template is not None:
        words = text(_MAPPING_RESOURCE, b"CS", "DCMR") + text(_TEMPLATE_IDENTIFIER, b"CS", template)
        identification = sequence(_CONTENT_TEMPLATE_SEQUENCE, [words])
    separate = text(_CONTINUITY_OF_CONTENT, b"CS", "SEPARATE")
    return _head("CONTAINER", concept, relationship) + separate + identification + _content(children)


def text_item(concept: Code, relationship: str, value: str) -> bytes:
    """TEXT."""
    return _head("TEXT", concept, relationship) + text(_TEXT_VALUE, b"UT", value)


def uid_item(concept: Code, relationship: str, value: str) -> bytes:
    """UIDREF."""
    return _head("UIDREF", concept, relationship) + text(_UID, b"UI", value)


def coded_item(concept: Code, relationship: str, value: Code, children: Sequence[bytes] = ()) -> bytes:
    """CODE, with items that modify it."""
    return _head("CODE", concept, relationship) + code_sequence(_CONCEPT_CODE_SEQUENCE, value) + _content(children)


def number_item(concept: Code, relationship: str, value: float, unit: Code, children: Sequence[bytes] = ()) -> bytes:
    """NUM: the decimal in 16 characters at most, and beside it the double itself (0040,A161); with items below it."""
    measured = (
        code_sequence(_MEASUREMENT_UNITS_CODE_SEQUENCE, unit)
        + element(_FLOATING_POINT_VALUE, b"FD", struct.pack("<d", value))
        + text(_NUMERIC_VALUE, b"DS", format_number_as_ds(float(value)))
    )
    head = _head("NUM", concept, relationship)
    return head + sequence(_MEASURED_VALUE_SEQUENCE, [measured]) + _content(children)


def image_item(
    concept: Code | None, sop_class_uid: str, sop_instance_uid: str, segment_number: int | None = None
) -> bytes:
    """IMAGE; with a segment's number, a segment of a SEG."""
    reference = text(_REFERENCED_SOP_CLASS_UID, b"UI", sop_class_uid)
    reference += text(_REFERENCED_SOP_INSTANCE_UID, b"UI", sop_instance_uid)
    if segment_number is not None:
        reference += element(_REFERENCED_SEGMENT_NUMBER, b"US", struct.pack("<H", segment_number))
    return sequence(_REFERENCED_SOP_SEQUENCE, [reference]) + _head("IMAGE", concept, CONTAINS)


def children(item: Dataset, concept: Code, value_type: str | None = None) -> Iterator[Dataset]:
    """Items directly below `item` with this concept name (value and scheme) and value type."""
    for child in item.get("ContentSequence") or ():
        names = child.get("ConceptNameCodeSequence")
        if names and code_of(names[0]) == concept and value_type in (None, child.ValueType):
            yield child


def _head(value_type: str, concept: Code | None, relationship: str) -> bytes:
    """Relationship Type, Value Type and concept name, which open most items."""
    words = text(_RELATIONSHIP_TYPE, b"CS", relationship) + text(_VALUE_TYPE, b"CS", value_type)
    return words if concept is None else words + code_sequence(_CONCEPT_NAME_CODE_SEQUENCE, concept)


def _content(children: Sequence[bytes]) -> bytes:
    return sequence(_CONTENT_SEQUENCE, children) if children else b""
