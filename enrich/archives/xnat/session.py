"""A session with an XNAT, by xnatpy: logged in when first used, and anew when it has expired."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeVar
from urllib.parse import quote

import requests
import xnat
from requests.adapters import HTTPAdapter
from urllib3.util import Retry
from xnat.exceptions import XNATError, XNATResponseError
from xnat.session import BaseXNATSession

from ..credentials import BadCredentials
from ..http_session import BUSY, Patience
from .address import PASSWORD, USER, credentials_for

EXPIRED: Final = 401
"""What XNAT answers to a session that it no longer knows."""
BROKEN: Final = (500, *BUSY)
"""Status codes after which the same request is made again; XNAT's own faults pass, they are often locks."""
_READ_BYTES: Final = 1 << 20
_TOKEN: Final = re.compile(r"[A-Za-z0-9._-]{8,200}", re.ASCII)
_XNATPY_USERS: Final = ("XNATPY_USER", "XNAT_USER")
_T = TypeVar("_T")


class NotUnderstood(ValueError):
    """An answer that is not what XNAT's REST interface gives: a page, XML, or JSON of another shape."""


class XnatSession:
    """REST requests of one process to one XNAT.

    xnatpy keeps the session and makes the requests. Its object model is not built: for that it fetches the
    server's XML schemas and runs Python that it makes of them, some seconds in each process, and lets
    a server choose what is run. So nothing that a server sends is parsed but JSON, zip and DICOM.
    """

    def __init__(self, server: str, patience: Patience) -> None:
        self._server, self._patience = server, patience
        self._open: BaseXNATSession | None = None

    def results(self, *path: str, **query: str) -> list[dict[str, str]]:
        """Rows of a listing.

        Raises
        ------
        requests.RequestException, xnat.exceptions.XNATError, NotUnderstood
            If there is none.
        """
        answer = self._json(path, query)
        try:
            rows = answer["ResultSet"]["Result"]
            return [{str(key): str(value) for key, value in row.items()} for row in rows]
        except (LookupError, TypeError, AttributeError) as exc:
            raise NotUnderstood("no listing of XNAT's") from exc

    def item(self, *path: str) -> dict[str, Any]:
        """One experiment with all that is below it; raises as `results` does."""
        answer = self._json(path, {})
        try:
            found = answer["items"][0]
            return {"data_fields": found["data_fields"], "children": found["children"]}
        except (LookupError, TypeError) as exc:
            raise NotUnderstood("no item of XNAT's") from exc

    def put(self, *path: str, **query: str) -> None:
        """Make an object; raises as `results` does."""
        self._asked(lambda session: session.put(_joined(path), query=dict(query)))

    def send(self, data: bytes | Path, *path: str, **query: str) -> None:
        """Make a file of bytes, or of another file; raises as `results` does, and OSError."""

        def send(session: BaseXNATSession) -> None:
            with BytesIO(data) if isinstance(data, bytes) else data.open("rb") as file:
                session.put(_joined(path), data=file, query=dict(query), headers=_BINARY)

        self._asked(send)

    def download(self, into: BinaryIO, *path: str, **query: str) -> None:
        """Write what is at a path to a file, from its beginning; raises as `results` does, and OSError."""

        def fetch(session: BaseXNATSession) -> None:
            into.seek(0)
            into.truncate()
            timeout = (self._patience.connect_s, self._patience.read_s)
            uri = self._server + _joined(path)
            with session.interface.get(uri, params=query, stream=True, timeout=timeout) as response:
                if response.status_code != requests.codes.ok:
                    raise XNATResponseError("not given", response=response)
                for chunk in response.iter_content(_READ_BYTES):
                    into.write(chunk)
            into.flush()

        self._asked(fetch)

    def close(self) -> None:
        """Log out and close the connections; a server that does not hear it lets the session expire."""
        session, self._open = self._open, None
        if session is not None:
            with suppress(requests.RequestException, XNATError):
                session.disconnect()
            BaseXNATSession.disconnect(session)

    def _json(self, path: tuple[str, ...], query: dict[str, str]) -> Any:
        def get(session: BaseXNATSession) -> Any:
            response = session.get(_joined(path), format="json", query=dict(query))
            try:
                return response.json()
            except ValueError as exc:
                raise NotUnderstood("no JSON") from exc

        return self._asked(get)

    def _asked(self, request: Callable[[BaseXNATSession], _T]) -> _T:
        """Make a request; once more after logging in anew where the session has expired."""
        known = self._open is not None
        try:
            return request(self._connected())
        except XNATResponseError as exc:
            if not known or exc.status_code != EXPIRED:
                raise
            self.close()
        return request(self._connected())

    def _connected(self) -> BaseXNATSession:
        if self._open is None:
            self._open = _connect(self._server, self._patience)
        return self._open


_BINARY: Final = {"Content-Type": "application/octet-stream"}


def _joined(path: tuple[str, ...]) -> str:
    return "/data/" + "/".join(quote(part, safe="") for part in path)


def _connect(server: str, patience: Patience) -> BaseXNATSession:
    credentials = credentials_for(server)
    if credentials is None and any(os.environ.get(name) for name in _XNATPY_USERS):
        # xnatpy would take that user and, without a password, ask for one on the terminal.
        raise BadCredentials(f"XNAT_USER is not read: set {USER} and {PASSWORD}, or use .netrc")
    token = _login(server, credentials, patience)
    logger = logging.getLogger("voxfleet.xnatpy")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    timeout = (patience.connect_s, patience.read_s)
    session: BaseXNATSession = xnat.connect(
        server,
        jsession=token if credentials else None,
        no_parse_model=True,
        detect_redirect=False,
        logger=logger,
        default_timeout=timeout,
        pilot_timeout=timeout,
    )
    session.keepalive = False
    _retrying(session.interface, patience)
    return session


def _login(server: str, credentials: tuple[str, str] | None, patience: Patience) -> str:
    """Session ID for a user, or for a guest.

    Asked here first, for xnatpy tells a server that is busy from a login that is refused in neither case.
    """
    timeout = (patience.connect_s, patience.read_s)
    with requests.Session() as session:
        _retrying(session, patience)
        if credentials is None:
            response = session.get(f"{server}/data/JSESSION", timeout=timeout, allow_redirects=False)
        else:
            form = dict(zip(("username", "password"), credentials, strict=True))
            url = f"{server}/data/services/auth"
            response = session.put(url, data=form, timeout=timeout, allow_redirects=False)
        response.raise_for_status()
    token = response.text.strip()
    if not _TOKEN.fullmatch(token):
        raise NotUnderstood("the login gave no session ID")
    return token


def _retrying(session: requests.Session, patience: Patience) -> None:
    retry = Retry(
        total=None,
        connect=patience.retries,
        read=0,
        other=0,
        redirect=3,
        status=patience.retries,
        status_forcelist=BROKEN,
        allowed_methods=("GET", "PUT"),
        backoff_factor=patience.backoff_s,
        raise_on_status=False,
    )
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
