"""What SEG and SR have in common: modules of patient, study, series, equipment and SOP instance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from ... import __version__
from ..identity import derived_uid, series_number
from ..series import SourceImage
from .equipment import LONG_STRING, MANUFACTURER, Producer, ascii_line
from .patient_study import content_date_time, copy_patient_and_study, copy_series, integer

IMPLEMENTATION_CLASS_UID = derived_uid("voxfleet", "implementation")


@dataclass(frozen=True, slots=True)
class SeriesRole:
    """What distinguishes the series of SEG and of SR of one producer.

    Attributes
    ----------
    kind : str
        ``seg`` or ``sr``: names the UIDs.
    sop_class_uid, modality : str
        SOP class and Modality (0008,0060).
    offset : int
        Added to the producer's Series Number.
    purpose : str
        Middle of the Series Description, e.g. ``Segmentation of Series``.
    """

    kind: str
    sop_class_uid: str
    modality: str
    offset: int
    purpose: str


def new_instance(source: SourceImage, producer: Producer, role: SeriesRole) -> Dataset:
    """A data set with everything but its content; the same for the same work, whenever and wherever it is done."""
    header = source.headers[0]
    dataset = Dataset()
    copy_patient_and_study(header, dataset)
    if role.modality != "SR":
        copy_series(header, dataset)
    dataset.SOPClassUID = role.sop_class_uid
    dataset.SOPInstanceUID = producer.uid(f"{role.kind}.instance")
    dataset.SeriesInstanceUID = producer.uid(f"{role.kind}.series")
    dataset.Modality = role.modality
    number = integer(header, "SeriesNumber")
    offset = producer.series_offset + role.offset
    dataset.SeriesNumber = series_number(number, str(header.SeriesInstanceUID), offset)
    dataset.SeriesDescription = series_description(producer, role.purpose, number)
    dataset.InstanceNumber = 1
    date, time = content_date_time(header)
    dataset.ContentDate, dataset.ContentTime = date, time
    dataset.SeriesDate, dataset.SeriesTime = date, time
    producer.add_equipment(dataset)
    dataset.file_meta = _file_meta(dataset)
    return dataset


def series_description(producer: Producer, purpose: str, source_number: int | None) -> str:
    """``{Model}(v{version}) {purpose} {n}``, at most 64 characters; a long model name is cut, not the rest."""
    name, version = ascii_line(producer.card.name), ascii_line(producer.card.version)
    tail = f"(v{version}) {purpose} {source_number if source_number is not None else ''}".rstrip()
    return f"{name[: max(LONG_STRING - len(tail), 1)]}{tail}"[:LONG_STRING]


def source_references(source: SourceImage) -> list[Dataset]:
    """SOP class and instance of every source instance: slices in the order of k, then what no slice came from."""
    references: dict[str, str] = {str(h.SOPInstanceUID): str(h.SOPClassUID) for h in source.headers}
    for instance in source.series.instances:
        references.setdefault(instance.sop_instance_uid, instance.sop_class_uid)
    return [reference_item(sop_class, sop_instance) for sop_instance, sop_class in references.items()]


def reference_item(sop_class_uid: str, sop_instance_uid: str, more: Mapping[str, object] | None = None) -> Dataset:
    """SOP Instance Reference macro (PS3.3 table 10-11), with `more` attributes."""
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class_uid
    item.ReferencedSOPInstanceUID = sop_instance_uid
    for keyword, value in (more or {}).items():
        setattr(item, keyword, value)
    return item


def _file_meta(dataset: Dataset) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = f"{MANUFACTURER} {__version__}".upper()[:16]
    return meta
