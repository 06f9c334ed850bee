"""Weights that a package of its own keeps unpacked: their archives brought, and unpacked where it looks for them."""

from __future__ import annotations

import lzma
import shutil
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from .fetching import FetchFailed, Progress, alone, bring, source_among
from .model import ModelCard
from .weights import sha256_of

# What zipfile raises: RuntimeError for an archive with a password, the rest where its data are damaged.
_NO_ARCHIVE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, RuntimeError, ValueError, EOFError)


@dataclass(frozen=True, slots=True)
class Archive:
    """A ZIP file of weights.

    Attributes
    ----------
    url : str
        Where it is published.
    top : str
        The one folder that it holds.
    """

    url: str
    top: str

    @property
    def file(self) -> str:
        """Its name."""
        return PurePosixPath(urlsplit(self.url).path).name


def archives_of(card: ModelCard) -> tuple[Archive, ...]:
    """The archives that files of a model lie in, each once: ``<url of archive>#<path in it>`` on the card."""
    parts = (weights.url.partition("#") for weights in card.weights)
    return tuple(dict.fromkeys(Archive(url, PurePosixPath(path).parts[0]) for url, _, path in parts if path))


def archive_source(card: ModelCard, archive: Archive, origin: str | None) -> str:
    """URL or path of one archive; `origin` as for `fetching.source_of`."""
    return source_among(card, archive.url, archive.file, [each.file for each in archives_of(card)], origin)


def fetch_archive(model: str, archive: Archive, source: str, folder: Path, progress: Progress) -> str | None:
    """Unpack an archive's folder into `folder`, unless it is there already.

    It appears there whole, or not at all; a transfer that breaks off is resumed. No SHA-256 of these archives is
    published: ZIP's own checksums are held, and what a result was made with is bound by the files' digests.

    Returns
    -------
    str or None
        SHA-256 of the archive; None if the folder was there.

    Raises
    ------
    FetchFailed
        If the source gives no file, or no archive that holds this folder and nothing else.
    """
    place = folder / archive.top
    if place.exists():
        return None
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{archive.file}.part"
    with alone(model, part) as file:
        if place.exists():
            # Another process brought it since.
            part.unlink()
            return None
        bring(model, source, file, progress)
        file.flush()
        digest = sha256_of(part)
        try:
            _unpack(part, archive.top, folder)
        except _NO_ARCHIVE as exc:
            part.unlink()
            raise FetchFailed(model, f"{source} is no archive of {archive.top}: {exc}") from exc
        part.unlink()
    return digest


def _unpack(path: Path, top: str, folder: Path) -> None:
    """Move the archive's folder into `folder` once all of it is unpacked beside it."""
    with zipfile.ZipFile(path) as content, tempfile.TemporaryDirectory(dir=folder, prefix=".unpacked-") as scratch:
        for name in content.namelist():
            parts = PurePosixPath(name).parts
            if not parts or parts[0] != top or ".." in parts:
                raise ValueError(f"it holds {name}")
        content.extractall(scratch)
        if not (Path(scratch) / top).is_dir():
            raise ValueError("it holds no folder")
        shutil.move(Path(scratch) / top, folder / top)
