"""SR: the measurements of a SEG's segments, by TID 1500 Measurement Report (PS3.16).

Enhanced SR (PS3.3 A.35.2) holds all that TID 1500 and TID 1411 need when regions are segments;
it is what the published collection of the Imaging Data Commons uses, so one query finds both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from pydicom import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import EnhancedSRStorage

from .. import Error
from ..models.segmentation import Segment, Segmentation
from .encoding import report_codes as concepts
from .encoding.composite import SeriesRole, new_instance, reference_item, source_references
from .encoding.content_items import (
    CONTAINS,
    HAS_ACQ_CONTEXT,
    HAS_CONCEPT_MOD,
    HAS_OBS_CONTEXT,
    children,
    coded_item,
    container,
    image_item,
    number_item,
    root,
    text_item,
    uid_item,
)
from .encoding.encoded import keep_encoding
from .encoding.equipment import MANUFACTURER, MEASURING, Producer, ascii_text, code_of
from .encoding.filter_items import filter_items, read_filter
from .encoding.patient_study import text
from .encoding.segment_frames import segment_counts
from .features.feature_codes import PRIVATE_SCHEME
from .measurement import ORIGINAL, Measured, Measurement
from .series import SourceImage

FEATURE_SET = "shape+firstorder"
ROLE = SeriesRole("sr", EnhancedSRStorage, "SR", 1, f"{FEATURE_SET} Measurements of series")
ROLE_OF_MORE = replace(ROLE, purpose="Radiomics Measurements of series")
"""Where a parameter file asked for other features than the published ones."""


@dataclass(frozen=True, slots=True)
class Referred:
    """An object, other than the images, that a report refers to."""

    study_instance_uid: str
    series_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str


class UnlinkedMeasurement(Error):
    """A measurement of a segment that the SEG does not describe, or that has no voxel."""

    code = "UNLINKED_MEASUREMENT"

    def __init__(self, sop_instance_uid: str, number: int) -> None:
        super().__init__(sop_instance_uid, number)

    def __str__(self) -> str:
        return f"segment {self.args[1]} is measured, but the SEG {self.args[0]} does not hold it"


@dataclass(frozen=True, slots=True)
class MeasurementGroup:
    """One group of a report read: a segment and its numbers.

    Attributes
    ----------
    segment_number : int
        Referenced Segment Number in the SEG.
    seg_sop_instance_uid, source_series_instance_uid : str
        The SEG, and the series it was made from.
    measurements : tuple of Measurement
        ``name`` is the concept's meaning: a report does not hold pyradiomics' names.
    """

    segment_number: int
    tracking_id: str
    tracking_uid: str
    seg_sop_class_uid: str
    seg_sop_instance_uid: str
    source_series_instance_uid: str
    finding: Code
    finding_site: Code
    laterality: Code | None
    measurements: tuple[Measurement, ...]


def encode_sr(
    source: SourceImage, seg: Dataset, segmentation: Segmentation, measured: Measured, producer: Producer
) -> Dataset:
    """SR of all measurements, one group for each segment that has voxels (none where nothing was found).

    Parameters
    ----------
    source : SourceImage
        What was segmented and measured.
    seg : Dataset
        The SEG as written; groups take numbers and tracking UIDs from it.
    segmentation : Segmentation
        What the SEG holds.
    measured : Measured
        In any order of segments; features that failed are left out.
    producer : Producer
        The same as of the SEG.

    Raises
    ------
    UnlinkedMeasurement
        If a measured segment is not in the SEG.
    """
    items = {int(item.SegmentNumber): item for item in seg.SegmentSequence}
    voxels = segment_counts(segmentation).sum(axis=0)
    by_number: dict[int, list[Measurement]] = {s.number: [] for s in segmentation.segments if voxels[s.number]}
    for measurement in measured.measurements:
        if measurement.segment_number not in by_number:
            raise UnlinkedMeasurement(str(seg.SOPInstanceUID), measurement.segment_number)
        by_number[measurement.segment_number].append(measurement)
    if missing := set(by_number) - set(items):
        raise UnlinkedMeasurement(str(seg.SOPInstanceUID), min(missing))
    algorithm = _algorithm(producer)
    groups = [
        _group(segmentation.segments[number - 1], items[number], seg, algorithm, measurements)
        for number, measurements in by_number.items()
    ]
    dataset = new_instance(source, producer, ROLE if producer.measuring == MEASURING else ROLE_OF_MORE)
    uids = (seg.StudyInstanceUID, seg.SeriesInstanceUID, seg.SOPClassUID, seg.SOPInstanceUID)
    add_document(dataset, source, (Referred(*map(str, uids)),))
    content = [*preamble(source, producer), container(concepts.IMAGING_MEASUREMENTS, CONTAINS, groups, None)]
    dataset.update(root(concepts.MEASUREMENT_REPORT, content, "1500"))
    if any(m.concept.scheme_designator == PRIVATE_SCHEME or m.image_filter != ORIGINAL for m in measured.measurements):
        dataset.CodingSchemeIdentificationSequence = [private_scheme()]
    keep_encoding(dataset)
    return dataset


def decode_sr(dataset: Dataset) -> tuple[MeasurementGroup, ...]:
    """Groups of a TID 1500 report whose regions are segments, in its order; others are passed over."""
    return tuple(
        _read_group(group)
        for measurements in children(dataset, concepts.IMAGING_MEASUREMENTS, "CONTAINER")
        for group in children(measurements, concepts.MEASUREMENT_GROUP, "CONTAINER")
        if any(children(group, concepts.REFERENCED_SEGMENT, "IMAGE"))
    )


def add_document(dataset: Dataset, source: SourceImage, referred: Iterable[Referred]) -> None:
    """SR Document Series and SR Document General modules (PS3.3 C.17.1, C.17.2).

    Parameters
    ----------
    referred : iterable of Referred
        All objects that the report's content refers to beside the images.
    """
    dataset.ReferencedPerformedProcedureStepSequence = []
    dataset.PerformedProcedureCodeSequence = []
    dataset.CompletionFlag = "COMPLETE"
    dataset.VerificationFlag = "UNVERIFIED"
    of_study = {str(dataset.StudyInstanceUID): {str(source.headers[0].SeriesInstanceUID): source_references(source)}}
    for each in referred:
        series = of_study.setdefault(each.study_instance_uid, {}).setdefault(each.series_instance_uid, [])
        series.append(reference_item(each.sop_class_uid, each.sop_instance_uid))
    dataset.CurrentRequestedProcedureEvidenceSequence = [_evidence(*each) for each in of_study.items()]


def private_scheme() -> Dataset:
    """Item of the Coding Scheme Identification Sequence (0008,0110) for concepts that no standard scheme holds."""
    item = Dataset()
    item.CodingSchemeDesignator = PRIVATE_SCHEME
    item.CodingSchemeName = f"{MANUFACTURER} measurements"
    item.CodingSchemeResponsibleOrganization = MANUFACTURER
    return item


def _evidence(study_instance_uid: str, series: Mapping[str, list[Dataset]]) -> Dataset:
    """Item of one study, with the references of each of its series."""
    evidence = Dataset()
    evidence.StudyInstanceUID = study_instance_uid
    evidence.ReferencedSeriesSequence = []
    for series_instance_uid, references in series.items():
        item = Dataset()
        item.SeriesInstanceUID = series_instance_uid
        item.ReferencedSOPSequence = references
        evidence.ReferencedSeriesSequence.append(item)
    return evidence


def preamble(source: SourceImage, producer: Producer) -> Iterator[bytes]:
    """What stands before the measurements of a TID 1500: language, observer, procedure, images."""
    yield coded_item(concepts.LANGUAGE, HAS_CONCEPT_MOD, concepts.ENGLISH)
    yield from _observer(producer)
    yield coded_item(concepts.PROCEDURE_REPORTED, HAS_CONCEPT_MOD, concepts.IMAGING_PROCEDURE)
    yield _image_library(source)


def _observer(producer: Producer) -> Iterator[bytes]:
    """Observation context: the device that made the report (TID 1002, TID 1004)."""
    yield coded_item(concepts.OBSERVER_TYPE, HAS_OBS_CONTEXT, concepts.DEVICE)
    yield uid_item(concepts.DEVICE_UID, HAS_OBS_CONTEXT, producer.device_uid)
    yield text_item(concepts.DEVICE_NAME, HAS_OBS_CONTEXT, MANUFACTURER)
    yield text_item(concepts.DEVICE_MANUFACTURER, HAS_OBS_CONTEXT, MANUFACTURER)
    yield text_item(concepts.DEVICE_MODEL, HAS_OBS_CONTEXT, ascii_text(producer.card.name))
    yield text_item(concepts.DEVICE_SERIAL, HAS_OBS_CONTEXT, producer.serial_number)


def _image_library(source: SourceImage) -> bytes:
    """Image Library (TID 1600): one group of all source instances."""
    header = source.headers[0]
    items = []
    modality = text(header, "Modality")
    if modality in concepts.MODALITIES:
        items.append(coded_item(concepts.MODALITY, HAS_ACQ_CONTEXT, concepts.MODALITIES[modality]))
    items.append(uid_item(concepts.FRAME_OF_REFERENCE_UID, HAS_ACQ_CONTEXT, str(header.FrameOfReferenceUID)))
    items += [
        image_item(None, reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID)
        for reference in source_references(source)
    ]
    return container(
        concepts.IMAGE_LIBRARY, CONTAINS, [container(concepts.IMAGE_LIBRARY_GROUP, CONTAINS, items, None)], None
    )


def _algorithm(producer: Producer) -> list[bytes]:
    """What measured, and how (TID 4019)."""
    measuring = producer.measuring
    parameters = ",".join(f"{name}={value}" for name, value in measuring.parameters)
    return [
        text_item(concepts.ALGORITHM_NAME, HAS_CONCEPT_MOD, ascii_text(measuring.name)),
        text_item(concepts.ALGORITHM_VERSION, HAS_CONCEPT_MOD, ascii_text(measuring.version)),
        # In one item, since dcmqi reads no more than one.
        text_item(concepts.ALGORITHM_PARAMETERS, HAS_CONCEPT_MOD, ascii_text(parameters)),
    ]


def _group(
    segment: Segment, item: Dataset, seg: Dataset, algorithm: list[bytes], measurements: list[Measurement]
) -> bytes:
    """Measurement group of one segment (TID 1411); `item` describes it in the SEG."""
    series = seg.ReferencedSeriesSequence[0].SeriesInstanceUID
    # Of an organ: a structure, there. Of a finding: what it is, and the organ it is in.
    region = segment.anatomic_region
    finding, site = (segment.category, segment.type) if region is None else (segment.type, region)
    side = () if segment.laterality is None else (coded_item(concepts.LATERALITY, HAS_CONCEPT_MOD, segment.laterality),)
    items = [
        text_item(concepts.TRACKING_IDENTIFIER, HAS_OBS_CONTEXT, str(item.TrackingID)),
        uid_item(concepts.TRACKING_UID, HAS_OBS_CONTEXT, str(item.TrackingUID)),
        coded_item(concepts.FINDING, CONTAINS, finding),
        coded_item(concepts.FINDING_SITE, HAS_CONCEPT_MOD, site, side),
        *algorithm,
        image_item(concepts.REFERENCED_SEGMENT, seg.SOPClassUID, seg.SOPInstanceUID, int(item.SegmentNumber)),
        uid_item(concepts.SOURCE_SERIES, CONTAINS, str(series)),
        *(_number(each) for each in measurements),
    ]
    return container(concepts.MEASUREMENT_GROUP, CONTAINS, items, "1411")


def _number(each: Measurement) -> bytes:
    """A value with its concept and unit, and what was done to the image before (TID 1419)."""
    return number_item(each.concept, CONTAINS, each.value, each.unit, filter_items(each.image_filter))


def _read_group(group: Dataset) -> MeasurementGroup:
    reference = next(children(group, concepts.REFERENCED_SEGMENT, "IMAGE")).ReferencedSOPSequence[0]
    number = int(reference.ReferencedSegmentNumber)
    site = next(children(group, concepts.FINDING_SITE, "CODE"))
    side = next(children(site, concepts.LATERALITY, "CODE"), None)
    return MeasurementGroup(
        segment_number=number,
        tracking_id=str(next(children(group, concepts.TRACKING_IDENTIFIER, "TEXT")).TextValue),
        tracking_uid=str(next(children(group, concepts.TRACKING_UID, "UIDREF")).UID),
        seg_sop_class_uid=str(reference.ReferencedSOPClassUID),
        seg_sop_instance_uid=str(reference.ReferencedSOPInstanceUID),
        source_series_instance_uid=str(next(children(group, concepts.SOURCE_SERIES, "UIDREF")).UID),
        finding=code_of(next(children(group, concepts.FINDING, "CODE")).ConceptCodeSequence[0]),
        finding_site=code_of(site.ConceptCodeSequence[0]),
        laterality=None if side is None else code_of(side.ConceptCodeSequence[0]),
        measurements=tuple(_read_number(item, number) for item in group.ContentSequence if item.ValueType == "NUM"),
    )


def _read_number(item: Dataset, segment_number: int) -> Measurement:
    concept = code_of(item.ConceptNameCodeSequence[0])
    measured = item.MeasuredValueSequence[0]
    value = measured.get("FloatingPointValue")
    unit = code_of(measured.MeasurementUnitsCodeSequence[0])
    number = float(measured.NumericValue if value is None else value)
    return Measurement(segment_number, concept.meaning, number, concept, unit, read_filter(item))
