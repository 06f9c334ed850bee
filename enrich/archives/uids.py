"""The UIDs by which an object is filed, checked before anything is done with them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pydicom import Dataset

from .archive import StoredObject

MAX_UID_CHARACTERS = 64
"""PS3.5 9.1."""
_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))*", re.ASCII)


@dataclass(frozen=True, slots=True)
class ObjectUids:
    """Under which UIDs an object stands in an archive."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str

    def stored(self, uri: str, sha256: str, size: int, *, already_there: bool) -> StoredObject:
        """The record of such an object, stored at `uri`, read back and found equal."""
        return StoredObject(
            self.sop_class_uid, self.sop_instance_uid, self.series_instance_uid, uri, sha256, size, already_there
        )


@dataclass(frozen=True, slots=True)
class UidFault:
    """Why an object cannot be filed: ``MISSING_UID`` or ``INVALID_UID``, and one line for people."""

    code: str
    reason: str


def is_uid(value: str) -> bool:
    """Whether a string keeps the rule for UIDs (PS3.5 9.1): digits, dots, no leading zeros, 64 characters."""
    return len(value) <= MAX_UID_CHARACTERS and _UID.fullmatch(value) is not None


def object_uids(dataset: Dataset) -> ObjectUids | UidFault:
    """UIDs of study, series, instance and class, or the first fault among them."""
    values = []
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"):
        value = str(dataset.get(keyword) or "")
        if not value:
            return UidFault("MISSING_UID", f"{keyword} is absent or empty (type 1 in PS3.3 C.12.1, C.7.2.1, C.7.3.1)")
        if not is_uid(value):
            shown = f"{value[:80]!r}" + (f" of {len(value)} characters" if len(value) > MAX_UID_CHARACTERS else "")
            return UidFault("INVALID_UID", f"{keyword} {shown} is not digits and dots, at most 64 (PS3.5 9.1)")
        values.append(value)
    return ObjectUids(*values)
