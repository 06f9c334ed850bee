"""The Archive protocol: search, retrieve and store, DICOMweb's verbs, for every archive."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

from ... import Error

if TYPE_CHECKING:
    # Half a second to import, and a ledger's records need none of it.
    from pydicom import Dataset

    from ..series import Series


class ArchiveError(Error):
    """Base of what goes wrong between us and an archive; names the archive, the object and what to do.

    Attributes
    ----------
    next_step : str
        Ends the message; empty where the reason itself says what to do.
    """

    code = "ARCHIVE_ERROR"
    next_step: ClassVar[str] = ""

    def __init__(self, uri: str, identifier: str, reason: str) -> None:
        super().__init__(uri, identifier, reason)

    def __str__(self) -> str:
        uri, identifier, reason = self.args
        said = f"{uri}: {identifier}: {reason}" if identifier else f"{uri}: {reason}"
        return f"{said}; {self.next_step}" if self.next_step else said


class SearchError(ArchiveError):
    """The archive could not be listed."""

    code = "SEARCH_FAILED"
    next_step = "check the address"


class SourceNotThere(SearchError):
    """No archive is at that address."""

    code = "SOURCE_NOT_THERE"


class SearchUnanswered(SearchError):
    """The archive did not answer a search, or answered that it cannot just now."""

    code = "ARCHIVE_UNAVAILABLE"
    next_step = "try again later"
    retryable = True


class AccessDenied(ArchiveError):
    """The archive answered 401 or 403, or the file system refused."""

    code = "ACCESS_DENIED"


class RetrieveError(ArchiveError):
    """The archive gave no series, or not the whole of it."""

    code = "RETRIEVE_FAILED"
    next_step = "try again"
    retryable = True


class NotThere(RetrieveError):
    """The archive holds no such series."""

    code = "NOT_THERE"
    next_step = "search again"
    retryable = False


class StoreError(ArchiveError):
    """An object was not stored, or did not come back as it was sent."""

    code = "STORE_FAILED"
    next_step = "try again"
    retryable = True


class StoreRefused(StoreError):
    """The object breaks a rule of DICOM or of the archive: sending it again changes nothing."""

    code = "STORE_REFUSED"
    next_step = "leave the object out, or name another target"
    retryable = False


class NoSpace(StoreError):
    """The archive is full, or its quota is spent."""

    code = "NO_SPACE"
    next_step = "make room there, or name another target"
    retryable = False


class ReadBackDiffers(StoreError):
    """The archive took the object and gives back another one."""

    code = "READ_BACK_DIFFERS"
    next_step = "name another target"
    retryable = False


class StoreConflict(ArchiveError):
    """The archive holds another object under the same SOP Instance UID."""

    code = "STORE_CONFLICT"
    next_step = "retract the other one, or name another target"


@dataclass(frozen=True, slots=True)
class SeriesEntry:
    """One series that an archive holds, as its search tells."""

    study_instance_uid: str
    series_instance_uid: str
    modality: str
    instances: int
    bytes: int | None = None
    """Size of all instances, or None where the archive does not say."""
    licence: str = ""
    """Under which the series may be used, as the archive names it; empty where it does not say."""
    doi: str = ""
    """Of the data set to cite, without ``https://doi.org/``; empty where the archive does not say."""


@dataclass(frozen=True, slots=True)
class RefusedObject:
    """Something found by a search that is no usable DICOM instance."""

    identifier: str
    """Path within the archive, or SOP Instance UID; never a patient's name."""
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object that was stored, read back and found equal."""

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    uri: str
    sha256: str
    """Of the data set (`enrich.digest.dataset_digest`), not of the file."""
    bytes: int
    already_there: bool = False
    """Whether an equal object was found and nothing was sent."""


class Archive(Protocol):
    """A place that holds DICOM. Opened by `enrich.archives.opening.open_archive(uri)`."""

    @property
    def uri(self) -> str:
        """Where it is, without secrets."""
        ...

    def search(self) -> Iterator[SeriesEntry | RefusedObject]:
        """Every series, each once, ordered by UID; and what is there but cannot be used.

        Raises
        ------
        SearchError, AccessDenied
            If the archive cannot be listed at all.
        """
        ...

    def retrieve(self, entry: SeriesEntry, into: Path) -> Series:
        """All instances of one series on local disk, in `into` if they must be copied.

        Raises
        ------
        RetrieveError, AccessDenied
            If the series is not there or not complete.
        """
        ...

    def store(self, dataset: Dataset) -> StoredObject:
        """Store one object if it is absent, read it back, compare.

        Raises
        ------
        StoreConflict
            If a different object is there under the same UID; it is left as it was.
        StoreError, AccessDenied
            If the object could not be stored or came back changed.
        """
        ...

    def probe(self) -> None:
        """Find out, before any work, that objects can be stored here; as far as that can be told.

        Raises
        ------
        SearchError, StoreError, AccessDenied
            If the archive does not answer, or nothing can be written to it.
        """
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...
