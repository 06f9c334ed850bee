"""Who we are to a DICOMweb archive: from the environment, a file or .netrc, never from a URI.

All variables begin with ``VOXFLEET_DICOMWEB_``. One of these kinds is given, or none:

* ``USER`` and ``PASSWORD`` (HTTP Basic, RFC 7617), or the password kept by ``keyring set HOST USER``;
* ``TOKEN``, or ``TOKEN_FILE``, which is read anew for each request (RFC 6750);
* ``TOKEN_URL``, ``CLIENT_ID`` and ``CLIENT_SECRET`` or ``CLIENT_SECRET_FILE``, and ``SCOPE`` if it is wanted: tokens
  come from an OpenID Connect provider such as dcm4chee's Keycloak;
* ``GOOGLE=true``: tokens come from Google; so they do for Google's own host without any variable.

With ``HOST`` (``host`` or ``host:port``) they are for that archive only, and ``.netrc`` serves the others.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase, HTTPBasicAuth

from ..credentials import BadCredentials, password_for
from ..http_session import Patience
from ..tokens import TokenAuth
from .logins import Client, client_tokens, google_tokens

PREFIX: Final = "VOXFLEET_DICOMWEB_"
GOOGLE_HOST: Final = "healthcare.googleapis.com"
_KINDS: Final = ("USER", "TOKEN", "TOKEN_FILE", "TOKEN_URL", "GOOGLE")
_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")


class FileAuth(AuthBase):
    """Puts a token into each request, read anew from its file: it is replaced while we run."""

    def __init__(self, token_file: str) -> None:
        self._token_file = token_file

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Set the Authorization field (RFC 6750 2.1)."""
        request.headers["Authorization"] = f"Bearer {_read('TOKEN_FILE', self._token_file)}"
        return request

    def __repr__(self) -> str:
        return "FileAuth(...)"


class BearerAuth(AuthBase):
    """Puts one token into each request."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Set the Authorization field (RFC 6750 2.1)."""
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request

    def __repr__(self) -> str:
        return "BearerAuth(...)"


def credentials_for(url: str, patience: Patience) -> AuthBase | None:
    """Credentials for an archive, or None: then `requests` looks into ``.netrc`` for the host.

    Raises
    ------
    BadCredentials
        If they are half given, given twice, or not there where Google's are asked for.
    MissingExtra
        If the library that fetches tokens is not installed.
    """
    parts = urlsplit(url)
    only = _variable("HOST")
    given = [] if only and only not in (parts.hostname, parts.netloc) else [each for each in _KINDS if _variable(each)]
    if len(given) > 1:
        raise BadCredentials(f"set one of {' and '.join(PREFIX + each for each in given)}")
    kind = given[0] if given else ""
    user, password, names = _variable("USER"), _variable("PASSWORD"), f"{PREFIX}USER and {PREFIX}PASSWORD"
    if password and not user:
        raise BadCredentials(f"{names} must be set together")
    if kind == "USER":
        return HTTPBasicAuth(user, password_for(user, password, parts.hostname or "", names))
    if kind == "TOKEN":
        return BearerAuth(_variable("TOKEN"))
    if kind == "TOKEN_FILE":
        return FileAuth(_variable("TOKEN_FILE"))
    if kind == "TOKEN_URL":
        return TokenAuth(client_tokens(_client(), patience))
    if kind == "GOOGLE" or parts.hostname == GOOGLE_HOST:
        return TokenAuth(google_tokens(patience))
    return None


def _client() -> Client:
    """The client that the variables describe."""
    token_url, client_id, secret = _variable("TOKEN_URL"), _variable("CLIENT_ID"), _variable("CLIENT_SECRET")
    secret_file = _variable("CLIENT_SECRET_FILE")
    if not client_id or bool(secret) == bool(secret_file):
        names = f"{PREFIX}CLIENT_ID and one of {PREFIX}CLIENT_SECRET and {PREFIX}CLIENT_SECRET_FILE"
        raise BadCredentials(f"with {PREFIX}TOKEN_URL set {names}")
    parts = urlsplit(token_url)
    if parts.username is not None or not (parts.scheme == "https" or parts.hostname in _LOOPBACK):
        raise BadCredentials(f"{PREFIX}TOKEN_URL must be https://..., without user and password")
    return Client(token_url, client_id, secret or _read("CLIENT_SECRET_FILE", secret_file), _variable("SCOPE"))


def _variable(name: str) -> str:
    return os.environ.get(PREFIX + name, "")


def _read(name: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise BadCredentials(f"{PREFIX}{name}={path} cannot be read") from exc
