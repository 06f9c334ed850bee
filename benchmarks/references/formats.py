"""The formats of experts' files, in the order in which a file is tried."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from . import dicom_seg, lidc_xml, mdai_json, nifti, nrrd, rtstruct, tid1500
from .reference import ReferenceFormat

FORMATS: Final[tuple[ReferenceFormat, ...]] = (dicom_seg, rtstruct, tid1500, nifti, nrrd, mdai_json, lidc_xml)


def format_of(path: Path) -> ReferenceFormat | None:
    """Format of a file, or None if it is of no format that holds references."""
    return next((each for each in FORMATS if each.recognises(path)), None)
