"""A session with an NBIA (The Cancer Imaging Archive and others): REST v1, v2 or v4, with login where there is one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import requests

from ..address import BadArchiveUri
from ..archive import AccessDenied, ArchiveError, NotThere, RetrieveError, SearchError, SearchUnanswered, SourceNotThere
from ..credentials import BadCredentials, password_for
from ..http_answers import DENIED, NOT_FOUND, UNAUTHORIZED, may_pass, status_of, told
from ..http_session import Patience, open_session

USER: Final = "VOXFLEET_NBIA_USER"
PASSWORD: Final = "VOXFLEET_NBIA_PASSWORD"  # noqa: S105 - the name of the variable
TOKEN: Final = "VOXFLEET_NBIA_TOKEN"  # noqa: S105 - the name of the variable
VERSIONS: Final = ("v1", "v2", "v4")
USUAL_BASE: Final = "/nbia-api"
CLIENT_ID: Final = "NBIA"
"""What NBIA's own documentation has users name as their OAuth client."""
_BAD_REQUEST = 400
_ADVICE: Final = f"; credentials come from {USER} and {PASSWORD}, or {TOKEN}"
_SHOWN = 500
"""Characters of an answer that are looked at."""


@dataclass(frozen=True, slots=True)
class NbiaAddress:
    """One collection of one NBIA; `base` is the address of its API without version, e.g. ``https://host/nbia-api``."""

    uri: str
    base: str
    collection: str
    version: str


def parse_address(uri: str) -> NbiaAddress:
    """Address from ``nbia+https://HOST[/BASE]/COLLECTION[?version=v4]``; the base is ``nbia-api`` unless given.

    Raises
    ------
    BadArchiveUri
        If it has no host or no collection, or holds credentials or an unknown option.
    """
    parts = urlsplit(uri.partition("+")[2])
    shown = f"nbia+{parts.scheme}://{parts.hostname}"
    if parts.username is not None or parts.password is not None:
        raise BadArchiveUri(f"{shown}: credentials do not belong into a URI{_ADVICE}")
    options = dict(parse_qsl(parts.query))
    version = options.pop("version", VERSIONS[-1])
    if options or parts.fragment or version not in VERSIONS:
        raise BadArchiveUri(f"{shown}: the only option is version={'|'.join(VERSIONS)}")
    base, _, collection = parts.path.rstrip("/").rpartition("/")
    if not parts.hostname or not collection:
        raise BadArchiveUri(f"{shown}: is not nbia+https://HOST/COLLECTION")
    name = unquote(collection)
    canonical = f"nbia+{parts.scheme}://{parts.netloc}{base}/{quote(name)}"
    query = f"?{parts.query}" if parts.query else ""
    return NbiaAddress(canonical + query, f"{parts.scheme}://{parts.netloc}{base or USUAL_BASE}", name, version)


class NbiaSession:
    """Requests of one process to one NBIA; logs in when first used, and anew when the token has expired."""

    def __init__(self, address: NbiaAddress, patience: Patience) -> None:
        self._address, self._patience = address, patience
        self._user, self._password = os.environ.get(USER, ""), os.environ.get(PASSWORD, "")
        self._token = os.environ.get(TOKEN, "")
        host = urlsplit(address.base).hostname or ""
        self._password = password_for(self._user, self._password, host, f"{USER} and {PASSWORD}")
        if self._user and self._token:
            raise BadCredentials(f"set one of {USER} and {TOKEN}")
        self._session = open_session(patience)
        self._session.headers["Accept"] = "*/*"
        self._session.auth = self._authorise

    def rows(self, verb: str, **query: str) -> list[dict[str, Any]]:
        """Rows of a listing; none for an empty answer, which NBIA gives where nothing matches.

        Raises
        ------
        requests.RequestException
            If there is no answer, or one that is no listing.
        """
        with self.answer(verb, format="json", **query) as response:
            if not response.content.strip():
                return []
            rows = response.json()
        if not isinstance(rows, list) or not all(isinstance(each, dict) for each in rows):
            raise requests.exceptions.JSONDecodeError("no listing", "", 0)
        return rows

    @contextmanager
    def answer(self, verb: str, **query: str) -> Iterator[requests.Response]:
        """Answer to one request, whose body is yet to be read.

        Raises
        ------
        requests.RequestException
            If there is none, or an error.
        """
        if self._user and not self._token:
            self._log_in()
        response = self._asked(verb, query)
        if response.status_code == UNAUTHORIZED and self._user:
            response.close()
            self._log_in()
            response = self._asked(verb, query)
        with response:
            if not response.ok:
                _ = response.content  # kept, for the reason stands in it
            response.raise_for_status()
            yield response

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def _asked(self, verb: str, query: dict[str, str]) -> requests.Response:
        url = f"{self._address.base}/services/{self._address.version}/{verb}"
        return self._session.get(url, params=query, stream=True, timeout=self._timeout)

    def _log_in(self) -> None:
        form = {
            "username": self._user,
            "password": self._password,
            "client_id": CLIENT_ID,
            "grant_type": "password",
        }
        self._token = ""
        url = f"{self._address.base}/oauth/token"
        response = self._session.post(url, data=form, timeout=self._timeout, allow_redirects=False)
        response.raise_for_status()
        token = response.json().get("access_token")
        if not isinstance(token, str) or not token:
            raise requests.exceptions.JSONDecodeError("no token", "", 0)
        self._token = token

    @property
    def _timeout(self) -> tuple[float, float]:
        return self._patience.connect_s, self._patience.read_s

    def _authorise(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Set the Authorization field (RFC 6750 2.1); without a token, none: not even one of .netrc."""
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request


@contextmanager
def nbia_errors(uri: str, identifier: str, patience: Patience) -> Iterator[None]:
    """Translate what a request raises; errors of a search where `identifier` is empty, else of a retrieval."""
    try:
        yield
    except requests.RequestException as exc:
        status, reason = status_of(exc), told(exc, patience)
        if status in DENIED or _is_refusal(exc):
            raise AccessDenied(uri, identifier, reason + _ADVICE) from exc
        raise _kind(status, identifier, exc)(uri, identifier, reason) from exc


def _kind(status: int | None, identifier: str, error: Exception) -> type[ArchiveError]:
    if identifier:
        return NotThere if status in NOT_FOUND else RetrieveError
    if status in NOT_FOUND:
        return SourceNotThere
    return SearchUnanswered if may_pass(status, error) else SearchError


def _is_refusal(error: requests.RequestException) -> bool:
    """Whether it is the 400 with which NBIA says that a user may not have a series, or that a login failed."""
    if error.response is None or error.response.status_code != _BAD_REQUEST:
        return False
    text = error.response.text[:_SHOWN]
    return "granted" in text or "invalid_grant" in text
