"""Associations with a DICOM node (PS3.8): opened, refused, ended."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from queue import Empty
from socketserver import TCPServer
from threading import Thread, current_thread
from typing import Any, Final

from pydicom.uid import UID
from pynetdicom import build_role, evt
from pynetdicom.association import Association
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
from .connection import Entity, Traffic, unconnected
from .errors import DimseFault, FaultKind

MAX_PDU_BYTES: Final = 1 << 18
"""Largest PDU that we take; dcmtk and Orthanc send at most 128 KiB."""
MAX_CONTEXTS: Final = 128
"""Presentation contexts of one association: odd numbers of one byte (PS3.8 9.3.2.2)."""
LONGEST_WAIT_S: Final = 120.0
_POLL_S = 0.02
_PORT_POLL_S = 0.1
_END_POLL_S = 0.2
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
        If there is no connection, or the node rejects us or each presentation context, or breaks the association.
    """
    entity = _entity(address.calling_aet, patience)
    roles: list[NegotiationItem] = [build_role(uid, scp_role=True) for uid in received]

    def request() -> Association:
        traffic = Traffic()
        try:
            association = entity.associate(
                address.host,
                address.port,
                contexts,
                address.called_aet,
                MAX_PDU_BYTES,
                ext_neg=roles,
                evt_handlers=[
                    (evt.EVT_CONN_OPEN, _set_up, [patience]),
                    (evt.EVT_PDU_RECV, traffic.receive),
                    (evt.EVT_PDU_SENT, traffic.send),
                    *handlers,
                ],
            )
        except OSError as exc:
            raise unconnected(exc, address, patience) from exc
        if entity.connection is not None and entity.connection.failure is not None:
            raise unconnected(entity.connection.failure, address, patience)
        if not association.is_established:
            raise traffic.refusal(address, patience)
        _keep_order(association, traffic, patience)
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
    except BaseException as exc:
        ended = type(exc) is RuntimeError and not association.is_established  # what pynetdicom raises for it
        association.abort()
        if ended:
            raise DimseFault(FaultKind.PASSING, "the node broke off the association") from exc
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

    When the block has raised, none of its associations goes on: nothing of them is handled afterwards.
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
    connected = [(evt.EVT_CONN_OPEN, _set_up, [patience]), *handlers]
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
    except BaseException:
        _close(server, serving)
        _break_off(server.active_associations, patience)
        raise
    _close(server, serving)


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


def _close(server: ThreadedAssociationServer, serving: Thread) -> None:
    TCPServer.shutdown(server)  # its own wants to have been started by pynetdicom
    server.server_close()
    serving.join()


def _break_off(associations: Sequence[Association], patience: Patience) -> None:
    """End associations, whatever they are at, and wait until none handles anything more."""
    for each in associations:
        connection = each.dul.socket
        if connection is not None and connection.socket is not None:
            with suppress(OSError):
                connection.socket.shutdown(socket.SHUT_RDWR)
    for each in associations:
        each.join(patience.read_s)


def _entity(title: str, patience: Patience) -> Entity:
    # Its messages quote what the node sends; we say what matters, once, in our own errors.
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)
    entity = Entity(title)
    entity.connection_timeout = patience.connect_s
    entity.acse_timeout = patience.connect_s
    entity.dimse_timeout = patience.read_s
    entity.network_timeout = patience.read_s
    return entity


def _keep_order(association: Association, traffic: Traffic, patience: Patience) -> None:
    """Let responses go to who waits for them, and let none wait for a connection that has ended (pynetdicom 3.0.4).

    The association's own thread is to pause while `send_c_find` and the like wait for responses, but looks once more
    after it has said that it pauses (`Association._run_reactor`): on a busy machine it then takes a response and
    drops it, and a match is missed in silence; or it takes the word that the association ended. So it gets requests
    only. Who waits looks whether the connection still stands, and waits as long as data come or go.
    """
    queue, provider, receive = association.dimse.msg_queue, association.dul, association.dul.receive_pdu

    def take(block: bool = False) -> Any:
        if current_thread() is association:
            with queue.mutex:
                held = queue.queue
                request = bool(held) and held[0][1] is not None and held[0][1].is_valid_request
                return held.popleft() if request else (None, None)
        begun_s = time.monotonic()
        while True:
            ended = not provider.is_alive()
            try:
                return queue.get(block, _END_POLL_S)
            except Empty:
                silent = time.monotonic() - max(begun_s, traffic.last_s) > patience.read_s
                if ended or silent or not block:
                    return None, None

    def primitive(wait: bool = False, timeout: float | None = None) -> Any:
        until_s = time.monotonic() + (patience.connect_s if timeout is None else timeout)
        while True:
            ended = not provider.is_alive()
            found = receive(wait, _END_POLL_S)
            if found is not None or ended or not wait or time.monotonic() > until_s:
                return found

    association.dimse.get_msg = take  # type: ignore[method-assign]
    provider.receive_pdu = primitive  # type: ignore[method-assign]


def _set_up(event: evt.Event, patience: Patience) -> None:
    """Do not hold small PDUs back, nor wait for ever for the rest of one.

    Without the first (Nagle's algorithm) Orthanc takes 12 objects a second, not 76; without the second a node that
    falls silent in the midst of a PDU holds the thread that reads, and `abort` waits for that thread.
    """
    connection = event.assoc.dul.socket
    if connection is not None and connection.socket is not None:
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.socket.settimeout(patience.read_s)
