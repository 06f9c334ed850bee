"""A zip or tar file of DICOM files as an archive that is only read."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ...digest import file_sha256
from ...series import Instance, Series
from ..archive import AccessDenied, NotThere, RefusedObject, RetrieveError, SearchError, SeriesEntry, SourceNotThere
from ..folder.found_series import found_series, one_each, uids_of
from ..folder.index import FolderIndex, FoundFile
from ..header import DAMAGE, Header, header_of
from ..object_file import object_digest
from ..read_only import ReadOnly
from ..whole import whole_or_nothing
from .pack import DAMAGED, UnsafePack, copy_members, open_pack

_DENIED: Final = "this user may not read the file; ask its owner for access"


class PackedArchive(ReadOnly):
    """The DICOM files in a zip or tar file, which stays packed: a series is unpacked when it is retrieved.

    Members that lead out of the file by their name or by a link, and encrypted ones, are refused one by
    one; a file whose contents are out of all proportion to it is refused whole. A compressed tar file has
    no table of contents and is read through for each series.

    Parameters
    ----------
    path : Path
        The packed file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.resolve() if ".." in path.parts else path.absolute()
        self._index = FolderIndex(self._path)

    @property
    def uri(self) -> str:
        """``dir:`` and the absolute path of the packed file."""
        return f"dir:{self._path}"

    def search(self) -> Iterator[SeriesEntry | RefusedObject]:
        """Every series in the file, ordered by UID, then what cannot be used, by name.

        Raises
        ------
        SourceNotThere, AccessDenied, SearchError
            If the file is not there, is damaged or may not be unpacked.
        """
        self._refresh()
        yield from found_series(self._index, self._equal, [])

    @whole_or_nothing
    def retrieve(self, entry: SeriesEntry, into: Path) -> Series:
        """Unpack the series into `into`, as ``INSTANCE.dcm``.

        Raises
        ------
        NotThere
            If the file holds no member of the series.
        RetrieveError, AccessDenied
            If a member is damaged, or instances are not as many as the search said.
        """
        uid = entry.series_instance_uid
        try:
            self._refresh()
            files = one_each(self._index.files_of(uid))
            if not files:
                raise NotThere(self.uri, uid, "the file holds no member of this series")
            if len(files) != entry.instances:
                reason = f"the file holds {len(files)} instances and not {entry.instances} as the search said"
                raise RetrieveError(self.uri, uid, reason)
            into.mkdir(parents=True, exist_ok=True)
            with open_pack(self._path) as pack:
                copy_members(pack, {each.path: _target(each, into) for each in files})
            instances = tuple(_instance(each, into) for each in files)
        except PermissionError as exc:
            raise AccessDenied(self.uri, uid, _DENIED) from exc
        except (SearchError, OSError, UnsafePack, *DAMAGED) as exc:
            reason = exc.args[2] if isinstance(exc, SearchError) else str(exc)
            raise RetrieveError(self.uri, uid, f"cannot be unpacked: {reason}") from exc
        return Series(entry.study_instance_uid, uid, entry.modality, instances)

    def close(self) -> None:
        """Close the index."""
        self._index.close()

    def _refresh(self) -> None:
        """Read the headers of all members, unless the index knows this very file."""
        try:
            mtime_ns = self._path.stat().st_mtime_ns
            if self._index.times_ns() == {mtime_ns}:
                return
            with open_pack(self._path) as pack, warnings.catch_warnings():
                warnings.simplefilter("ignore")  # pydicom warns of each invalid value; the header's code says it once
                found = []
                for member, opened in pack.members():
                    if member.code:
                        header = Header(None, code=member.code, reason=member.reason)
                    else:
                        with opened() as file:
                            header = header_of(file)
                    name = f"{member.name} (again)" if member.code == "DUPLICATE_NAME" else member.name
                    found.append(FoundFile(name, member.bytes, mtime_ns, header))
        except FileNotFoundError as exc:
            raise SourceNotThere(self.uri, "", "no such file") from exc
        except PermissionError as exc:
            raise AccessDenied(self.uri, "", _DENIED) from exc
        except (OSError, UnsafePack, *DAMAGED) as exc:
            raise SearchError(self.uri, "", f"cannot be unpacked: {exc}") from exc
        self._index.keep_folders(set())
        self._index.replace("", [], found)

    def _equal(self, group: list[FoundFile]) -> bool:
        """Whether all members of a group hold one data set; a damaged one equals none."""
        if len(group) == 1:
            return True
        with tempfile.TemporaryDirectory(prefix="voxfleet-") as folder:
            paths = {each.path: Path(folder) / str(number) for number, each in enumerate(group)}
            try:
                with open_pack(self._path) as pack:
                    copy_members(pack, paths)
                return len({file_sha256(path) for path in paths.values()}) == 1 or (
                    len({object_digest(path) for path in paths.values()}) == 1
                )
            except (OSError, UnsafePack, *DAMAGED, *DAMAGE):
                return False


def _target(file: FoundFile, into: Path) -> Path:
    return into / f"{uids_of(file).sop_instance_uid}.dcm"


def _instance(file: FoundFile, into: Path) -> Instance:
    uids, path = uids_of(file), _target(file, into)
    return Instance(uids.sop_class_uid, uids.sop_instance_uid, file_sha256(path), path.stat().st_size, path)
