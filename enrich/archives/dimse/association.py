"""Associations with a DICOM node (PS3.8): opened, refused, ended."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from socketserver import TCPServer
from threading import Thread, current_thread
from typing import Any, Final

from pydicom.uid import UID
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association
from pynetdicom.pdu import A_ASSOCIATE_RJ
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import ThreadedAssociationServer
from tenacity import (
    Retrying,
    retry_if_exception,
    retry_if_exception_type,
    stop_after_attempt,
    stop_after_delay,
    wait_exponential,
    wait_fixed,
)

from ..http_session import Patience
from .address import DimseAddress, Listener
from .errors import DimseFault, FaultKind

MAX_PDU_BYTES: Final = 1 << 18
"""Largest PDU that we take; dcmtk and Orthanc send at most 128 KiB."""
MAX_CONTEXTS: Final = 128
"""Presentation contexts of one association: odd numbers of one byte (PS3.8 9.3.2.2)."""
LONGEST_WAIT_S: Final = 120.0
_POLL_S = 0.02
_PORT_POLL_S = 0.1
_REJECTED_FOR_A_WHILE = 2
_UNKNOWN_TITLES: Final = {(1, 3), (1, 7)}
"""Source and diagnostic of a rejection for the calling or the called title (PS3.8 9.3.4)."""
_TITLES: Final = "tell the node our title, or name another: dimse://ITS_TITLE@HOST:PORT?aet=OUR_TITLE"
NegotiationItem = Any
"""pynetdicom gives its union of user information items no public name."""
Handlers = Sequence[tuple[evt.EventType, Callable[[evt.Event], Any]]]


@contextmanager
def associate(
    address: DimseAddress,
    patience: Patience,
    contexts: list[PresentationContext],
    received: Sequence[UID] = (),
    handlers: Handlers = (),
) -> Iterator[Association]:
    """An association with the node, released at the end and aborted if anything was raised.

    Parameters
    ----------
    received : sequence of UID
        Storage SOP classes whose objects the node may send us on this association (PS3.7 D.3.3.4).

    Raises
    ------
    DimseFault
        If there is no connection, or the node rejects us or each presentation context.
    """
    entity = _entity(address.calling_aet, patience)
    roles: list[NegotiationItem] = [build_role(uid, scp_role=True) for uid in received]

    def request() -> Association:
        rejections: list[A_ASSOCIATE_RJ] = []
        association = entity.associate(
            address.host,
            address.port,
            contexts,
            address.called_aet,
            MAX_PDU_BYTES,
            ext_neg=roles,
            evt_handlers=[
                (evt.EVT_CONN_OPEN, _send_at_once),
                (evt.EVT_PDU_RECV, _keep_rejection, [rejections]),
                *handlers,
            ],
        )
        if not association.is_established:
            raise _refusal(association, rejections, address, patience)
        _keep_responses(association)
        return association

    retrying = Retrying(
        stop=stop_after_attempt(patience.retries + 1),
        wait=wait_exponential(patience.backoff_s, max=LONGEST_WAIT_S),
        retry=retry_if_exception(lambda exc: isinstance(exc, DimseFault) and exc.kind is FaultKind.PASSING),
        reraise=True,
    )
    association = retrying(request)
    try:
        yield association
    except BaseException:
        association.abort()
        raise
    association.release()


@contextmanager
def listen(
    address: DimseAddress,
    at: Listener,
    patience: Patience,
    contexts: list[PresentationContext],
    handlers: Handlers,
) -> Iterator[None]:
    """Take associations from the node, and from nobody who calls itself otherwise, while the block runs.

    Processes of one machine share the port: each waits for it, as long as for an answer.

    Raises
    ------
    DimseFault
        If the port cannot be had.
    """
    entity = _entity(address.calling_aet, patience)
    entity.maximum_pdu_size = MAX_PDU_BYTES
    entity.require_called_aet = True
    entity.require_calling_aet = [address.called_aet]
    retrying = Retrying(
        stop=stop_after_delay(patience.read_s),
        wait=wait_fixed(_PORT_POLL_S),
        retry=retry_if_exception_type(OSError),
        reraise=True,
    )
    connected = [(evt.EVT_CONN_OPEN, _send_at_once), *handlers]
    try:
        server = retrying(
            entity.make_server,
            (at.host, at.port),
            evt_handlers=connected,
            contexts=contexts,
            server_class=ThreadedAssociationServer,
        )
    except OSError as exc:
        reason = f"we cannot listen on {at.host}:{at.port}: {exc.strerror}; another program may have the port"
        raise DimseFault(FaultKind.PASSING, reason) from exc
    # pynetdicom's own thread looks only twice a second whether it is to end.
    serving = Thread(target=server.serve_forever, args=(_POLL_S,), daemon=True)
    serving.start()
    try:
        yield
    finally:
        TCPServer.shutdown(server)  # its own wants to have been started by pynetdicom
        server.server_close()
        serving.join()


def accepted(association: Association) -> set[tuple[UID, UID]]:
    """Pairs of abstract syntax and transfer syntax that the node accepted with us as user."""
    return {
        (context.abstract_syntax, context.transfer_syntax[0])
        for context in association.accepted_contexts
        if context.as_scu and context.abstract_syntax is not None
    }


def silence(patience: Patience) -> str:
    """What to say when no response came."""
    return f"no answer within {patience.read_s:g} s, or the association broke"


def _entity(title: str, patience: Patience) -> AE:
    # Its messages quote what the node sends; we say what matters, once, in our own errors.
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)
    entity = AE(title)
    entity.connection_timeout = patience.connect_s
    entity.acse_timeout = patience.connect_s
    entity.dimse_timeout = patience.read_s
    entity.network_timeout = patience.read_s
    return entity


def _keep_responses(association: Association) -> None:
    """Let the association's own thread take requests only.

    It is to pause while `send_c_find` and the like wait for responses, but looks once more after it has said
    that it pauses (pynetdicom 3.0.4, `Association._run_reactor`): on a busy machine it then takes a response
    and drops it, and a match is missed in silence.
    """
    provider, take = association.dimse, association.dimse.get_msg

    def requests_only(block: bool = False) -> Any:
        if current_thread() is association:
            with provider.msg_queue.mutex:
                held = provider.msg_queue.queue
                response = bool(held) and held[0][1] is not None and not held[0][1].is_valid_request
            if response:
                return None, None
        return take(block)

    provider.get_msg = requests_only  # type: ignore[method-assign]


def _send_at_once(event: evt.Event) -> None:
    """Do not hold small PDUs back (Nagle's algorithm): without this Orthanc takes 12 objects a second, not 76."""
    connection = event.assoc.dul.socket
    if connection is not None and connection.socket is not None:
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _keep_rejection(event: evt.Event, rejections: list[A_ASSOCIATE_RJ]) -> None:
    """Keep a rejection, as `Association` loses one that comes quickly.

    It finds the connection closed before it has looked whether there was one, and takes it for not made
    (pynetdicom 3.0.4, `ACSE._negotiate_as_requestor`): from a node on this machine, up to each second time.
    """
    if isinstance(event.pdu, A_ASSOCIATE_RJ):
        rejections.append(event.pdu)


def _refusal(
    association: Association, rejections: list[A_ASSOCIATE_RJ], address: DimseAddress, patience: Patience
) -> DimseFault:
    """Why an association does not stand."""
    who = f"{address.calling_aet} calling {address.called_aet}"
    if rejections:
        answer = rejections[0].to_primitive()
        reason = f"the node rejects the association: {answer.reason_str} ({who})"
        if (answer.result_source, answer.diagnostic) in _UNKNOWN_TITLES:
            return DimseFault(FaultKind.DENIED, f"{reason}; {_TITLES}")
        return DimseFault(FaultKind.PASSING if answer.result == _REJECTED_FOR_A_WHILE else FaultKind.LASTING, reason)
    if association.acceptor.primitive is None:
        return DimseFault(FaultKind.PASSING, f"no association within {patience.connect_s:g} s ({who})")
    return DimseFault(FaultKind.LASTING, f"the node accepts no presentation context that this takes ({who})")
