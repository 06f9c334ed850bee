"""The connection under an association: what went over it, and why no association came of it."""

from __future__ import annotations

import socket
import time
from typing import Any, Final

from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.pdu import A_ABORT_RQ, A_ASSOCIATE_AC, A_ASSOCIATE_RJ
from pynetdicom.transport import AddressInformation, AssociationSocket

from ..http_session import Patience
from .address import DimseAddress
from .errors import DimseFault, FaultKind

_ACCEPTED = 0
_REJECTED_FOR_A_WHILE = 2
_UNKNOWN_TITLES: Final = {(1, 3), (1, 7)}
"""Source and diagnostic of a rejection for the calling or the called title (PS3.8 9.3.4)."""
_TITLES: Final = "tell the node our title, or name another: dimse://ITS_TITLE@HOST:PORT?aet=OUR_TITLE"


class Connection(socket.socket):
    """A connection that keeps why it could not be made, which pynetdicom only logs."""

    failure: OSError | None = None

    def connect(self, address: Any) -> None:
        """Connect; see `socket.socket.connect`."""
        try:
            super().connect(address)
        except OSError as exc:
            self.failure = exc
            raise


class Entity(AE):
    """An application entity that keeps its newest connection."""

    connection: Connection | None = None

    def _create_socket(self, assoc: Association, address: AddressInformation, tls_args: Any) -> AssociationSocket:
        made = super()._create_socket(assoc, address, tls_args)
        if made.socket is not None:
            made.socket = self.connection = Connection(fileno=made.socket.detach())
        return made


class Traffic:
    """What went over a connection, noted as it goes.

    `Association` loses what comes quickly: it finds the connection closed before it has looked whether there was
    one, and takes it for not made (pynetdicom 3.0.4, `ACSE._negotiate_as_requestor`).
    """

    def __init__(self) -> None:
        self.last_s = time.monotonic()
        self.received: list[Any] = []
        """Whatever of A-ASSOCIATE-AC, A-ASSOCIATE-RJ and A-ABORT came."""
        self.gave_up = False
        """Whether we sent an A-ABORT."""

    def receive(self, event: evt.Event) -> None:
        """Note a PDU that came."""
        self.last_s = time.monotonic()
        if isinstance(event.pdu, A_ASSOCIATE_AC | A_ASSOCIATE_RJ | A_ABORT_RQ):
            self.received.append(event.pdu)

    def send(self, event: evt.Event) -> None:
        """Note a PDU that went."""
        self.last_s = time.monotonic()
        self.gave_up = self.gave_up or isinstance(event.pdu, A_ABORT_RQ)

    def refusal(self, address: DimseAddress, patience: Patience) -> DimseFault:
        """Why an association does not stand, or stands no more."""
        who = f"{address.calling_aet} calling {address.called_aet}"
        for answer in self.received:
            if isinstance(answer, A_ASSOCIATE_RJ):
                return _rejection(answer, who)
            if isinstance(answer, A_ASSOCIATE_AC):
                contexts = answer.to_primitive().presentation_context_definition_results_list
                if all(each.result != _ACCEPTED for each in contexts):
                    reason = f"the node accepts no presentation context that this takes ({who})"
                    return DimseFault(FaultKind.LASTING, reason)
                return DimseFault(FaultKind.PASSING, f"the node accepted the association and broke it off ({who})")
        if self.received:
            return DimseFault(FaultKind.PASSING, f"the node aborted our request for an association ({who})")
        if self.gave_up:
            reason = f"the node did not answer our request for an association within {patience.connect_s:g} s ({who})"
            return DimseFault(FaultKind.PASSING, reason)
        return DimseFault(FaultKind.PASSING, f"the node closed the connection, and gave no association ({who})")


def unconnected(failure: OSError, address: DimseAddress, patience: Patience) -> DimseFault:
    """Why there is no connection with a node."""
    place = f"{address.host}:{address.port}"
    if isinstance(failure, socket.gaierror):
        reason = f"no connection: the name {address.host} has no address here ({failure.strerror})"
    elif isinstance(failure, ConnectionRefusedError):
        reason = f"no connection: {place} refuses it, so no node listens there"
    elif isinstance(failure, TimeoutError):
        reason = f"no connection with {place} within {patience.connect_s:g} s"
    else:
        reason = f"no connection with {place}: {failure.strerror or type(failure).__name__}"
    return DimseFault(FaultKind.PASSING, reason)


def _rejection(pdu: A_ASSOCIATE_RJ, who: str) -> DimseFault:
    answer = pdu.to_primitive()
    reason = f"the node rejects the association: {answer.reason_str} ({who})"
    if (answer.result_source, answer.diagnostic) in _UNKNOWN_TITLES:
        return DimseFault(FaultKind.DENIED, f"{reason}; {_TITLES}")
    return DimseFault(FaultKind.PASSING if answer.result == _REJECTED_FOR_A_WHILE else FaultKind.LASTING, reason)
