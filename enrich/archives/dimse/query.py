"""C-FIND, C-GET and C-MOVE (PS3.4 C) in the Study Root model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Final

from pydicom import Dataset
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)
from pynetdicom import build_context, evt
from pynetdicom.association import Association
from pynetdicom.presentation import (
    AllStoragePresentationContexts,
    PresentationContext,
    StoragePresentationContexts,
)
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from ..http_session import Patience
from ..uids import is_uid
from .address import DimseAddress
from .association import MAX_CONTEXTS, Handlers, accepted, associate, listen, silence
from .errors import PENDING, DimseFault, FaultKind, check_status

TRANSFER_SYNTAXES: Final = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    RLELossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    JPEG2000Lossless,
    JPEG2000,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    HTJ2K,
)
"""In which we take objects: each in a presentation context of its own, so that none is decoded for us."""
_FIND: Final = UID(StudyRootQueryRetrieveInformationModelFind)
_GET: Final = UID(StudyRootQueryRetrieveInformationModelGet)
_MOVE: Final = UID(StudyRootQueryRetrieveInformationModelMove)
_MOVE_ADVICE: Final = "for C-MOVE tell it our title and port, and put ?move=PORT into the address"
_CANNOT_UNDERSTAND, _OUT_OF_RESOURCES = 0xC000, 0xA700


class Received:
    """Objects that a node sends us, written as they come.

    Parameters
    ----------
    into : Path
        Folder, which is there; each object becomes ``INSTANCE.dcm``.
    """

    def __init__(self, into: Path) -> None:
        self._into = into
        self.paths: dict[str, Path] = {}
        self.error: OSError | DimseFault | None = None

    def keep(self, event: evt.Event) -> int:
        """Write one object; gives the status of its C-STORE response."""
        sop_instance_uid = str(getattr(event.request, "AffectedSOPInstanceUID", ""))
        if not is_uid(sop_instance_uid):
            reason = f"the node gave an object as {sop_instance_uid[:80]!r}, which is no UID (PS3.5 9.1)"
            self.error = DimseFault(FaultKind.LASTING, reason)
            return _CANNOT_UNDERSTAND
        path = self._into / f"{sop_instance_uid}.dcm"
        try:
            path.write_bytes(event.encoded_dataset())
        except OSError as exc:
            self.error = exc
            return _OUT_OF_RESOURCES
        self.paths[sop_instance_uid] = path
        return 0


class Query:
    """A conversation in which the node is searched and gives what it holds; made by `querying`."""

    def __init__(self, association: Association, address: DimseAddress, patience: Patience) -> None:
        self._association, self._address, self._patience = association, address, patience

    def find(self, level: str, **keys: str) -> list[Dataset]:
        """All matches at a level; a key with an empty value is asked for.

        Raises
        ------
        DimseFault
            If the node refuses, falls silent, or gives a match that cannot be read.
        """
        matches = []
        for status, match in self._association.send_c_find(_request(level, keys), _FIND):
            check_status(status, "C-FIND", silence(self._patience))
            if status.Status not in PENDING:
                break
            if match is None:
                raise DimseFault(FaultKind.LASTING, "C-FIND: a match cannot be understood")
            matches.append(match)
        return matches

    def check_gives(self, sop_class_uid: str) -> None:
        """Check that objects of a class can be had back, before one is sent.

        Raises
        ------
        DimseFault
            If the node has no C-GET, or none for this class: Orthanc with dcmtk 3.6.7 has none for LABELMAP.
        """
        if self._address.move_to is not None:
            return
        given = {each.abstract_syntax for each in self._association.accepted_contexts if each.as_scp}
        if sop_class_uid not in given:
            name = UID(sop_class_uid).name
            reason = f"the node does not give {name} by C-GET, so nothing could be read back; {_MOVE_ADVICE}"
            raise DimseFault(FaultKind.LASTING, reason)

    def fetch(self, received: Received, level: str, **keys: str) -> None:
        """Let the node send what the keys name to `received`, by C-GET, or by C-MOVE if we listen.

        Raises
        ------
        DimseFault
            If the node cannot or does not.
        OSError
            If an object cannot be written.
        """
        moved = self._address.move_to is not None
        verb, model = ("C-MOVE", _MOVE) if moved else ("C-GET", _GET)
        if model not in {abstract for abstract, _ in accepted(self._association)}:
            other = (
                "" if moved else "; if it has C-MOVE, tell it our title and port and put ?move=PORT into the address"
            )
            raise DimseFault(FaultKind.LASTING, f"the node does not offer {verb}{other}")
        request = _request(level, keys)
        with self._listening(received) if moved else nullcontext():
            answers = (
                self._association.send_c_move(request, self._address.calling_aet, model)
                if moved
                else self._association.send_c_get(request, model)
            )
            for status, _ in answers:
                if received.error is not None:
                    raise received.error
                check_status(status, verb, silence(self._patience))
        if received.error is not None:
            raise received.error

    @contextmanager
    def _listening(self, received: Received) -> Iterator[None]:
        if self._address.move_to is None:
            raise ValueError(self._address.uri)
        contexts = [
            build_context(each.abstract_syntax, list(TRANSFER_SYNTAXES))
            for each in AllStoragePresentationContexts
            if each.abstract_syntax is not None
        ]
        handlers: Handlers = [(evt.EVT_C_STORE, received.keep)]
        with listen(self._address, self._address.move_to, self._patience, contexts, handlers):
            yield


@contextmanager
def querying(
    address: DimseAddress, patience: Patience, classes: Sequence[str] = (), received: Received | None = None
) -> Iterator[Query]:
    """Open a conversation; with `received`, objects of the SOP classes named may come back in it.

    A node need not tell SOP classes (PS3.4 C.6.2.1.4): where it tells none, the usual ones are offered.

    Raises
    ------
    DimseFault
        If no association can be had.
    """
    contexts = [build_context(_FIND)]
    handlers: Handlers = ()
    taken: list[UID] = []
    if received is not None and address.move_to is not None:
        contexts.append(build_context(_MOVE))
    elif received is not None:
        taken = [UID(each) for each in classes if each] or _every_class()
        contexts += [build_context(_GET), *_storage(taken)]
        handlers = [(evt.EVT_C_STORE, received.keep)]
    with associate(address, patience, contexts, taken, handlers) as association:
        yield Query(association, address, patience)


def _storage(classes: Sequence[UID]) -> list[PresentationContext]:
    """One context for each class and transfer syntax; one for each class where those are too many."""
    if len(classes) * len(TRANSFER_SYNTAXES) <= MAX_CONTEXTS - 2:
        return [build_context(each, syntax) for each in classes for syntax in TRANSFER_SYNTAXES]
    return [build_context(each, list(TRANSFER_SYNTAXES)) for each in classes[: MAX_CONTEXTS - 2]]


def _every_class() -> list[UID]:
    contexts = StoragePresentationContexts[: MAX_CONTEXTS - 2]
    return [each.abstract_syntax for each in contexts if each.abstract_syntax is not None]


def _request(level: str, keys: dict[str, str]) -> Dataset:
    request = Dataset()
    request.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(request, keyword, value)
    return request
