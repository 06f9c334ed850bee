"""A source under a policy of licences: what may not be used is refused before anything of it is read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..series import Series
from .archive import Archive, RefusedObject, SeriesEntry
from .read_only import ReadOnly

_VERSION = re.compile(r"[0-9]+(\.[0-9]+)*")


@dataclass
class LicensedArchive(ReadOnly):
    """An archive whose search refuses series under other licences than those allowed.

    Attributes
    ----------
    allowed : tuple of str
        Names of licences, e.g. ``CC-BY`` or ``CC BY 4.0``; see `permits`. Empty: every series is taken.
    told : list of SeriesEntry
        Series met by the search whose licence or DOI the archive names, refused ones too.
    """

    archive: Archive
    allowed: tuple[str, ...] = ()
    told: list[SeriesEntry] = field(default_factory=list)

    @property
    def uri(self) -> str:
        """Of the archive."""
        return self.archive.uri

    def search(self) -> Iterator[SeriesEntry | RefusedObject]:
        """What the archive's search gives, with ``LICENCE`` refusals.

        Raises
        ------
        SearchError, AccessDenied
            As the archive does.
        """
        for each in self.archive.search():
            if isinstance(each, RefusedObject):
                yield each
                continue
            if each.licence or each.doi:
                self.told.append(each)
            if permits(self.allowed, each.licence):
                yield each
            else:
                reason = f"is under {each.licence or 'no licence that the archive names'}; --licence allows "
                yield RefusedObject(each.series_instance_uid, "LICENCE", reason + ", ".join(self.allowed))

    def retrieve(self, entry: SeriesEntry, into: Path) -> Series:
        """Retrieve from the archive; for what it raises see there."""
        return self.archive.retrieve(entry, into)

    def close(self) -> None:
        """Close the archive."""
        self.archive.close()


def permits(allowed: tuple[str, ...], licence: str) -> bool:
    """Whether a policy lets a licence through.

    Names count without regard to case, and spaces as hyphens; a name without a version allows every
    version. So ``CC-BY`` allows ``CC BY 3.0`` and ``CC BY 4.0``, and neither ``CC BY-NC 4.0`` nor a
    series whose licence is not known. An empty policy lets everything through.
    """
    if not allowed:
        return True
    name = _parts(licence)
    bare = tuple(part for part in name if not _VERSION.fullmatch(part))
    return bool(name) and any(_parts(each) in (name, bare) for each in allowed)


def _parts(licence: str) -> tuple[str, ...]:
    return tuple(licence.upper().replace("-", " ").split())
