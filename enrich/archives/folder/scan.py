"""A walk over a folder archive that brings its index up to date."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..archive import AccessDenied, RefusedObject, SearchError, SourceNotThere
from ..header import Header, read_header
from ..packed.pack import SUFFIXES
from .index import FolderIndex, FoundFile

PART_SUFFIX: Final = ".voxfleet-part"
"""Ends the name of an object that is still being written; a search passes over it."""
_READERS = 4
"""Headers read at once: on a network disk the wait is for the disk, not for us."""
_PASSING = frozenset({"ACCESS_DENIED"})
"""Refusals that another day may not show: reported and not remembered."""


@dataclass(frozen=True, slots=True)
class _Listing:
    """What lies directly in one folder; `folder` is relative to the root."""

    folder: str
    files: tuple[tuple[str, int, int], ...]
    """Name, size, modification time in ns."""
    refused: tuple[RefusedObject, ...]


def refresh(root: Path, uri: str, index: FolderIndex) -> list[RefusedObject]:
    """Bring the index up to date with the tree; give what the index cannot remember.

    Links are not followed: one that leads to a file or folder of the tree is passed over, for it is
    met under its own name; one that leads out of the tree is reported as ``LINK_OUTSIDE``. Zip and tar
    files are reported as ``PACKED``: each is an archive of its own.

    Raises
    ------
    SourceNotThere, AccessDenied, SearchError
        If the folder itself cannot be listed.
    """
    _check(root, uri)
    refused: list[RefusedObject] = []
    seen: set[str] = set()
    with warnings.catch_warnings(), ThreadPoolExecutor(_READERS) as readers:
        warnings.simplefilter("ignore")  # pydicom warns of each invalid value; the header's code says it once
        for listing in _walk(root):
            seen.add(listing.folder)
            refused.extend(listing.refused)
            refused.extend(_update(root, listing, index, readers))
    index.keep_folders(seen)
    return refused


def shown(path: str) -> str:
    """Path that can be printed, whatever bytes its name holds."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _check(root: Path, uri: str) -> None:
    try:
        os.scandir(root).close()
    except FileNotFoundError as exc:
        raise SourceNotThere(uri, "", "no such folder") from exc
    except PermissionError as exc:
        raise AccessDenied(uri, "", "this user may not list the folder; ask its owner for access") from exc
    except OSError as exc:
        raise SearchError(uri, "", exc.strerror or "the folder cannot be listed") from exc


def _update(root: Path, listing: _Listing, index: FolderIndex, readers: ThreadPoolExecutor) -> list[RefusedObject]:
    """Read the headers of one folder's new and changed files, and remember them."""
    known = index.known(listing.folder)
    present = {name for name, _, _ in listing.files}
    new = [each for each in listing.files if not _is_known(each, known)]
    headers = readers.map(lambda each: _header(root / listing.folder / each[0]), new)
    found = [_found(listing.folder, file, header) for file, header in zip(new, headers, strict=True)]
    lasting = [each for each in found if each.header.code not in _PASSING]
    gone = [name for name in known if name not in present]
    if gone or lasting:
        index.replace(listing.folder, gone, lasting)
    return [refusal(each) for each in found if each.header.code in _PASSING]


def _header(path: Path) -> Header:
    header = read_header(path)
    if header.code == "NOT_DICOM" and path.name.lower().endswith(SUFFIXES):
        reason = f"is not looked into; name the packed file itself: dir:{shown(str(path))}"
        return Header(None, code="PACKED", reason=reason)
    return header


def _is_known(file: tuple[str, int, int], known: dict[str, FoundFile]) -> bool:
    name, size, mtime_ns = file
    return name in known and (known[name].bytes, known[name].mtime_ns) == (size, mtime_ns)


def refusal(found: FoundFile) -> RefusedObject:
    """Report on a file that is no usable instance."""
    return RefusedObject(shown(found.path), found.header.code, found.header.reason)


def _found(folder: str, file: tuple[str, int, int], header: Header) -> FoundFile:
    name, size, mtime_ns = file
    return FoundFile(f"{folder}/{name}" if folder else name, size, mtime_ns, header)


def _walk(root: Path) -> Iterator[_Listing]:
    """Every folder of the tree, depth first, in order of name."""
    inside = root.resolve()
    todo = [""]
    while todo:
        folder = todo.pop()
        try:
            with os.scandir(root / folder) as scan:
                entries = sorted(scan, key=lambda each: each.name)
        except OSError as exc:
            reason = exc.strerror or "the folder cannot be listed"
            yield _Listing(folder, (), (RefusedObject(shown(folder), "ACCESS_DENIED", reason),))
            continue
        todo.extend(
            f"{folder}/{each.name}".lstrip("/") for each in reversed(entries) if each.is_dir(follow_symlinks=False)
        )
        links = [f"{folder}/{each.name}".lstrip("/") for each in entries if each.is_symlink()]
        refused = tuple(_outside(link) for link in links if not _leads_inside(root / link, inside))
        yield _Listing(folder, tuple(_files(entries)), refused)


def _files(entries: list[os.DirEntry[str]]) -> Iterator[tuple[str, int, int]]:
    for entry in entries:
        if entry.is_file(follow_symlinks=False) and not entry.name.endswith(PART_SUFFIX):
            with contextlib.suppress(FileNotFoundError):
                status = entry.stat()
                yield entry.name, status.st_size, status.st_mtime_ns


def _leads_inside(link: Path, inside: Path) -> bool:
    return Path(os.path.realpath(link)).is_relative_to(inside)


def _outside(link: str) -> RefusedObject:
    return RefusedObject(shown(link), "LINK_OUTSIDE", "leads out of the archive's folder and is not followed")
