"""A run's results on this machine, by its ledger, for a submission: read back, compared, kept."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from ... import Error
from ...enrich.archives.archive import Archive, SeriesEntry, StoredObject
from ...enrich.archives.object_file import digest_if_whole
from ...enrich.atomic import replacing
from ...enrich.submission.submitted import Submitted, submitted
from ...runners.request import file_name
from ...runners.results import PROVENANCE
from ...runners.workitem import State
from ..ledger import Ledger
from ..run_folder import RunFolder
from .retracted import retracted


class NotSubmittable(Error):
    """A run's results cannot be handed over as they are."""

    code = "NOT_SUBMITTABLE"

    def __init__(self, run: str, reason: str) -> None:
        super().__init__(run, reason)

    def __str__(self) -> str:
        return f"{self.args[0]}: {self.args[1]}"


class SubmissionStopped(NotSubmittable):
    """It was stopped before all was here; the same command goes on."""

    code = "STOPPED"


@dataclass(frozen=True, slots=True)
class Collected:
    """The objects of a run on this machine.

    Attributes
    ----------
    left_out : tuple of str
        What is not among them and why, a line each; empty unless a part of a run was asked for.
    """

    files: tuple[Submitted, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Collector:
    """What to read back, and where to keep it.

    Attributes
    ----------
    root : Path
        What is handed over; objects lie in it under ``<within>/<series>/<instance>.dcm``.
    within : str
        Folder of the objects in `root`; empty for `root` itself.
    partial : bool
        Whether what is not whole is left out and told, and not refused.
    """

    ledger: Ledger
    archive: Archive
    root: Path
    within: str = ""
    partial: bool = False

    def collect(self, stop: Event, observe: Callable[[int, int], None]) -> Collected:
        """Read back what is not here yet, compare each object with the ledger; called again it goes on.

        Parameters
        ----------
        stop : Event
            Ends it between two objects when set.
        observe : callable
            Told how many objects are here, of how many.

        Raises
        ------
        NotSubmittable
            If the run is not complete, an object is missing or changed (and no part was asked for),
            nothing was stored, or the folder holds objects of something else.
        SubmissionStopped
            If `stop` was set.
        SearchError, RetrieveError, AccessDenied
            If the archive cannot be listed, or does not give an object now.
        """
        left_out = self._incomplete()
        gone = retracted(self.ledger)
        kept = (each.object for each in self.ledger.stored() if each.object.sop_instance_uid not in gone)
        stored = {self._path(each): each for each in kept}
        if not stored:
            raise NotSubmittable(self._name, "nothing was stored, or all was retracted")
        self._refuse_strangers(set(stored))
        entries = self._entries({each.series_instance_uid for each in stored.values()})
        files = []
        for number, (path, each) in enumerate(stored.items()):
            if stop.is_set():
                raise SubmissionStopped(self._name, f"stopped after {number} objects; the same command goes on")
            observe(number, len(stored))
            if fault := self._fetch(entries.get(each.series_instance_uid), each, self.root / path):
                left_out.append(f"{each.sop_instance_uid} {fault}")
            else:
                files.append(submitted(self.root, path))
        observe(len(stored), len(stored))
        if left_out and not self.partial:
            raise NotSubmittable(self._name, f"{_some(left_out)}; --partial leaves that out")
        if not files:
            raise NotSubmittable(self._name, "no object of the run is in its target")
        return Collected(tuple(files), tuple(left_out))

    @property
    def _name(self) -> str:
        return self.ledger.run().name

    def _incomplete(self) -> list[str]:
        counts = self.ledger.counts()
        standing = {"still to do": counts.open, "failed": counts.failed}
        found = [f"{number} workitems {how}" for how, number in standing.items() if number]
        if found and not self.partial:
            reason = f"the run is not complete: {', '.join(found)}; finish it, or give --partial"
            raise NotSubmittable(self._name, reason)
        return found

    def _entries(self, wanted: set[str]) -> dict[str, SeriesEntry]:
        """The wanted series, as the target tells them."""
        found = (each for each in self.archive.search() if isinstance(each, SeriesEntry))
        return {each.series_instance_uid: each for each in found if each.series_instance_uid in wanted}

    def _path(self, each: StoredObject) -> str:
        name = f"{each.series_instance_uid}/{each.sop_instance_uid}.dcm"
        return f"{self.within}/{name}" if self.within else name

    def _refuse_strangers(self, expected: set[str]) -> None:
        for path in sorted(self.root.rglob("*.dcm")):
            name = path.relative_to(self.root).as_posix()
            if not path.name.startswith(".") and name not in expected:
                raise NotSubmittable(self._name, f"{path} is no object of this run; give another --output")

    def _fetch(self, entry: SeriesEntry | None, each: StoredObject, path: Path) -> str:
        """Bring an object to `path` unless it is there; what is wrong with it in the target, in words."""
        if path.is_file() and digest_if_whole(path) == each.sha256:
            return ""
        if entry is None:
            return "is not in the target"
        with tempfile.TemporaryDirectory() as folder:
            instances = self.archive.retrieve(entry, Path(folder)).instances
            found = [one.path for one in instances if one.sop_instance_uid == each.sop_instance_uid]
            if not found:
                return "is not in the target"
            if digest_if_whole(found[0]) != each.sha256:
                return "was changed in the target"
            with replacing(path) as temporary:
                shutil.copyfile(found[0], temporary)
        return ""


def provenance_of(ledger: Ledger, folder: RunFolder) -> tuple[Path, ...]:
    """A provenance file of each model that completed something: the first result's that has one."""
    found: dict[tuple[str, str], Path] = {}
    for item in ledger.items():
        model = (item.workitem.model, item.workitem.model_version)
        path = folder.results / item.workitem.series_instance_uid / file_name(item.workitem.model) / PROVENANCE
        if item.state is State.COMPLETED and model not in found and path.is_file():
            found[model] = path
    return tuple(found.values())


def _some(lines: list[str]) -> str:
    more = f" and {len(lines) - 1} more" if len(lines) > 1 else ""
    return f"{lines[0]}{more}"
