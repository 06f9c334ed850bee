"""Zip and tar files of DICOM files: their members, checked before one is read."""

from __future__ import annotations

import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, Final, Protocol, Self, cast

SUFFIXES: Final = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
DAMAGED: Final = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    UnicodeDecodeError,
)
"""What the readers raise for a file that is cut, damaged or packed in a way that they do not know; beside OSError."""
MAX_RATIO: Final = 200
"""Contents larger than this many times the file are no images: CT packs to a half, label maps to a hundredth."""
HARMLESS_BYTES: Final = 1 << 28
"""Contents up to this size harm nobody, whatever their ratio."""
MAX_MEMBERS: Final = 4_000_000
MAX_NAME_BYTES: Final = 1 << 20
"""Of what a tar file says about one entry before it (long names, pax records), which is read into memory."""
_BEFORE_ENTRIES: Final = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)
_CHUNK_BYTES: Final = 1 << 20
_ENCRYPTED: Final = 0x1
_UNIX: Final = 16
"""Bits by which a zip's external attributes hold the Unix mode."""


class UnsafePack(ValueError):
    """A packed file that would grow beyond all measure, or a member that is not what was said."""


@dataclass(frozen=True, slots=True)
class Member:
    """One file within a packed file.

    Attributes
    ----------
    code, reason : str
        Why it is not read; both empty if it is.
    """

    name: str
    bytes: int
    code: str = ""
    reason: str = ""


class Pack(Protocol):
    """An open packed file."""

    def members(self) -> Iterator[tuple[Member, Callable[[], BinaryIO]]]:
        """Every file in it and how to open it, in the order of the packed file; open it before the next is asked for.

        Raises
        ------
        UnsafePack
            If the contents are too large for the packed file, or too many.
        """
        ...


@contextmanager
def open_pack(path: Path) -> Iterator[Pack]:
    """Open a zip or tar file, told by its contents.

    Raises
    ------
    OSError
        If it cannot be read.
    DAMAGED
        If it is neither.
    UnsafePack
        If it tells too much about its first member.
    """
    size = path.stat().st_size
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as file:
            yield _Zip(file, size)
    else:
        with _opened_tar(path) as tar:
            yield _Tar(tar, size)


def _opened_tar(path: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(path, tarinfo=_Entry)
    except tarfile.ReadError as exc:
        # Its own message has a line for each way of packing that it tried.
        raise tarfile.ReadError("it is neither a zip nor a tar file, or its beginning is damaged") from exc


def copy_members(pack: Pack, targets: Mapping[str, Path]) -> None:
    """Write the members named to the files named; a member never gives more bytes than it said.

    Raises
    ------
    UnsafePack
        If a member is not of the size that it said.
    OSError, DAMAGED
        If one cannot be read or written.
    """
    for member, opened in pack.members():
        if member.code or member.name not in targets:
            continue
        with opened() as source, targets[member.name].open("wb") as target:
            left = member.bytes
            while left and (chunk := source.read(min(left, _CHUNK_BYTES))):
                target.write(chunk)
                left -= len(chunk)
            if left or source.read(1):
                raise UnsafePack("a member is not of the size that its entry says")


class _Zip:
    def __init__(self, file: zipfile.ZipFile, size: int) -> None:
        self._file, self._size = file, size

    def members(self) -> Iterator[tuple[Member, Callable[[], BinaryIO]]]:
        entries = [each for each in self._file.infolist() if not each.is_dir()]
        _check_growth(sum(each.file_size for each in entries), len(entries), self._size)
        seen: set[str] = set()
        for entry in entries:
            code, reason = _name_fault(entry.filename, seen)
            if stat.S_ISLNK(entry.external_attr >> _UNIX):
                code, reason = "LINK_OUTSIDE", "is a link and is not followed"
            elif entry.flag_bits & _ENCRYPTED:
                code, reason = "ENCRYPTED", "is encrypted"
            yield Member(entry.filename, entry.file_size, code, reason), self._opener(entry)

    def _opener(self, entry: zipfile.ZipInfo) -> Callable[[], BinaryIO]:
        return lambda: cast(BinaryIO, self._file.open(entry))


class _Entry(tarfile.TarInfo):
    """A tar file's entry; one that only tells of the next may not be large."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        entry = super().frombuf(buf, encoding, errors)
        if entry.type in _BEFORE_ENTRIES and entry.size > MAX_NAME_BYTES:
            raise UnsafePack(f"it tells more than {MAX_NAME_BYTES} bytes about one member, as a bomb does")
        return entry


class _Tar:
    def __init__(self, file: tarfile.TarFile, size: int) -> None:
        self._file, self._size = file, size

    def members(self) -> Iterator[tuple[Member, Callable[[], BinaryIO]]]:
        total, seen = 0, set[str]()
        for count, entry in enumerate(self._file):
            total += entry.size
            _check_growth(total, count, self._size)
            if entry.isdir():
                continue
            code, reason = _name_fault(entry.name, seen)
            if entry.issym() or entry.islnk():
                code, reason = "LINK_OUTSIDE", "is a link and is not followed"
            elif not entry.isfile() or entry.issparse():
                code, reason = "NOT_A_FILE", "is a device, a pipe or a sparse file"
            yield Member(entry.name, entry.size, code, reason), self._opener(entry)

    def _opener(self, entry: tarfile.TarInfo) -> Callable[[], BinaryIO]:
        def opened() -> BinaryIO:
            file: IO[bytes] | None = self._file.extractfile(entry)
            if file is None:
                raise UnsafePack("a member is no file")
            return cast(BinaryIO, file)

        return opened


def _check_growth(contents_bytes: int, count: int, packed_bytes: int) -> None:
    if contents_bytes > HARMLESS_BYTES and contents_bytes > MAX_RATIO * packed_bytes:
        reason = f"its contents are more than {MAX_RATIO} times its size, as those of a zip bomb: unpack it by hand"
        raise UnsafePack(reason)
    if count > MAX_MEMBERS:
        raise UnsafePack(f"it has more than {MAX_MEMBERS} members")


def _name_fault(name: str, seen: set[str]) -> tuple[str, str]:
    """Why a member is not read because of its name."""
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or "\\" in name or "\0" in name or (parts[:1] and parts[0].endswith(":")):
        return "UNSAFE_NAME", "its name leads out of the packed file"
    if name in seen:
        return "DUPLICATE_NAME", "another member has the same name"
    seen.add(name)
    return "", ""
