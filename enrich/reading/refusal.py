"""Reasons for which a series is refused before any compute."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from ... import Error


class Refusal(StrEnum):
    """Code of a refusal; stable, recorded in the ledger."""

    UNREADABLE = "UNREADABLE"
    INVALID_UID = "INVALID_UID"
    UNSUPPORTED_SOP_CLASS = "UNSUPPORTED_SOP_CLASS"
    UNSUPPORTED_PIXELS = "UNSUPPORTED_PIXELS"
    MISSING_ATTRIBUTE = "MISSING_ATTRIBUTE"
    INVALID_ATTRIBUTE = "INVALID_ATTRIBUTE"
    LOCALIZER = "LOCALIZER"
    PROJECTION = "PROJECTION"
    MIXED_SERIES = "MIXED_SERIES"
    MIXED_SOP_CLASS = "MIXED_SOP_CLASS"
    MIXED_FRAME_OF_REFERENCE = "MIXED_FRAME_OF_REFERENCE"
    MIXED_MATRIX = "MIXED_MATRIX"
    MIXED_ORIENTATION = "MIXED_ORIENTATION"
    MIXED_SPACING = "MIXED_SPACING"
    SEVERAL_MULTIFRAME = "SEVERAL_MULTIFRAME"
    TOO_FEW_SLICES = "TOO_FEW_SLICES"
    DUPLICATE_INSTANCE = "DUPLICATE_INSTANCE"
    DUPLICATE_POSITION = "DUPLICATE_POSITION"
    GANTRY_TILT = "GANTRY_TILT"
    SCATTERED_POSITIONS = "SCATTERED_POSITIONS"
    MISSING_SLICE = "MISSING_SLICE"
    UNEVEN_SPACING = "UNEVEN_SPACING"

    @property
    def rule(self) -> str:
        """The rule that the series breaks, one sentence for people."""
        return _RULES[self]


_RULES: dict[Refusal, str] = {
    Refusal.UNREADABLE: "Every file must be a whole DICOM file (PS3.10) whose pixel data can be decoded.",
    Refusal.INVALID_UID: "Every UID must be digits and dots, at most 64 characters (PS3.5 9.1).",
    Refusal.UNSUPPORTED_SOP_CLASS: "Only CT, MR and PET images, single-frame or enhanced, form a volume here.",
    Refusal.UNSUPPORTED_PIXELS: "Pixels must be one grey sample with a linear rescale (PS3.3 C.7.6.3, C.11.1).",
    Refusal.MISSING_ATTRIBUTE: "What places a slice in the patient must be there (PS3.3 C.7.6.2).",
    Refusal.INVALID_ATTRIBUTE: "Positions must be finite, spacings positive, row and column orthogonal.",
    Refusal.LOCALIZER: "No image may have LOCALIZER in its Image Type (0008,0008).",
    Refusal.PROJECTION: "No image may have MIP in its Image Type (0008,0008): a projection is no slice.",
    Refusal.MIXED_SERIES: "All instances must bear one Study and one Series Instance UID.",
    Refusal.MIXED_SOP_CLASS: "All instances must be of one SOP class.",
    Refusal.MIXED_FRAME_OF_REFERENCE: "All slices must lie in one frame of reference.",
    Refusal.MIXED_MATRIX: "All slices must have the same Rows and Columns.",
    Refusal.MIXED_ORIENTATION: "All slices must have the same Image Orientation (Patient).",
    Refusal.MIXED_SPACING: "All slices must have the same Pixel Spacing.",
    Refusal.SEVERAL_MULTIFRAME: "An enhanced multi-frame series must be one instance.",
    Refusal.TOO_FEW_SLICES: "A volume needs at least four slices.",
    Refusal.DUPLICATE_INSTANCE: "No two instances may have the same SOP Instance UID.",
    Refusal.DUPLICATE_POSITION: "No two slices may lie at the same position.",
    Refusal.GANTRY_TILT: "Slices must be stacked along their normal, not sheared as under a tilted gantry.",
    Refusal.SCATTERED_POSITIONS: "The corners of the slices must lie on one straight line.",
    Refusal.MISSING_SLICE: "No slice may be missing: no gap may be a multiple of the usual one.",
    Refusal.UNEVEN_SPACING: "Gaps between slices must be equal within 1 %.",
}


class GeometryRefused(Error):
    """A series that is not one regular volume, or cannot be read as one; nothing was computed."""

    refused: ClassVar[bool] = True

    def __init__(self, series_instance_uid: str, code: Refusal, detail: str) -> None:
        super().__init__(series_instance_uid, code, detail)
        self.code: str = code.value
        self.detail = detail

    def __str__(self) -> str:
        return f"series {self.args[0] or '(no UID)'}: {self.detail}"
