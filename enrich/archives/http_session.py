"""HTTP as we use it with DICOMweb archives: retries, time-outs, and errors in one sentence."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

import requests
from dicomweb_client.web import DICOMwebClient
from requests.adapters import HTTPAdapter
from urllib3 import BaseHTTPResponse
from urllib3.connectionpool import ConnectionPool
from urllib3.exceptions import ReadTimeoutError
from urllib3.util import Retry

from .credentials import credentials_for

BUSY: Final = (429, 502, 503, 504)
"""Status codes that say: not now."""


_TAIL_BYTES = 256
"""Longer than a closing boundary, of at most 70 characters, and what may follow it."""
_SENTENCES: Final[tuple[tuple[type[Exception], str], ...]] = (
    (requests.ConnectTimeout, "no connection within {patience.connect_s:g} s"),
    (requests.ReadTimeout, "no answer within {patience.read_s:g} s"),
    (requests.exceptions.SSLError, "its TLS certificate was not accepted"),
    (requests.exceptions.ChunkedEncodingError, "the connection broke in the middle of an answer"),
    (requests.ConnectionError, "no connection, or it broke before an answer"),
)
"""In this order: each kind before the kinds that it is a case of."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long we wait for an archive, and how often we ask again.

    Attributes
    ----------
    connect_s, read_s : float
        Until the connection stands; until the next byte comes.
    retries : int
        After a refused connection or one of the codes of `BUSY`; not after silence.
    backoff_s : float
        Before the second retry, doubled for each further one, at most 120 s; a Retry-After field rules.
    """

    connect_s: float = 10.0
    read_s: float = 120.0
    retries: int = 3
    backoff_s: float = 1.0


class _Retry(Retry):
    """Tries again after refused and broken connections and `BUSY`, but not after silence."""

    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: BaseHTTPResponse | None = None,
        error: Exception | None = None,
        _pool: ConnectionPool | None = None,
        _stacktrace: TracebackType | None = None,
    ) -> Self:
        if isinstance(error, ReadTimeoutError):
            raise error
        return super().increment(method, url, response, error, _pool, _stacktrace)


def open_session(url: str, patience: Patience) -> requests.Session:
    """Session with the user's credentials and our retries.

    POST is retried as GET is: storing the same object twice changes nothing, and the archive is asked
    for the object afterwards whatever it answered.
    """
    _quieten()
    session = requests.Session()
    session.auth = credentials_for(url)
    session.headers["Accept"] = "application/dicom+json"
    session.hooks["response"].append(_must_end)
    retry = _Retry(
        total=None,
        connect=patience.retries,
        read=patience.retries,
        other=0,
        redirect=3,
        status=patience.retries,
        status_forcelist=BUSY,
        allowed_methods=("GET", "POST"),
        backoff_factor=patience.backoff_s,
        raise_on_status=False,
    )
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    return session


def _quieten() -> None:
    """Keep dicomweb-client's retry library from printing tracebacks where nobody configured logging."""
    logger = logging.getLogger("retrying")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())


def open_client(url: str, session: requests.Session, patience: Patience, chunk_bytes: int) -> DICOMwebClient:
    """Client that sends bodies of up to `chunk_bytes` whole, so that they can be sent again."""
    timeout = (patience.connect_s, patience.read_s)
    client = DICOMwebClient(url, session=session, timeout=timeout, chunk_size=chunk_bytes)
    client.set_http_retry_params(retry=False)
    # dicomweb-client 0.61 leaves the port out of the Host field, which breaks the URLs an archive returns.
    client.host = urlsplit(url).netloc
    return client


def _must_end(response: requests.Response, **_: object) -> None:
    """Raise when a multipart answer has been read and its closing boundary (RFC 2046 5.1.1) never came.

    Orthanc sends a series without Content-Length or chunks, so HTTP itself cannot tell a cut answer,
    and dicomweb-client 0.61 takes what came as the last object.
    """
    fields = Message()
    fields["Content-Type"] = response.headers.get("Content-Type", "")
    boundary = fields.get_boundary()
    if fields.get_content_maintype() != "multipart" or not boundary:
        return
    received, closing = response.iter_content, f"--{boundary}--".encode()

    def checked(chunk_size: int | None = 1, **_: object) -> Iterator[bytes]:
        tail = b""
        for chunk in received(chunk_size):
            tail = (tail + chunk)[-_TAIL_BYTES:]
            yield chunk
        if closing not in tail:
            raise requests.exceptions.ChunkedEncodingError("no closing boundary")

    response.iter_content = checked  # type: ignore[method-assign,assignment]


def status_of(error: requests.RequestException) -> int | None:
    """HTTP status code behind an error, or None if there was no answer."""
    return None if error.response is None else error.response.status_code


def told(error: Exception, patience: Patience) -> str:
    """One sentence on what went wrong, without URL and so without anything that a URL may hold."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"answered {error.response.status_code} {error.response.reason or ''}".strip()
    if isinstance(error, requests.ConnectionError) and "Read timed out" in str(error):
        return f"no answer within {patience.read_s:g} s"
    for kind, sentence in _SENTENCES:
        if isinstance(error, kind):
            return sentence.format(patience=patience)
    return f"the answer cannot be understood ({type(error).__name__})"
