"""What our conventions ask of a SEG and an SR beyond their IODs, checked before anything is stored.

dciodvfy finds what breaks an IOD, but accepts a report with an item missing that the Imaging
Data Commons joins on: such a group disappears there without an error, so it is refused here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from pydicom import Dataset
from pydicom.uid import ComprehensiveSRStorage, EnhancedSRStorage, SegmentationStorage

from .. import Error
from .encoding.content_items import HAS_CONCEPT_MOD, children
from .encoding.equipment import LONG_STRING, code_of
from .encoding.functional_groups import frame_count
from .encoding.patient_study import DATE, REQUIRED
from .encoding.report_codes import (
    FINDING,
    FINDING_SITE,
    IMAGING_MEASUREMENTS,
    LATERALITY,
    MEASUREMENT_GROUP,
    REFERENCED_SEGMENT,
    SOURCE_SERIES,
    TRACKING_IDENTIFIER,
    TRACKING_UID,
)
from .seg import LabelMapSegmentationStorage
from .sr import decode_sr

UIDS = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
EQUIPMENT = ("Manufacturer", "ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions")
UID_LENGTH = 64
"""Longest UID (PS3.5 9.1)."""
DECIMAL_STRING = 16
"""Longest DS (PS3.5 table 6.2-1)."""
ROWS_OF_A_GROUP = (
    (TRACKING_IDENTIFIER, "TEXT"),
    (TRACKING_UID, "UIDREF"),
    (FINDING, "CODE"),
    (FINDING_SITE, "CODE"),
    (SOURCE_SERIES, "UIDREF"),
    (REFERENCED_SEGMENT, "IMAGE"),
)
"""Content items that measurement_groups.sql of the Imaging Data Commons joins on."""


class InvalidObject(Error):
    """A SEG or SR that must not be stored; names the object and the rule it breaks."""

    code = "INVALID_OBJECT"

    def __init__(self, sop_instance_uid: str, rule: str) -> None:
        super().__init__(sop_instance_uid, rule)

    def __str__(self) -> str:
        return f"{self.args[0]}: {self.args[1]}"


def validate(dataset: Dataset) -> None:
    """Refuse a SEG or SR that breaks our conventions.

    Raises
    ------
    InvalidObject
        With the first rule that is broken.
    """
    for broken in _broken(dataset):
        raise InvalidObject(str(dataset.get("SOPInstanceUID") or "object without SOP Instance UID"), broken)


def check_linked(seg: Dataset, sr: Dataset) -> None:
    """Refuse an SR whose groups do not each stand for one segment of this SEG.

    Raises
    ------
    InvalidObject
        If a group refers to another object, to a number that is not in the SEG, to a segment
        with another Tracking UID, or if both are not of one study, patient and source series.
    """
    for broken in _unlinked(seg, sr):
        raise InvalidObject(str(sr.SOPInstanceUID), broken)


def validate_pair(seg: Dataset, sr: Dataset) -> None:
    """Refuse a SEG and its SR unless both are valid and linked."""
    validate(seg)
    validate(sr)
    check_linked(seg, sr)


def _broken(dataset: Dataset) -> Iterator[str]:
    """Rules that a data set breaks, in sentences."""
    yield from _common(dataset)
    if dataset.SOPClassUID in (SegmentationStorage, LabelMapSegmentationStorage):
        yield from _segmentation(dataset)
    elif dataset.SOPClassUID in (EnhancedSRStorage, ComprehensiveSRStorage):
        yield from _report(dataset)
    else:
        yield f"SOP class {dataset.SOPClassUID} is neither SEG nor SR"


def _common(dataset: Dataset) -> Iterator[str]:
    for keyword in UIDS:
        value = str(dataset.get(keyword) or "")
        if not value or len(value) > UID_LENGTH or not all(part.isdigit() for part in value.split(".")):
            yield f"{keyword} is empty or no UID"
    for keyword in REQUIRED:
        if keyword not in dataset:
            yield f"{keyword} is absent (Type 2: it may be empty)"
    for keyword in (*EQUIPMENT, "ContributingEquipmentSequence", "SeriesNumber", "InstanceNumber"):
        if not dataset.get(keyword):
            yield f"{keyword} is absent or empty"
    if not DATE.fullmatch(str(dataset.get("ContentDate", ""))):
        yield "ContentDate is no date"
    if not 0 < len(str(dataset.get("SeriesDescription", ""))) <= LONG_STRING:
        yield f"SeriesDescription is empty or over {LONG_STRING} characters"
    if any(tag.is_private for tag in dataset.keys()):  # noqa: SIM118 - iterating a Dataset parses its elements
        yield "it holds private attributes, which may identify a patient"


def _segmentation(dataset: Dataset) -> Iterator[str]:
    items = dataset.get("SegmentSequence") or []
    numbers = [int(item.SegmentNumber) for item in items]
    first = 0 if dataset.SOPClassUID == LabelMapSegmentationStorage else 1
    if not items or numbers != list(range(first, first + len(numbers))):
        yield f"segment numbers {numbers} are not {first}..N without gap"
    for item in items:
        if int(item.SegmentNumber):
            yield from _segment(item)
    if frame_count(dataset) != int(dataset.NumberOfFrames):
        yield f"{dataset.NumberOfFrames} frames, but functional groups for {frame_count(dataset)}"
    if dataset.SOPClassUID == SegmentationStorage:
        bits = int(dataset.NumberOfFrames) * int(dataset.Rows) * int(dataset.Columns)
        if len(dataset.PixelData) != -(-bits // 16) * 2:
            yield f"PixelData of {len(dataset.PixelData)} bytes does not hold {bits} voxels"
    elif dataset.get("PixelPaddingValue") != 0:
        yield "PixelPaddingValue of a label map is not 0"
    series = dataset.get("ReferencedSeriesSequence")
    if not series or not series[0].get("ReferencedInstanceSequence"):
        yield "ReferencedSeriesSequence names no source instance"
    if not dataset.get("FrameOfReferenceUID"):
        yield "FrameOfReferenceUID is empty"


def _segment(item: Dataset) -> Iterator[str]:
    for keyword in (
        "SegmentLabel", "SegmentDescription", "SegmentAlgorithmName", "TrackingID", "TrackingUID",
        "SegmentedPropertyCategoryCodeSequence", "SegmentedPropertyTypeCodeSequence",
        "SegmentationAlgorithmIdentificationSequence", "RecommendedDisplayCIELabValue",
    ):  # fmt: skip
        if not item.get(keyword):
            yield f"segment {item.SegmentNumber} has no {keyword}"
    if item.get("SegmentAlgorithmType") != "AUTOMATIC":
        yield f"segment {item.SegmentNumber} is not AUTOMATIC"


def _report(dataset: Dataset) -> Iterator[str]:
    templates = dataset.get("ContentTemplateSequence")
    if not templates or (templates[0].TemplateIdentifier, templates[0].MappingResource) != ("1500", "DCMR"):
        yield "the report is not of template 1500 of DCMR"
    if (dataset.get("CompletionFlag"), dataset.get("VerificationFlag")) != ("COMPLETE", "UNVERIFIED"):
        yield "the report is not COMPLETE and UNVERIFIED"
    containers = list(children(dataset, IMAGING_MEASUREMENTS, "CONTAINER"))
    if len(containers) != 1:
        yield f"{len(containers)} items of Imaging Measurements instead of one"
    for container in containers:
        for group in container.get("ContentSequence") or ():
            yield from _group(group)


def _group(group: Dataset) -> Iterator[str]:
    """What makes the Imaging Data Commons drop a group or a number in it."""
    if code_of(group.ConceptNameCodeSequence[0]).meaning != MEASUREMENT_GROUP.meaning:
        yield "a group's concept does not read Measurement Group"
    for concept, value_type in ROWS_OF_A_GROUP:
        if len(list(children(group, concept, value_type))) != 1:
            yield f"a group has not one {concept.meaning} ({concept.value}) of type {value_type}"
    for site in children(group, FINDING_SITE, "CODE"):
        below = site.get("ContentSequence")
        if below and (code_of(below[0].ConceptNameCodeSequence[0]), below[0].RelationshipType) != (
            LATERALITY,
            HAS_CONCEPT_MOD,
        ):
            yield "the first item below a Finding Site is not its Laterality"
    for item in group.get("ContentSequence") or ():
        if item.ValueType == "NUM":
            yield from _number(item)


def _number(item: Dataset) -> Iterator[str]:
    name = code_of(item.ConceptNameCodeSequence[0]).meaning
    values = item.get("MeasuredValueSequence")
    if not values:
        yield f"{name} has no value"
        return
    value = str(values[0].NumericValue)
    if len(value) > DECIMAL_STRING or not math.isfinite(float(value)):
        yield f"{name} is {value}: not finite, or over {DECIMAL_STRING} characters"
    if not values[0].get("MeasurementUnitsCodeSequence"):
        yield f"{name} has no unit"


def _unlinked(seg: Dataset, sr: Dataset) -> Iterator[str]:
    for keyword in ("StudyInstanceUID", "PatientID"):
        if seg.get(keyword) != sr.get(keyword):
            yield f"{keyword} differs from the SEG's"
    if seg.SeriesInstanceUID == sr.SeriesInstanceUID or seg.SeriesNumber == sr.SeriesNumber:
        yield "SEG and SR are not of two series"
    tracking = {int(item.SegmentNumber): str(item.get("TrackingUID", "")) for item in seg.SegmentSequence}
    source = str(seg.ReferencedSeriesSequence[0].SeriesInstanceUID)
    seen: set[int] = set()
    for group in decode_sr(sr):
        number = group.segment_number
        if (group.seg_sop_class_uid, group.seg_sop_instance_uid) != (seg.SOPClassUID, seg.SOPInstanceUID):
            yield f"a group refers to {group.seg_sop_instance_uid}, not to the SEG"
        if number not in tracking:
            yield f"a group refers to segment {number}, which the SEG does not describe"
        elif tracking[number] != group.tracking_uid:
            yield f"segment {number} is tracked under another UID in the SEG"
        if group.source_series_instance_uid != source:
            yield f"the source series of segment {number} is not the SEG's"
        if number in seen:
            yield f"segment {number} has two groups"
        seen.add(number)
