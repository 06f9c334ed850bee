"""Who we are to a DICOMweb archive: from the environment or .netrc, never from a URI."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase, HTTPBasicAuth

from ... import Error

USER: Final = "VOXFLEET_DICOMWEB_USER"
PASSWORD: Final = "VOXFLEET_DICOMWEB_PASSWORD"  # noqa: S105 - the name of the variable
TOKEN: Final = "VOXFLEET_DICOMWEB_TOKEN"  # noqa: S105 - the name of the variable
TOKEN_FILE: Final = "VOXFLEET_DICOMWEB_TOKEN_FILE"  # noqa: S105 - the name of the variable
HOST: Final = "VOXFLEET_DICOMWEB_HOST"


class BadCredentials(Error):
    """Credentials that are half given, or given twice; the message holds none of them."""

    code = "BAD_CREDENTIALS"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)


class BearerAuth(AuthBase):
    """Puts a token into each request; a token file is read anew, for tokens are replaced while we run."""

    def __init__(self, token: str, token_file: str) -> None:
        self._token, self._token_file = token, token_file

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Set the Authorization field (RFC 6750 2.1)."""
        request.headers["Authorization"] = f"Bearer {self._token or self._read()}"
        return request

    def __repr__(self) -> str:
        return "BearerAuth(...)"

    def _read(self) -> str:
        try:
            return Path(self._token_file).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as exc:
            raise BadCredentials(f"{TOKEN_FILE}={self._token_file} cannot be read") from exc


def credentials_for(url: str) -> AuthBase | None:
    """Credentials for an archive, or None: then `requests` looks into ``.netrc`` for the host.

    ``VOXFLEET_DICOMWEB_TOKEN`` or ``..._TOKEN_FILE`` (bearer), or ``..._USER`` and ``..._PASSWORD``
    (basic). Where source and target are on two hosts, ``VOXFLEET_DICOMWEB_HOST`` (``host`` or
    ``host:port``) names the only one that gets them, and ``.netrc`` serves the other.

    Raises
    ------
    BadCredentials
        If a user has no password, or token and user are both given.
    """
    parts = urlsplit(url)
    only = os.environ.get(HOST)
    if only and only not in (parts.hostname, parts.netloc):
        return None
    user, password = os.environ.get(USER), os.environ.get(PASSWORD)
    token, token_file = os.environ.get(TOKEN, ""), os.environ.get(TOKEN_FILE, "")
    if bool(user) != bool(password):
        raise BadCredentials(f"{USER} and {PASSWORD} must be set together")
    if sum(map(bool, (user, token, token_file))) > 1:
        raise BadCredentials(f"set one of {USER}, {TOKEN} and {TOKEN_FILE}")
    if token or token_file:
        return BearerAuth(token, token_file)
    return HTTPBasicAuth(user, password) if user and password else None
