"""XNAT's project, subject, experiment and scan, as DICOM's study and series; and back."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from pydicom import Dataset

from ..archive import RefusedObject, SeriesEntry
from ..uids import is_uid
from .session import NotUnderstood

DICOM: Final = "DICOM"
"""Resource of a scan that holds its instances."""
_TYPES: Final = ("CR", "CT", "DX", "MG", "MR", "NM", "US")
_SCANS: Final = {**{each: f"xnat:{each.lower()}ScanData" for each in (*_TYPES, "SEG", "SR")}, "PT": "xnat:petScanData"}
"""Modality (0008,0060) and the type of XNAT's core schema for its scans."""
_SESSIONS: Final = {**{each: f"xnat:{each.lower()}SessionData" for each in _TYPES}, "PT": "xnat:petSessionData"}
_MODALITIES: Final = {name.lower(): modality for modality, name in _SCANS.items()}


@dataclass(frozen=True, slots=True)
class XnatScan:
    """One scan of a session, with UIDs as XNAT tells them; either may be empty or no UID."""

    experiment: str
    scan: str
    study_instance_uid: str
    series_instance_uid: str
    modality: str
    files: int | None
    """In its resource ``DICOM``; None where XNAT does not tell."""
    bytes: int | None
    has_dicom: bool

    @property
    def path(self) -> tuple[str, ...]:
        """In the REST interface, below ``/data``."""
        return ("experiments", self.experiment, "scans", self.scan)

    @property
    def refusal(self) -> RefusedObject | None:
        """Why it is no series, or None."""
        identifier = "/".join(self.path)[:200]
        if not self.has_dicom or self.files == 0:
            return RefusedObject(identifier, "NOT_DICOM", f"the scan has no files in a resource {DICOM}")
        uids = (self.study_instance_uid, self.series_instance_uid)
        if all(is_uid(each) for each in uids):
            return None
        code = "INVALID_UID" if all(uids) else "MISSING_UID"
        told = f"study {uids[0][:80]!r} and series {uids[1][:80]!r}"
        return RefusedObject(identifier, code, f"{told} are not both UIDs (PS3.5 9.1)")

    def entry(self, files: int) -> SeriesEntry:
        """The series that the scan is, with so many instances."""
        return SeriesEntry(self.study_instance_uid, self.series_instance_uid, self.modality, files, self.bytes)


def scans_of(experiment: str, item: dict[str, Any]) -> list[XnatScan]:
    """Scans of a session from its item in JSON.

    Raises
    ------
    NotUnderstood
        If it has another shape than XNAT gives.
    """
    try:
        study = str(item["data_fields"].get("UID", ""))
        return [_scan(experiment, study, each) for each in _children(item, "scans/scan")]
    except (LookupError, TypeError, AttributeError, ValueError) as exc:
        raise NotUnderstood("no session of XNAT's") from exc


def _scan(experiment: str, study: str, item: dict[str, Any]) -> XnatScan:
    fields = item["data_fields"]
    resource = next((each for each in map(_fields, _children(item, "file")) if each.get("label") == DICOM), None)
    modality = fields.get("modality") or _MODALITIES.get(str(item.get("meta", {}).get("xsi:type", "")).lower(), "")
    return XnatScan(
        experiment=experiment,
        scan=str(fields["ID"]),
        study_instance_uid=study,
        series_instance_uid=str(fields.get("UID", "")),
        modality=str(modality),
        files=_number(resource, "file_count"),
        bytes=_number(resource, "file_size"),
        has_dicom=resource is not None,
    )


def _fields(item: dict[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = item["data_fields"]
    return fields


def _children(item: dict[str, Any], field: str) -> Iterator[dict[str, Any]]:
    for child in item.get("children", ()):
        if child["field"] == field:
            yield from child["items"]


def _number(fields: dict[str, Any] | None, name: str) -> int | None:
    value = str((fields or {}).get(name, ""))
    return int(value) if value.isdecimal() else None


def subject_label(dataset: Dataset) -> str:
    """Label of the subject to whom an object belongs: Patient ID (0010,0020), or the study where it is empty.

    XNAT takes letters, digits, ``_`` and ``-``. Where others had to be replaced, part of a digest keeps
    two patients apart.
    """
    patient = str(dataset.get("PatientID") or "")
    if not patient:
        return label(str(dataset.StudyInstanceUID))
    cleaned = re.sub(r"[^A-Za-z0-9_-]", "_", patient)[:50]
    return cleaned if cleaned == patient else f"{cleaned}_{hashlib.sha256(patient.encode()).hexdigest()[:8]}"


def label(uid: str) -> str:
    """A UID as XNAT takes it in a label or an ID: with ``_`` for each dot."""
    return uid.replace(".", "_")


def session_type(modality: str) -> str:
    """XNAT's type of a session whose first object is of a modality."""
    return _SESSIONS.get(modality, "xnat:otherDicomSessionData")


def scan_type(modality: str) -> str:
    """XNAT's type of a scan of a modality."""
    return _SCANS.get(modality, "xnat:otherDicomScanData")
