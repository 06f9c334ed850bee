"""One object of a submission: its file on this machine and what the archives ask about it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.multival import MultiValue
from pydicom.uid import SegmentationStorage

from ..digest import file_sha256


@dataclass(frozen=True, slots=True)
class Submitted:
    """A file as it will be handed over, and facts of its header; text is empty where the header has none.

    Attributes
    ----------
    path : str
        Below the root of what is handed over, with ``/``.
    md5, sha256 : str
        Of the file's bytes, in hex.
    deidentified : bool
        Whether Patient Identity Removed (0012,0062) is YES.
    """

    path: str
    md5: str
    sha256: str
    bytes: int
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str
    patient_id: str
    patient_sex: str
    study_date: str
    study_description: str
    modality: str
    body_part: str
    series_description: str
    manufacturer: str
    model_name: str
    software_versions: str
    deidentified: bool

    @property
    def listed_by_idc(self) -> bool:
        """Whether the Imaging Data Commons' tables hold it: SR, and SEG of the class 66.4 only."""
        return self.modality == "SR" or self.sop_class_uid == SegmentationStorage


def submitted(root: Path, path: str) -> Submitted:
    """The record of a DICOM file below `root`.

    Raises
    ------
    OSError
        If it cannot be read.
    InvalidDicomError
        If it is no DICOM file.
    """
    file = root / path
    header = pydicom.dcmread(file, stop_before_pixels=True)

    def text(keyword: str) -> str:
        value = header.get(keyword)
        return "; ".join(map(str, value)) if isinstance(value, MultiValue) else str(value or "")

    return Submitted(
        path=path,
        md5=_md5(file),
        sha256=file_sha256(file),
        bytes=file.stat().st_size,
        sop_class_uid=text("SOPClassUID"),
        sop_instance_uid=text("SOPInstanceUID"),
        series_instance_uid=text("SeriesInstanceUID"),
        study_instance_uid=text("StudyInstanceUID"),
        patient_id=text("PatientID"),
        patient_sex=text("PatientSex"),
        study_date=text("StudyDate"),
        study_description=text("StudyDescription"),
        modality=text("Modality"),
        body_part=text("BodyPartExamined"),
        series_description=text("SeriesDescription"),
        manufacturer=text("Manufacturer"),
        model_name=text("ManufacturerModelName"),
        software_versions=text("SoftwareVersions"),
        deidentified=text("PatientIdentityRemoved") == "YES",
    )


def warnings_of(files: tuple[Submitted, ...]) -> tuple[str, ...]:
    """What the archives will stumble over, in words, with the number of objects."""
    open_ones = sum(not each.deidentified for each in files)
    unlisted = sum(not each.listed_by_idc for each in files)
    nameless = sum(not each.patient_id for each in files)
    found = (
        (open_ones, "objects do not say that they are de-identified: Patient Identity Removed (0012,0062) is not YES"),
        (unlisted, "objects are in no table of the Imaging Data Commons: a SEG of another class than 66.4 (LABELMAP)"),
        (nameless, "objects have no Patient ID (0010,0020)"),
    )
    return tuple(f"{number} {what}" for number, what in found if number)


def _md5(path: Path) -> str:
    # The manifest's digest, and no protection against anybody.
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
