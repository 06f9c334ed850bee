"""HTTP as we use it with archives: retries and time-outs."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

import requests
from dicomweb_client.web import DICOMwebClient
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3 import BaseHTTPResponse
from urllib3.connectionpool import ConnectionPool
from urllib3.exceptions import ReadTimeoutError
from urllib3.util import Retry

BUSY: Final = (429, 502, 503, 504)
"""Status codes that say: not now."""
BLOCK_BYTES: Final = 1 << 20
"""Of a body, given to a connection at once."""


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
        Half of the pause before the second retry; doubled for each further one, at most 120 s. A Retry-After
        field rules.
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


class _Adapter(HTTPAdapter):
    """Sends bodies in large blocks: a thread that has sent one waits for Python's lock behind all others."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, blocksize=BLOCK_BYTES, **kwargs)


def open_session(patience: Patience, auth: AuthBase | None = None) -> requests.Session:
    """Session with our retries; without `auth`, `requests` looks into ``.netrc`` for each host.

    POST is retried as GET is: storing the same object twice changes nothing, and the archive is asked
    for the object afterwards whatever it answered.
    """
    _quieten()
    session = requests.Session()
    session.auth = auth
    session.headers["Accept"] = "application/dicom+json"
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
        session.mount(scheme, _Adapter(max_retries=retry))
    return session


def _quieten() -> None:
    """Keep dicomweb-client's retry library from printing tracebacks where nobody configured logging."""
    logger = logging.getLogger("retrying")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())


def open_client(url: str, session: requests.Session, patience: Patience) -> DICOMwebClient:
    """Client for searches; its retries are those of the session."""
    timeout = (patience.connect_s, patience.read_s)
    client = DICOMwebClient(url, session=session, timeout=timeout)
    client.set_http_retry_params(retry=False)
    # dicomweb-client 0.61 leaves the port out of the Host field, which breaks the URLs an archive returns.
    client.host = urlsplit(url).netloc
    return client
