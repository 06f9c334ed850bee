"""What a DICOM node answers, or does not, as errors of ours: translated once, here."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Final

from pydicom import Dataset

from ..archive import (
    AccessDenied,
    ArchiveError,
    NoSpace,
    RetrieveError,
    SearchError,
    SearchUnanswered,
    StoreError,
    StoreRefused,
)
from ..header import DAMAGE

SUCCESS: Final = 0x0000
PENDING: Final = (0xFF00, 0xFF01)
_WARNINGS: Final = range(0xB000, 0xC000)
_OUT_OF_RESOURCES: Final = range(0xA700, 0xA800)
_UNABLE_TO_PROCESS: Final = range(0xC000, 0xD000)
"""Of a retrieval also if an object did not reach us, as when Orthanc waits for us more than 10 s."""
_MEANINGS: Final = {
    0x0110: "processing failure",
    0x0111: "duplicate SOP instance",
    0x0112: "no such SOP instance",
    0x0117: "invalid SOP Instance UID",
    0x0118: "no such SOP class",
    0x0119: "class and instance disagree",
    0x0122: "SOP class not supported",
    0x0124: "not authorised",
    0x0131: "duplicate transaction UID",
    0x0211: "unrecognised operation",
    0x0213: "resource limitation",
    0xA801: "move destination unknown: tell the node our title and port",
}
"""PS3.7 annex C; PS3.4 C.4.2.1.5."""
_MAY_PASS: Final = frozenset({0x0110, 0x0213})


class FaultKind(Enum):
    """What a fault of the node means for trying again."""

    PASSING = "passing"
    LASTING = "lasting"
    DENIED = "denied"
    FULL = "full"


class DimseFault(Exception):
    """Something went wrong between us and a node; becomes an `ArchiveError` in `dimse_errors`."""

    def __init__(self, kind: FaultKind, reason: str) -> None:
        super().__init__(kind, reason)
        self.kind, self.reason = kind, reason


Errors = Mapping[FaultKind, type[ArchiveError]]
SEARCH: Final[Errors] = {
    FaultKind.PASSING: SearchUnanswered,
    FaultKind.LASTING: SearchError,
    FaultKind.DENIED: AccessDenied,
    FaultKind.FULL: SearchError,
}
RETRIEVE: Final[Errors] = {
    FaultKind.PASSING: RetrieveError,
    FaultKind.LASTING: RetrieveError,
    FaultKind.DENIED: AccessDenied,
    FaultKind.FULL: RetrieveError,
}
STORE: Final[Errors] = {
    FaultKind.PASSING: StoreError,
    FaultKind.LASTING: StoreRefused,
    FaultKind.DENIED: AccessDenied,
    FaultKind.FULL: NoSpace,
}


@contextlib.contextmanager
def errors_as(errors: Errors, uri: str, identifier: str) -> Iterator[None]:
    """Translate what a conversation with a node, or reading what it gave, raises."""
    try:
        yield
    except DimseFault as exc:
        raise errors[exc.kind](uri, identifier, exc.reason) from exc
    except ArchiveError:
        raise
    except OSError as exc:
        reason = f"cannot be written here: {exc.strerror or type(exc).__name__}"
        raise errors[FaultKind.PASSING](uri, identifier, reason) from exc
    except DAMAGE as exc:
        reason = f"the answer cannot be understood ({type(exc).__name__})"
        raise errors[FaultKind.PASSING](uri, identifier, reason) from exc


def check_status(status: Dataset, verb: str, silence: str) -> None:
    """Check the Status (0000,0900) of a response; a warning is no fault, what comes back decides.

    Parameters
    ----------
    status : pydicom.Dataset
        Empty if no response came.
    verb : str
        ``C-FIND`` and the like, for the message.
    silence : str
        What to say if no response came.

    Raises
    ------
    DimseFault
        If there is no response, or it names a failure.
    """
    if "Status" not in status:
        raise DimseFault(FaultKind.PASSING, f"{verb}: {silence}")
    code = int(status.Status)
    if code == SUCCESS or code in PENDING or code in _WARNINGS:
        return
    meaning = "out of resources" if code in _OUT_OF_RESOURCES else _MEANINGS.get(code, "failure")
    reason = f"{verb}: the node says {meaning} ({code:04X}H)"
    passing = (code in _OUT_OF_RESOURCES and verb != "C-STORE") or (
        code in _UNABLE_TO_PROCESS and verb in {"C-GET", "C-MOVE"}
    )
    raise DimseFault(FaultKind.PASSING if passing else _kind(code), reason)


def _kind(code: int) -> FaultKind:
    if code in _OUT_OF_RESOURCES:
        return FaultKind.FULL
    if code == 0x0124:  # noqa: PLR2004 - named in _MEANINGS
        return FaultKind.DENIED
    return FaultKind.PASSING if code in _MAY_PASS else FaultKind.LASTING
