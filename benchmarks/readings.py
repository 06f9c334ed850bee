"""One series read for scoring: its image, what each reader marked, and what each model found."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .. import Error
from ..enrich.archives.opening import open_archive
from ..enrich.series import SourceImage, read_volume
from .case import Candidate, CaseRequest, ClaimedFile
from .crosswalk import concept_of
from .references import dicom_seg
from .references.coding import same_code
from .references.find import References, open_references
from .references.merging import merged
from .references.packed_mask import nothing
from .references.reference import Annotation, Origin, Reading, Structure

ONE_READER = "reference"
"""Name of the only reader of a series, whoever it was, so that all series are summed up together."""


class AmbiguousPrediction(Error):
    """Several predictions of one structure for one series under one name."""

    code = "AMBIGUOUS_PREDICTION"
    refused = True

    def __init__(self, place: str, structure: str) -> None:
        super().__init__(place, structure)

    def __str__(self) -> str:
        place, structure = self.args
        return (
            f"{place}: {structure} is there twice for one series: give each model's predictions with a name of its own"
        )


class NoPrediction(Error):
    """Nothing among the predictions is of the series."""

    code = "NO_PREDICTION"
    refused = True

    def __init__(self, place: str) -> None:
        super().__init__(place)

    def __str__(self) -> str:
        return f"{self.args[0]} holds nothing for this series"


@dataclass(frozen=True, slots=True, eq=False)
class Expert:
    """What one reader marked, under the name that scores go by."""

    name: str
    annotation: Annotation


def read_image(request: CaseRequest) -> SourceImage:
    """The volume of the series.

    Raises
    ------
    RetrieveError, AccessDenied, GeometryRefused
        If it cannot be had or read.
    """
    archive = open_archive(request.source)
    try:
        folder = Path(request.scratch) / request.entry.series_instance_uid
        series = archive.retrieve(request.entry, folder)
    finally:
        archive.close()
    return read_volume(series, repair=request.rules.repair)


def patient_of(image: SourceImage) -> str:
    """Digest that stands for the patient; of the study where the image names none."""
    name = str(image.headers[0].get("PatientID") or image.series.study_instance_uid)
    return hashlib.sha256(name.encode()).hexdigest()[:12]


def read_experts(
    image: SourceImage, request: CaseRequest
) -> tuple[tuple[Expert, ...], tuple[ClaimedFile, ...], tuple[Error, ...]]:
    """Every reader's annotation of an image, the files that were read, and what was wrong with others."""
    found: list[Annotation] = []
    claimed: list[ClaimedFile] = []
    errors: list[Error] = []
    for place in request.rules.references:
        references = _references(place, request.rules.reading, request.scratch)
        found += references.of(image, errors)
        claimed += [_claim(references, path, image) for path, of in references.claims.items() if of]
    return _named(_marking(found), consensus=request.rules.consensus), tuple(claimed), tuple(errors)


def read_prediction(image: SourceImage, candidate: Candidate, request: CaseRequest) -> Annotation:
    """What a model found, with an empty mask for each structure of its vocabulary that it did not.

    Raises
    ------
    NoPrediction
        If there is nothing for the series.
    AmbiguousPrediction
        If a structure is there twice.
    InvalidReference
        If the prediction does not fit the image.
    """
    if candidate.seg:
        found: Sequence[Annotation] = dicom_seg.read(Path(candidate.seg), image, Reading())
    else:
        found = _marking(_references(candidate.place, request.rules.reading, request.scratch).of(image))
    if not found:
        raise NoPrediction(candidate.place)
    if len(found) > 1:
        _check_disjoint(candidate.place, found)
    one = found[0] if len(found) == 1 else merged(found, Origin(candidate.place, found[0].origin.format))
    return _completed(one, candidate.vocabulary)


def _marking(found: Sequence[Annotation]) -> Sequence[Annotation]:
    """Annotations that mark something, if any does: measurements (SR) beside their SEG are nothing of their own."""
    return [each for each in found if each.masks or each.points or each.boxes or each.lines] or found


def undescribed(vocabulary: Iterable[Structure], structures: Sequence[Structure]) -> tuple[Structure, ...]:
    """Structures of a vocabulary that are, by code, none of some structures."""
    return tuple(each for each in vocabulary if not any(_same(each, other) for other in structures))


def _references(place: str, reading: Reading, scratch: str) -> References:
    """References of a place, found once; what is read for a series is told for that series alone."""
    key = (place, repr(sorted(reading.codes)), repr(sorted(reading.values)), reading.threshold, scratch)
    if key not in _OPENED:
        _OPENED[key] = open_references(place, reading, Path(scratch) / "references")
    return replace(_OPENED[key], claims={}, resampled=set())


_OPENED: dict[tuple[object, ...], References] = {}
"""References that this process has found: finding them reads every file's header."""


def _claim(references: References, path: Path, image: SourceImage) -> ClaimedFile:
    """Why a file was taken for the image's."""
    subject = next(each.subject for each in references.files if each.path == path)
    series = image.series
    told = {str(image.headers[0].get("PatientID") or ""), series.study_instance_uid, series.series_instance_uid}
    by_grid = subject.grid is not None and not (told & subject.names)
    by_frame = subject.grid is None and not (subject.series_instance_uids or subject.sop_instance_uids)
    return ClaimedFile(str(path), by_grid, elsewhere=by_frame and path in references.resampled)


def _named(found: Sequence[Annotation], *, consensus: bool) -> tuple[Expert, ...]:
    """Annotations with names that differ; a single one is `ONE_READER` unless readers are compared."""
    if len(found) == 1 and not consensus:
        return (Expert(ONE_READER, found[0]),)
    experts: list[Expert] = []
    for each in found:
        name = each.reader or each.origin.format
        taken = sum(other.name == name or other.name.startswith(f"{name} (") for other in experts)
        experts.append(Expert(f"{name} ({taken + 1})" if taken else name, each))
    return tuple(experts)


def _check_disjoint(place: str, found: Sequence[Annotation]) -> None:
    seen: list[Structure] = []
    for annotation in found:
        for structure in annotation.structures:
            if any(_same(structure, other) for other in seen):
                raise AmbiguousPrediction(place, structure.name)
        seen += annotation.structures


def _completed(annotation: Annotation, vocabulary: Sequence[Structure]) -> Annotation:
    more = undescribed(vocabulary, annotation.structures)
    first = len(annotation.structures) + 1
    added = tuple(replace(each, number=first + n) for n, each in enumerate(more))
    empty = {each.number: nothing(annotation.geometry.spatial_shape) for each in added}
    return replace(annotation, structures=(*annotation.structures, *added), masks={**annotation.masks, **empty})


def _same(one: Structure, other: Structure) -> bool:
    """Whether two structures are one thing: by code and side, by name where there is no code."""
    a, b = concept_of(one), concept_of(other)
    if a is None or b is None:
        return a is b and one.name == other.name
    region = same_code(a.anatomic_region, b.anatomic_region) or a.anatomic_region is None or b.anatomic_region is None
    return same_code(a.type, b.type) and same_code(a.laterality, b.laterality) and region
