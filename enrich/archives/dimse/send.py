"""C-STORE (PS3.4 B) in a transfer syntax that the node takes, and storage commitment (PS3.4 J)."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from queue import Empty, Queue
from threading import Thread, current_thread
from typing import Final

import pydicom
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.filereader import read_file_meta_info
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    generate_uid,
)
from pynetdicom import _config, build_context, evt
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)

from ...digest import dataset_digest
from ..header import DAMAGE
from ..http_session import Patience
from ..storing import Outgoing
from ..uids import ObjectUids
from .address import DimseAddress
from .association import MAX_CONTEXTS, Handlers, accepted, associate, listen, silence
from .errors import DimseFault, FaultKind, check_status

_LITTLE_ENDIAN: Final = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian)
"""Between these the bytes of pixel data stay as they are."""
_REQUEST_COMMITMENT: Final = 1
"""Action Type ID (PS3.4 J.3.2)."""
_COMMITMENT: Final = UID(StorageCommitmentPushModel)
_Report = tuple[Dataset, Thread]
"""A report, and the thread that answers the node that it came."""


def send(address: DimseAddress, patience: Patience, outgoing: Outgoing) -> None:
    """Send one object as it is encoded, or in plain little endian where the node wants that and it is the same.

    Raises
    ------
    DimseFault
        If the node takes no encoding that keeps the data set equal, or says that it did not store.
    """
    dataset = pydicom.dcmread(outgoing.path)
    own = UID(dataset.file_meta.TransferSyntaxUID)
    offered = [own, *(each for each in _LITTLE_ENDIAN[:2] if own in _LITTLE_ENDIAN and each != own)]
    contexts = [build_context(outgoing.uids.sop_class_uid, each) for each in offered]
    with associate(address, patience, contexts) as association:
        taken = {syntax for _, syntax in accepted(association)}
        for syntax in (each for each in offered if each in taken):
            sent = dataset if syntax == own else _reencoded(dataset, syntax)
            if sent is not None:
                check_status(association.send_c_store(sent), "C-STORE", silence(patience))
                return
    raise DimseFault(FaultKind.LASTING, f"the node takes no encoding that keeps the object equal ({own.name})")


def send_all(address: DimseAddress, patience: Patience, outgoing: Sequence[Outgoing]) -> None:
    """Send objects over one association, each as it is encoded; what the node does not take so is left out.

    Raises
    ------
    DimseFault
        If there is no association, or the node says of an object that it did not store it.
    """
    syntaxes = [UID(read_file_meta_info(each.path).TransferSyntaxUID) for each in outgoing]
    wanted = {(each.uids.sop_class_uid, syntax) for each, syntax in zip(outgoing, syntaxes, strict=True)}
    if not wanted:
        return
    contexts = [build_context(*each) for each in sorted(wanted)][:MAX_CONTEXTS]
    _config.STORE_SEND_CHUNKED_DATASET = True  # a path is then sent as its file is, without being decoded
    with associate(address, patience, contexts) as association:
        taken = accepted(association)
        for each, syntax in zip(outgoing, syntaxes, strict=True):
            if (each.uids.sop_class_uid, syntax) in taken:
                check_status(association.send_c_store(each.path), "C-STORE", silence(patience))


def _reencoded(dataset: Dataset, syntax: UID) -> Dataset | None:
    """The data set in another of the little-endian transfer syntaxes; None if it would not be equal."""
    buffer = BytesIO()
    twin = Dataset(dataset)
    twin.file_meta = FileMetaDataset(dataset.file_meta)
    twin.file_meta.TransferSyntaxUID = syntax
    try:
        pydicom.dcmwrite(buffer, twin, enforce_file_format=True)
        buffer.seek(0)
        back = pydicom.dcmread(buffer)
        return back if dataset_digest(back) == dataset_digest(dataset) else None
    except DAMAGE:
        return None


def commit(address: DimseAddress, patience: Patience, uids: ObjectUids) -> None:
    """Ask the node to take responsibility for one object, and wait for its report.

    Raises
    ------
    DimseFault
        If it does not offer storage commitment, reports a failure or does not report in time.
    """
    if address.commit_to is None:
        raise ValueError(address.uri)
    transaction, reports = generate_uid(), Queue[_Report]()
    request = Dataset()
    request.TransactionUID = transaction
    request.ReferencedSOPSequence = [_reference(uids)]

    def report(event: evt.Event) -> tuple[int, None]:
        reports.put((event.event_information, current_thread()))
        return 0, None

    handlers: Handlers = [(evt.EVT_N_EVENT_REPORT, report)]
    with (
        listen(address, address.commit_to, patience, [_reporting()], handlers),
        associate(address, patience, [build_context(_COMMITMENT)], handlers=handlers) as association,
    ):
        status, _ = association.send_n_action(
            request, _REQUEST_COMMITMENT, _COMMITMENT, UID(StorageCommitmentPushModelInstance)
        )
        check_status(status, "N-ACTION", silence(patience))
        _await_report(reports, transaction, uids, patience)


def _await_report(reports: Queue[_Report], transaction: str, uids: ObjectUids, patience: Patience) -> None:
    while True:
        try:
            report, answering = reports.get(timeout=patience.read_s)
        except Empty as exc:
            reason = f"no report of storage commitment within {patience.read_s:g} s: does the node know our address?"
            raise DimseFault(FaultKind.PASSING, reason) from exc
        # Its thread answers the node, and must be done before we release: pynetdicom 3.0.4 sends no answer after that,
        # and waits for ever where the thread's end comes between (`Association.release`).
        answering.join(patience.read_s)
        if report.get("TransactionUID") == transaction:
            break
    committed = {str(each.ReferencedSOPInstanceUID) for each in report.get("ReferencedSOPSequence") or ()}
    if uids.sop_instance_uid not in committed:
        failed = report.get("FailedSOPSequence") or [Dataset()]
        code = int(failed[0].get("FailureReason") or 0)
        raise DimseFault(FaultKind.PASSING, f"the node does not commit itself to keep the object ({code:04X}H)")


def _reference(uids: ObjectUids) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID = uids.sop_class_uid
    reference.ReferencedSOPInstanceUID = uids.sop_instance_uid
    return reference


def _reporting() -> PresentationContext:
    """Context in which the node calls us back, as provider or, as some do, without naming a role."""
    context = build_context(_COMMITMENT)
    context.scu_role = context.scp_role = True
    return context
