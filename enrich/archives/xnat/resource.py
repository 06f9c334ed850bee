"""A resource of XNAT's: its files listed, sent, and taken as a zip that is held against the listing."""

from __future__ import annotations

import hashlib
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final

from ..archive import RetrieveError
from ..http_answers import CONFLICT, NOT_FOUND
from .errors import FAULTS, UnsafeAnswer, status_of
from .session import XnatSession

_MD5: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
_DAMAGE: Final = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)


@dataclass(frozen=True, slots=True)
class XnatFile:
    """One file of a resource as its listing tells."""

    name: str
    bytes: int
    md5: str
    """Empty where XNAT keeps none."""

    @classmethod
    def of(cls, row: dict[str, str]) -> XnatFile:
        """From a row of the listing; a size that is no number is 0, and then the file will not be taken."""
        size, digest = row.get("Size", ""), row.get("digest", "").lower()
        return cls(row.get("Name", ""), int(size) if size.isdecimal() else 0, digest if _MD5.fullmatch(digest) else "")


def files_of(session: XnatSession, resource: tuple[str, ...]) -> list[XnatFile]:
    """Files of a resource; none where there is no such resource."""
    try:
        return [XnatFile.of(row) for row in session.results(*resource, "files")]
    except FAULTS as exc:
        if status_of(exc) in NOT_FOUND:
            return []
        raise


def make_resource(session: XnatSession, resource: tuple[str, ...]) -> None:
    """Make a resource; that it is there already is no fault."""
    try:
        session.put(*resource, format=resource[-1])
    except FAULTS as exc:
        if status_of(exc) != CONFLICT:
            raise


def send_new(session: XnatSession, resource: tuple[str, ...], name: str, data: bytes | Path) -> bool:
    """Send a file without leave to replace one; False if XNAT says that the name is taken."""
    try:
        session.send(data, *resource, "files", name, inbody="true")
    except FAULTS as exc:
        if status_of(exc) != CONFLICT:
            raise
        return False
    return True


def unpack(file: BinaryIO, listed: Sequence[XnatFile], into: Path, where: tuple[str, str]) -> Iterator[Path]:
    """Members of a zip, one by one as a file in `into` that the caller moves or removes.

    Their names are used for nothing. All are checked before the first is read: as many files and bytes as
    the listing tells, no more.

    Parameters
    ----------
    where : tuple of str
        URI of the archive and UID of the series, for errors.

    Raises
    ------
    UnsafeAnswer
        If a member's name leads out of the zip, or the members are larger than the listing says.
    RetrieveError
        If the zip is cut, a checksum is wrong (CRC-32, or MD5 where XNAT keeps one), or files are missing.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            members = [each for each in archive.infolist() if not each.is_dir()]
            _check(members, listed, where)
            digests = {each.md5 for each in listed}
            for number, member in enumerate(members):
                path = into / f".{number}.part"
                digest = _extract(archive, member, path)
                if "" not in digests and digest not in digests:
                    raise RetrieveError(*where, "a file of the zip is none of those listed (MD5 differs)")
                yield path
    except _DAMAGE as exc:
        raise RetrieveError(*where, f"the zip is cut or damaged ({type(exc).__name__})") from exc


def _check(members: list[zipfile.ZipInfo], listed: Sequence[XnatFile], where: tuple[str, str]) -> None:
    for each in members:
        path = PurePosixPath(each.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or ":" in "".join(path.parts[:1]):
            raise UnsafeAnswer(*where, "a name in the zip leads out of it")
    size, announced = sum(each.file_size for each in members), sum(each.bytes for each in listed)
    if size > announced:
        raise UnsafeAnswer(*where, f"the zip unpacks to {size} bytes, the listing tells {announced}")
    if len(members) != len(listed) or size != announced:
        reason = f"the zip holds {len(members)} files of {size} bytes, the listing {len(listed)} of {announced}"
        raise RetrieveError(*where, reason)


def _extract(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> str:
    """Write one member to a file; gives its MD5. zipfile reads no more than the size that was checked."""
    digest = hashlib.md5(usedforsecurity=False)
    with archive.open(member) as source, path.open("wb") as target:
        while chunk := source.read(1 << 20):
            digest.update(chunk)
            target.write(chunk)
    return digest.hexdigest()
