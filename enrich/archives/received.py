"""An object that an archive gave, checked and filed as one of the series that it was asked for."""

from __future__ import annotations

from pathlib import Path

from ..digest import file_sha256
from ..series import Instance
from .archive import RetrieveError
from .object_file import opened
from .uids import ObjectUids, object_uids


def filed(part: Path, into: Path, uri: str, series_instance_uid: str) -> Instance:
    """The instance in a file that came from an archive; the file becomes ``INSTANCE.dcm`` of the folder `into`.

    Raises
    ------
    RetrieveError
        If it has no usable UIDs, or is of another series.
    object_file.CutObject, OSError, or one of `header.DAMAGE`
        If it is cut, or no DICOM file.
    """
    with opened(part) as dataset:
        uids = object_uids(dataset)
    if not isinstance(uids, ObjectUids):
        raise RetrieveError(uri, series_instance_uid, f"the archive gave an object whose {uids.reason}")
    if uids.series_instance_uid != series_instance_uid:
        reason = f"the archive gave an object of series {uids.series_instance_uid}"
        raise RetrieveError(uri, series_instance_uid, reason)
    path = part.replace(into / f"{uids.sop_instance_uid}.dcm")
    return Instance(uids.sop_class_uid, uids.sop_instance_uid, file_sha256(path), path.stat().st_size, path)
