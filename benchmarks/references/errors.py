"""What can be wrong with an expert's file."""

from __future__ import annotations

from typing import ClassVar

from ... import Error


class InvalidReference(Error):
    """Base of what is wrong with an expert's file; names the file and what in it."""

    code = "INVALID_REFERENCE"
    refused: ClassVar[bool] = True

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(source, reason)

    def __str__(self) -> str:
        return f"reference {self.args[0]}: {self.args[1]}"


class UnreadableReference(InvalidReference):
    """A file that is not what its name or header says."""

    code = "REFERENCE_UNREADABLE"


class OtherPatient(InvalidReference):
    """A reference of another patient than the image's."""

    code = "OTHER_PATIENT"


class OtherSeries(InvalidReference):
    """A reference that names other series than the image's."""

    code = "OTHER_SERIES"


class OtherFrameOfReference(InvalidReference):
    """A reference whose coordinates are not those of the image."""

    code = "OTHER_FRAME_OF_REFERENCE"


class OutsideImage(InvalidReference):
    """A reference with voxels, contours or points where the image has no voxel."""

    code = "OUTSIDE_IMAGE"


class NothingUsable(InvalidReference):
    """A reference of which every structure had to be left out."""

    code = "NO_USABLE_STRUCTURE"


class GeometryUnknown(InvalidReference):
    """A reference that does not tell where it lies, or not evenly."""

    code = "REFERENCE_GEOMETRY"
