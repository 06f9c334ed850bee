"""``xnat+https://HOST/PROJECT``: where an XNAT is, which project of it, and who we are to it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from requests.utils import get_netrc_auth

from ..address import BadArchiveUri
from ..credentials import password_for

USER: Final = "VOXFLEET_XNAT_USER"
PASSWORD: Final = "VOXFLEET_XNAT_PASSWORD"  # noqa: S105 - the name of the variable
HOST: Final = "VOXFLEET_XNAT_HOST"
_PROJECT: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_SCHEMES: Final = ("xnat+https", "xnat+http")


@dataclass(frozen=True, slots=True)
class XnatAddress:
    """One project of one XNAT."""

    server: str
    """Base address, e.g. ``https://xnat.example.org/app``; no user, password, query or fragment."""
    project: str

    @property
    def uri(self) -> str:
        """As `parse_address` takes it."""
        return f"xnat+{self.server}/{self.project}"


def parse_address(uri: str) -> XnatAddress:
    """Address in a URI whose last part is the project.

    Raises
    ------
    BadArchiveUri
        If it holds credentials, or names no host or no project.
    """
    parts = urlsplit(uri)
    shown = f"{parts.scheme}://{parts.hostname or ''}"
    if "@" in parts.netloc:
        advice = f"set {USER} and {PASSWORD}, or use .netrc"
        raise BadArchiveUri(f"{shown}: credentials do not belong into a URI; {advice}")
    if parts.query or parts.fragment:
        raise BadArchiveUri(f"{shown}: an XNAT's address has no query and no fragment")
    path, _, project = parts.path.rstrip("/").rpartition("/")
    if parts.scheme not in _SCHEMES or not parts.hostname or not _PROJECT.fullmatch(project):
        raise BadArchiveUri(f"{shown}: is not xnat+https://HOST/PROJECT (a project's ID is of A-Z, a-z, 0-9, _ and -)")
    return XnatAddress(f"{parts.scheme.removeprefix('xnat+')}://{parts.netloc}{path}", project)


def credentials_for(server: str) -> tuple[str, str] | None:
    """User and password for a server, or None for a guest.

    From ``VOXFLEET_XNAT_USER`` and ``..._PASSWORD`` or the keyring, else from ``.netrc``. Where source and target are
    two XNATs, ``VOXFLEET_XNAT_HOST`` (``host`` or ``host:port``) names the only one that gets the former.

    Raises
    ------
    BadCredentials
        If a user has no password.
    """
    parts = urlsplit(server)
    only = os.environ.get(HOST)
    if not only or only in (parts.hostname, parts.netloc):
        user, password = os.environ.get(USER, ""), os.environ.get(PASSWORD, "")
        password = password_for(user, password, parts.hostname or "", f"{USER} and {PASSWORD}")
        if user:
            return user, password
    return get_netrc_auth(server)
