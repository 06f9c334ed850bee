"""What an archive says that nothing can be stored in."""

from __future__ import annotations

from typing import NoReturn

from .archive import StoreRefused


class ReadOnlyArchive(StoreRefused):
    """Something was to be stored in an archive that is only read."""

    code = "READ_ONLY"


def refuse_to_store(uri: str, sop_instance_uid: str = "") -> NoReturn:
    """Refuse.

    Raises
    ------
    ReadOnlyArchive
        Always.
    """
    raise ReadOnlyArchive(uri, sop_instance_uid, "this archive is only read; name another one as target")
