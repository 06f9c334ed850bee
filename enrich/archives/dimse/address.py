"""Where a DICOM node is and what it may call back: ``dimse://AET@HOST:PORT`` and its options."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from ..address import BadArchiveUri

CALLING_AET: Final = "VOXFLEET_DIMSE_AET"
"""Variable with our own application entity title, where the address does not name one."""
DEFAULT_AET: Final = "VOXFLEET"
MAX_AET_CHARACTERS: Final = 16
"""PS3.5 6.2, AE."""
_LOOPBACK: Final = "127.0.0.1"
_OPTIONS: Final = frozenset({"aet", "move", "commit"})
_HIGHEST_PORT: Final = 65535


@dataclass(frozen=True, slots=True)
class Listener:
    """Address of this machine on which the node may call us."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class DimseAddress:
    """A node and we, as two application entities (PS3.8).

    Attributes
    ----------
    uri : str
        As it was given; it holds no secrets.
    called_aet, calling_aet : str
        Titles of the node and of us.
    move_to : Listener or None
        Where we take objects if they are to come by C-MOVE; None for C-GET.
    commit_to : Listener or None
        Where we take reports of storage commitment; None if none is asked for.
    """

    uri: str
    called_aet: str
    host: str
    port: int
    calling_aet: str
    move_to: Listener | None = None
    commit_to: Listener | None = None


def parse_address(uri: str) -> DimseAddress:
    """Address of a node from ``dimse://AET@HOST:PORT[?aet=AET&move=[HOST:]PORT&commit=[HOST:]PORT]``.

    Raises
    ------
    BadArchiveUri
        If a part is absent, is not known or breaks the rule for titles (PS3.5 6.2).
    """
    parts = urlsplit(uri)
    shown = f"dimse://{parts.hostname}"
    if parts.password is not None:
        raise BadArchiveUri(f"{shown}: a password does not belong into a URI, and DIMSE knows none")
    port = _port_of(parts, shown)
    if not parts.hostname or not parts.username or port is None:
        raise BadArchiveUri(f"{shown}: is not dimse://AET@HOST:PORT")
    if parts.path.strip("/") or parts.fragment:
        raise BadArchiveUri(f"{shown}: a DIMSE address has no path and no fragment")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if unknown := sorted(set(options) - _OPTIONS):
        raise BadArchiveUri(f"{shown}: unknown option {unknown[0]!r}; there are {', '.join(sorted(_OPTIONS))}")
    called = _title(unquote(parts.username), shown)
    calling = _title(options.get("aet") or os.environ.get(CALLING_AET) or DEFAULT_AET, shown)
    move_to, commit_to = (_listener(options[key], shown) if key in options else None for key in ("move", "commit"))
    address = f"dimse://{quote(called)}@{parts.netloc.rpartition('@')[2]}"
    canonical = address + (f"?{parts.query}" if parts.query else "")
    return DimseAddress(canonical, called, parts.hostname, port, calling, move_to, commit_to)


def _port_of(parts: SplitResult, shown: str) -> int | None:
    try:
        return parts.port
    except ValueError as exc:
        raise BadArchiveUri(f"{shown}: its port is no number up to {_HIGHEST_PORT}") from exc


def _title(text: str, shown: str) -> str:
    title = text.strip()
    if not title or len(title) > MAX_AET_CHARACTERS or not title.isascii() or not title.isprintable() or "\\" in title:
        reason = f"an application entity title has 1 to {MAX_AET_CHARACTERS} ASCII characters without backslash"
        raise BadArchiveUri(f"{shown}: {title[:80]!r}: {reason} (PS3.5 6.2)")
    return title


def _listener(text: str, shown: str) -> Listener:
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or not 0 < int(port) <= _HIGHEST_PORT:
        raise BadArchiveUri(f"{shown}: {text[:80]!r} is not [HOST:]PORT")
    return Listener(host.strip("[]") or _LOOPBACK, int(port))
