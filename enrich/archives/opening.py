"""From a URI to an archive."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from ... import Error
from .address import BadArchiveUri, MissingExtra
from .archive import Archive

WRITABLE: Final = "dicomweb+https://, dimse://, s3://, gs:// or xnat+https://"
"""Addresses of archives that can be written to, beside folders, for people."""
READABLE: Final = f"zip or tar file, idc:, nbia+https://, {WRITABLE}"
"""Addresses of archives that can be read, beside folders, for people."""
ENTRY_POINTS = "voxfleet.archives"
"""Group in which other packages offer archives: scheme = function from URI to `Archive`."""
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]+):")


class UnknownArchive(Error):
    """A URI of a kind for which no archive is there."""

    code = "UNKNOWN_ARCHIVE"

    def __init__(self, scheme: str, known: tuple[str, ...]) -> None:
        super().__init__(scheme, known)

    def __str__(self) -> str:
        scheme, known = self.args
        return f"no archive of kind {scheme!r}; there are {', '.join(known)}, and a bare path is a folder"


def open_archive(uri: str) -> Archive:
    """Open the archive at a URI; nothing is asked of it yet.

    Parameters
    ----------
    uri : str
        ``dir:PATH`` or a path: a folder, or a zip or tar file (only read). ``dicomweb+https://HOST/PATH``,
        ``dicomweb+http://``, ``https://`` or ``http://``: a DICOMweb service. ``dimse://AET@HOST:PORT``: a
        DICOM node. ``s3://BUCKET/PREFIX``, ``gs://BUCKET/PREFIX``: a bucket. ``idc:COLLECTION``,
        ``idc:?SQL``: series of the Imaging Data Commons (only read). ``xnat+https://HOST/PROJECT``: a
        project of an XNAT. ``nbia+https://HOST/COLLECTION``: a collection of an NBIA (only read). Else a
        scheme that another package offers as an entry point of the group ``voxfleet.archives``.
        Never user or password: see `credentials`.

    Raises
    ------
    UnknownArchive
        If nothing is known for the scheme.
    BadArchiveUri
        If the address holds credentials or is none.
    BadCredentials
        If the environment holds half of them, or two kinds.
    MissingExtra
        If the library for this kind is not installed.
    """
    match = _SCHEME.match(uri)
    if match is None:
        return _folder(f"dir:{uri}")
    scheme = match[1].lower()
    if scheme in _BUILT_IN:
        return _BUILT_IN[scheme](uri)
    offered = {each.name: each for each in entry_points(group=ENTRY_POINTS)}
    if scheme in offered:
        return _offered(offered[scheme], uri)
    raise UnknownArchive(scheme, tuple(sorted({*_BUILT_IN, *offered})))


def _offered(entry_point: EntryPoint, uri: str) -> Archive:
    opener: Callable[[str], Archive] = entry_point.load()
    return opener(uri)


def _folder(uri: str) -> Archive:
    from .folder.archive import FolderArchive

    path = uri.partition(":")[2]
    if not path:
        raise BadArchiveUri("dir: needs a path, e.g. dir:/data/ct")
    folder = Path(path).expanduser()
    if folder.exists() and not folder.is_dir():
        return _packed(folder)
    return FolderArchive(folder)


def _packed(path: Path) -> Archive:
    from .packed.archive import PackedArchive
    from .packed.pack import SUFFIXES

    if not path.name.lower().endswith(SUFFIXES):
        raise BadArchiveUri(f"{path} is a file; an archive is the folder that holds it, or {', '.join(SUFFIXES)}")
    return PackedArchive(path)


def _dicomweb(uri: str) -> Archive:
    from .dicomweb.archive import DicomwebArchive

    parts = urlsplit(uri.partition("+")[2] if uri.lower().startswith("dicomweb+") else uri)
    if parts.username is not None or parts.password is not None:
        advice = "set VOXFLEET_DICOMWEB_USER and VOXFLEET_DICOMWEB_PASSWORD, or use .netrc"
        raise BadArchiveUri(f"{parts.scheme}://{parts.hostname}: credentials do not belong into a URI; {advice}")
    if parts.query or parts.fragment:
        raise BadArchiveUri(f"{parts.scheme}://{parts.hostname}: a DICOMweb address has no query and no fragment")
    if not parts.hostname:
        raise BadArchiveUri(f"{uri}: has no host")
    return DicomwebArchive(parts.geturl())


def _nbia(uri: str) -> Archive:
    from .nbia.archive import NbiaArchive
    from .nbia.session import parse_address

    return NbiaArchive(parse_address(uri))


def _dimse(uri: str) -> Archive:
    try:
        from .dimse.archive import DimseArchive
    except ModuleNotFoundError as exc:
        if exc.name != "pynetdicom":
            raise
        raise MissingExtra("dimse", "dimse") from exc
    return DimseArchive(uri)


def _xnat(uri: str) -> Archive:
    from .xnat.address import parse_address

    address = parse_address(uri)
    try:
        from .xnat.archive import XnatArchive
    except ModuleNotFoundError as exc:
        if exc.name != "xnat":
            raise
        raise MissingExtra("xnat", "xnat") from exc
    return XnatArchive(address)


def _bucket(uri: str) -> Archive:
    parts = urlsplit(uri)
    if "@" in parts.netloc:
        advice = "they come from the environment or the vendor's files"
        raise BadArchiveUri(f"{parts.scheme}://{parts.hostname}: credentials do not belong into a URI; {advice}")
    prefix = parts.path.strip("/")
    if parts.query or parts.fragment or {"", ".", ".."} & set(prefix.split("/") if prefix else ()):
        raise BadArchiveUri(
            f"{parts.scheme}://{parts.netloc}: the prefix of a bucket has no query, no '//' and no '..'"
        )
    if not _BUCKET.fullmatch(parts.netloc):
        raise BadArchiveUri(f"{parts.scheme}://{parts.netloc}: no name of a bucket (3 to 222 of a-z, 0-9, . _ -)")
    try:
        from .bucket.archive import S3Archive
        from .bucket.store import BucketAddress
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] != "obstore":
            raise
        raise MissingExtra(parts.scheme.lower(), "cloud") from exc
    return S3Archive(BucketAddress(parts.scheme.lower(), parts.netloc, prefix))


def _idc(uri: str) -> Archive:
    try:
        from .idc.archive import IdcArchive
        from .idc.index import selection_of
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] != "obstore":
            raise
        raise MissingExtra("idc", "idc") from exc
    return IdcArchive(selection_of(f"idc:{uri.partition(':')[2]}"))


_BUILT_IN: Final[dict[str, Callable[[str], Archive]]] = {
    "dir": _folder,
    "gs": _bucket,
    "idc": _idc,
    "s3": _bucket,
    "dicomweb+http": _dicomweb,
    "dicomweb+https": _dicomweb,
    "dimse": _dimse,
    "nbia+http": _nbia,
    "nbia+https": _nbia,
    "http": _dicomweb,
    "https": _dicomweb,
    "xnat+http": _xnat,
    "xnat+https": _xnat,
}
