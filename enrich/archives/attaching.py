"""Files beside DICOM objects, for archives that keep any: label maps, tables, provenance."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

from ... import Error

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}", re.ASCII)


class InvalidAttachment(Error):
    """A file that cannot be attached under the name given."""

    code = "INVALID_ATTACHMENT"

    def __init__(self, folder: str, name: str) -> None:
        super().__init__(folder, name)

    def __str__(self) -> str:
        folder, name = self.args
        return f"{folder!r}/{name!r}: names of attachments are of A-Z, a-z, 0-9, '.', '_' and '-', 200 at most"


@dataclass(frozen=True, slots=True)
class Attachment:
    """One file to be kept with a study."""

    study_instance_uid: str
    folder: str
    name: str
    path: Path

    def __post_init__(self) -> None:
        if not (_NAME.fullmatch(self.folder) and _NAME.fullmatch(self.name)):
            raise InvalidAttachment(self.folder, self.name)


@runtime_checkable
class TakesFiles(Protocol):
    """An archive that keeps files that are no DICOM beside a study; others are never asked."""

    def attach(self, attachment: Attachment) -> str:
        """Store one file if it is absent, read it back, compare; gives its address.

        Raises
        ------
        StoreConflict
            If another file is there under that name; it is left as it was.
        StoreError, AccessDenied
            If it could not be stored, the study is not there, or it came back changed.
        """
        ...
