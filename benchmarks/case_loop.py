"""The loop over the series of a benchmark: which are scored, with what, and once more where words were lacking."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from ..enrich.archives.archive import RefusedObject, SeriesEntry
from ..enrich.archives.opening import open_archive
from ..runners.commands import progress_bar
from ..runners.worklist import NO_IMAGES
from .case import Candidate, CaseRequest, CaseResult, Problem
from .case_pool import CasePool
from .readings import undescribed
from .references.find import References, is_packed, open_references
from .references.reference import Reading, Structure, Subject
from .study import Study, Unread, refused


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """A place of references or predictions, on this machine.

    Attributes
    ----------
    path : str
        Where the files are; of an archive, where they were copied to.
    """

    asked: str
    path: str
    references: References

    @property
    def state(self) -> str:
        """Of the files: changes if one of them does."""
        files = [(str(each.path), each.path.stat()) for each in self.references.files]
        copied = self.asked != self.path
        return repr([(name, of.st_size, 0 if copied else of.st_mtime_ns) for name, of in files])

    def of(self, entries: Sequence[SeriesEntry]) -> set[str]:
        """Series that a file there may be of, as far as its identifiers tell.

        One file that is of none of them is held against all: what it is of instead is then told.
        """
        found = {e.series_instance_uid for e in entries for f in self.references.files if _may_concern(f.subject, e)}
        alone = Path(self.path).is_file()
        return found or ({each.series_instance_uid for each in entries} if alone else set())


@dataclass(frozen=True, slots=True, eq=False)
class Sides:
    """Where both sides of the scores come from.

    Attributes
    ----------
    given : mapping
        Of models run just now, by Series Instance UID.
    predictions : mapping
        Of models that ran before, by their names.
    """

    references: tuple[Place, ...]
    given: Mapping[str, tuple[Candidate, ...]]
    predictions: Mapping[str, Place]


@dataclass(frozen=True, slots=True)
class Loop:
    """What the loop gave.

    Attributes
    ----------
    requests : dict
        As each series was scored last, by Series Instance UID.
    left : int
        Series that were not begun, by a stop.
    """

    cases: tuple[CaseResult, ...]
    requests: dict[str, CaseRequest]
    unread: tuple[Unread, ...]
    left: int


def localised(place: str, reading: Reading, scratch: Path) -> Place:
    """A place with its files found; those of an archive are copied, once for all processes.

    Raises
    ------
    NoReference
        If nothing there is of a known format.
    SearchError, RetrieveError, AccessDenied
        If an archive cannot be listed, or an object not be had.
    """
    local = place.removeprefix("dir:")
    copied = is_packed(Path(local)) or not Path(local).exists()
    if copied:
        shutil.rmtree(scratch, ignore_errors=True)  # what an earlier command copied may be gone from the archive
    found = open_references(local, reading, scratch)
    return Place(local, str(scratch) if copied else local, found)


def score_all(study: Study, pool: CasePool, sides: Sides, stopped: Callable[[], bool], console: Console) -> Loop:
    """Every series that a reference may be of, scored."""
    entries, unread = _entries(study.source)
    held = set().union(*(place.of(entries) for place in sides.references))
    mine = [each for each in entries if each.series_instance_uid in held]
    others = [each for each in entries if each not in mine]
    requests = [_request(study, each, sides) for each in mine]
    with progress_bar(console) as bar:
        task = bar.add_task("scores", total=len(requests), counts="")
        found: dict[str, CaseResult] = {}
        for case in pool.score(requests, stopped):
            found[case.series_instance_uid] = case
            bar.update(task, completed=len(found), counts=_counts(found.values()))
        again = _again(requests, found)
        bar.update(task, total=len(requests) + len(again))
        for number, case in enumerate(pool.score(again, stopped), start=1):
            found[case.series_instance_uid] = case
            bar.update(task, completed=len(requests) + number)
    cases = [found[each.series_instance_uid] for each in mine if each.series_instance_uid in found]
    cases += [CaseResult(each.series_instance_uid, modality=each.modality) for each in others]
    last = {each.entry.series_instance_uid: each for each in (*requests, *again)}
    return Loop(at_home(unshared(cases)), last, unread, len(requests) - len(found))


def _entries(source: str) -> tuple[list[SeriesEntry], tuple[Unread, ...]]:
    """Series of images, and what of the source cannot be used."""
    archive = open_archive(source)
    try:
        found = list(archive.search())
    finally:
        archive.close()
    entries = [each for each in found if isinstance(each, SeriesEntry) and each.modality not in NO_IMAGES]
    broken = [each for each in found if isinstance(each, RefusedObject) and each.code != "NOT_DICOM"]
    return entries, tuple(refused(each) for each in broken)


def _may_concern(subject: Subject, entry: SeriesEntry) -> bool:
    """Whether a file may be of a series: only one that names other series, or other studies, may not."""
    if subject.series_instance_uids:
        return entry.series_instance_uid in subject.series_instance_uids
    if subject.study_instance_uids:
        return entry.study_instance_uid in subject.study_instance_uids
    return True


def _request(study: Study, entry: SeriesEntry, sides: Sides) -> CaseRequest:
    made = tuple(Candidate(name, place=place.path) for name, place in sides.predictions.items())
    lists = tuple(each.of(entry.series_instance_uid) for each in study.detectors)
    candidates = (*sides.given.get(entry.series_instance_uid, ()), *made)
    return CaseRequest(study.source, entry, candidates, study.rules, str(study.scratch), str(study.reports), lists)


def _again(requests: Sequence[CaseRequest], found: Mapping[str, CaseResult]) -> list[CaseRequest]:
    """Requests of series where a model may have missed what it describes in others, with all its words."""
    words: dict[str, tuple[Structure, ...]] = {}
    for case in found.values():
        for model, structures in case.found:
            known = words.get(model, ())
            words[model] = (*known, *undescribed(structures, known))
    again = []
    for request in requests:
        scored = found.get(request.entry.series_instance_uid)
        if scored is None:
            continue
        candidates = tuple(_knowing(each, scored, words) for each in request.candidates)
        if candidates != request.candidates:
            again.append(replace(request, candidates=candidates))
    return again


def _knowing(candidate: Candidate, case: CaseResult, words: Mapping[str, tuple[Structure, ...]]) -> Candidate:
    """A candidate with all words of its model, where it has not all of them and that may matter."""
    if candidate.seg or candidate.vocabulary or candidate.model not in case.lacking:
        return candidate
    known = dict(case.found).get(candidate.model, ())
    more = undescribed(words.get(candidate.model, ()), known)
    return replace(candidate, vocabulary=words[candidate.model]) if more else candidate


def unshared(cases: Sequence[CaseResult]) -> tuple[CaseResult, ...]:
    """Cases without the scores of those whose reference names nobody and fits several patients."""
    patients: dict[str, set[str]] = {}
    for case in cases:
        for each in case.claimed:
            if each.by_grid:
                patients.setdefault(each.path, set()).add(case.patient)
    shared = {path for path, of in patients.items() if len(of) > 1}
    return tuple(_without_scores(case, shared) for case in cases)


def _without_scores(case: CaseResult, shared: set[str]) -> CaseResult:
    mine = sorted(each.path for each in case.claimed if each.by_grid and each.path in shared)
    if not mine:
        return case
    reason = f"{mine[0]} names no series, and its grid is that of several patients: put it into a folder of its UID"
    return _bare(case, Problem("SHARED_REFERENCE", reason))


def at_home(cases: Sequence[CaseResult]) -> tuple[CaseResult, ...]:
    """Cases, but nothing of those whose references name no series and lie on the voxels of another: they have none."""
    homes = {each.path for case in cases for each in case.claimed if not each.elsewhere}
    return tuple(_unless_elsewhere(case, homes) for case in cases)


def _unless_elsewhere(case: CaseResult, homes: set[str]) -> CaseResult:
    away = sorted(each.path for each in case.claimed if each.elsewhere and each.path in homes)
    if not away:
        return case
    if len(away) == len(case.claimed):
        return _bare(case)
    reason = f"{away[0]} names no series, and lies on the voxels of another one of its frame of reference"
    return replace(case, problems=(*case.problems, Problem("OTHER_SERIES", reason)))


def _bare(case: CaseResult, *problems: Problem) -> CaseResult:
    """A case without scores."""
    known = case.series_instance_uid, case.patient, case.modality, case.attributes
    return CaseResult(*known, problems=(*case.problems, *problems))


def _counts(cases: Iterable[CaseResult]) -> str:
    """Of the bar."""
    done = tuple(cases)
    failed = sum(any(score.failure for score in each.scores) for each in done)
    return f"{sum(bool(each.readers) for each in done)} with a reference, {failed} with a failure"
