"""The ledger held against the archive: nothing lost, nothing twice, nothing changed."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...enrich.archives.archive import Archive, SeriesEntry
from ...enrich.archives.object_file import digest_if_whole
from ..ledger import Ledger
from .retracted import retracted


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found; the tuples hold SOP Instance UIDs.

    Attributes
    ----------
    equal : int
        Objects of the ledger that the archive holds once, with the same data set.
    missing, changed, doubled : tuple of str
        Objects of the ledger that the archive lacks, holds with another data set, or holds more than once.
    """

    equal: int
    missing: tuple[str, ...]
    changed: tuple[str, ...]
    doubled: tuple[str, ...]

    @property
    def sound(self) -> bool:
        """Whether ledger and archive agree on every object."""
        return not (self.missing or self.changed or self.doubled)


def verify(ledger: Ledger, archive: Archive) -> Verification:
    """Read every object that the run stored, and did not retract, back from the archive and compare digests."""
    gone = retracted(ledger)
    expected = {each.object.sop_instance_uid: each.object for each in ledger.stored()}
    expected = {uid: each for uid, each in expected.items() if uid not in gone}
    wanted = {each.series_instance_uid for each in expected.values()}
    seen: Counter[str] = Counter()
    digests: dict[str, str] = {}
    for uid, digest in _held(archive, wanted):
        if uid in expected:
            seen[uid] += 1
            digests[uid] = digest
    changed = tuple(uid for uid, digest in digests.items() if digest != expected[uid].sha256)
    doubled = tuple(uid for uid, times in seen.items() if times > 1)
    missing = tuple(uid for uid in expected if uid not in seen)
    return Verification(len(expected) - len({*missing, *changed, *doubled}), missing, changed, doubled)


def _held(archive: Archive, wanted: set[str]) -> Iterator[tuple[str, str]]:
    """SOP Instance UID and digest of every instance in the wanted series."""
    for entry in archive.search():
        if not isinstance(entry, SeriesEntry) or entry.series_instance_uid not in wanted:
            continue
        with tempfile.TemporaryDirectory() as folder:
            for instance in archive.retrieve(entry, Path(folder)).instances:
                yield instance.sop_instance_uid, digest_if_whole(instance.path)
