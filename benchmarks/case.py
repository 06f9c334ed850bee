"""What the scoring of one series takes and gives: plain records that cross a process and a disk."""

from __future__ import annotations

import types
import typing
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any, TypeVar

from ..enrich.archives.archive import SeriesEntry
from .metrics.froc import Detections
from .references.reference import Reading, Structure
from .score import Score
from .subgroups import SeriesAttributes

POINT_RADIUS_MM = 5.0
Record = TypeVar("Record")


@dataclass(frozen=True, slots=True)
class Candidate:
    """One model's prediction for one series.

    Attributes
    ----------
    model : str
        Name in scores and report.
    seg : str
        File of a SEG that was made just now; empty where `place` is searched.
    place : str
        Path or URI of predictions that exist.
    failure : str
        Why there is nothing, code first; empty where there is.
    vocabulary : tuple of Structure
        All that the model can find: what a prediction does not describe, it did not find.
    """

    model: str
    seg: str = ""
    place: str = ""
    failure: str = ""
    vocabulary: tuple[Structure, ...] = ()


@dataclass(frozen=True, slots=True)
class Rules:
    """How every case of a study is read and scored.

    Attributes
    ----------
    references : tuple of str
        Paths or URIs of experts' annotations.
    crosswalk : str
        File of the user's crosswalk; empty for none.
    tolerances_mm : tuple of float
        Of the surface Dice.
    lesions : bool
        Whether structures are scored by lesions too.
    consensus : bool
        Whether several readers are held against each other and agreed on.
    repair : bool
        As of `enrich.series.read_volume`.
    irrelevant : tuple of str
        Names of structures whose candidates count neither as hits nor as false positives.
    point_radius_mm : float
        Within which of an expert's point a candidate hits.
    """

    references: tuple[str, ...]
    reading: Reading
    tolerances_mm: tuple[float, ...]
    crosswalk: str = ""
    lesions: bool = False
    consensus: bool = False
    repair: bool = False
    irrelevant: tuple[str, ...] = ()
    point_radius_mm: float = POINT_RADIUS_MM


@dataclass(frozen=True, slots=True)
class CandidatePoint:
    """A place that a detector takes for a lesion, LPS mm, and how sure it is."""

    position_mm: tuple[float, float, float]
    probability: float


@dataclass(frozen=True, slots=True)
class CandidateList:
    """All candidates of one detector for one series."""

    model: str
    points: tuple[CandidatePoint, ...]


@dataclass(frozen=True, slots=True)
class CaseRequest:
    """Score one series.

    Attributes
    ----------
    scratch, reports : str
        Folders: for copies from archives, and for the SR.
    lists : tuple of CandidateList
        Of every detector, also of those that found nothing here.
    """

    source: str
    entry: SeriesEntry
    candidates: tuple[Candidate, ...]
    rules: Rules
    scratch: str
    reports: str
    lists: tuple[CandidateList, ...] = ()


@dataclass(frozen=True, slots=True)
class PictureRequest:
    """Draw one structure of one series, as the expert and the model have it."""

    case: CaseRequest
    model: str
    reference: str
    segment: str


@dataclass(frozen=True, slots=True)
class Problem:
    """What kept a series, a reference or a prediction from being scored as it should be."""

    code: str
    reason: str
    model: str = ""
    reference: str = ""


@dataclass(frozen=True, slots=True)
class Provenance:
    """One side of the scores of a series: whose word or which model, and the file with its digest."""

    side: str
    name: str
    reader: str
    format: str
    source: str
    sha256: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class WithoutPartner:
    """A structure of one side that nothing of the other is."""

    model: str
    reference: str
    side: str
    structure: str
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Volumes:
    """Volume of one structure on both sides, in mL."""

    model: str
    reference: str
    segment: str
    expert_ml: float
    model_ml: float


@dataclass(frozen=True, slots=True)
class Mark:
    """A point, line or box of an expert held against a model's structure."""

    model: str
    reference: str
    segment: str
    kind: str
    hit: bool
    distance_mm: float
    iou: float


@dataclass(frozen=True, slots=True)
class Involvement:
    """Opacity in per cent of the lungs on both sides.

    Attributes
    ----------
    lungs : str
        Whose lungs the expert's opacity was held against: ``expert`` or ``model``.
    failed : bool
        Whether the model gave nothing: its share is then 0.
    """

    model: str
    reference: str
    expert_percent: float
    model_percent: float
    lungs: str
    failed: bool = False


@dataclass(frozen=True, slots=True)
class CaseDetections:
    """One detector's candidates held against one reader's lesions; `irrelevant` ones are counted alone."""

    model: str
    reference: str
    found: Detections
    irrelevant: int = 0


@dataclass(frozen=True, slots=True)
class ClaimedFile:
    """A reference that was read for a series.

    Attributes
    ----------
    by_grid : bool
        Because of its grid alone: it does not name the series.
    elsewhere : bool
        Because of its frame of reference alone, and its voxels are not those of the series.
    """

    path: str
    by_grid: bool
    elsewhere: bool = False


@dataclass(frozen=True, slots=True)
class CaseResult:
    """All that became of one series.

    Attributes
    ----------
    patient : str
        First hex digits of the SHA-256 of Patient ID, so that no identifier reaches a table.
    readers : tuple of str
        Whose annotations there are; empty: the series has no reference.
    found : tuple of (str, tuple of Structure)
        Structures that each model's prediction describes.
    lacking : tuple of str
        Models that have no prediction here or not all the expert's structures: scored again once all that
        the model describes elsewhere is known.
    reports : tuple of str
        SR files written.
    """

    series_instance_uid: str
    patient: str = ""
    modality: str = ""
    attributes: SeriesAttributes = field(default_factory=SeriesAttributes)
    readers: tuple[str, ...] = ()
    scores: tuple[Score, ...] = ()
    agreement: tuple[Score, ...] = ()
    volumes: tuple[Volumes, ...] = ()
    marks: tuple[Mark, ...] = ()
    involvement: tuple[Involvement, ...] = ()
    detections: tuple[CaseDetections, ...] = ()
    without_partner: tuple[WithoutPartner, ...] = ()
    problems: tuple[Problem, ...] = ()
    provenance: tuple[Provenance, ...] = ()
    claimed: tuple[ClaimedFile, ...] = ()
    found: tuple[tuple[str, tuple[Structure, ...]], ...] = ()
    lacking: tuple[str, ...] = ()
    reports: tuple[str, ...] = ()


def to_plain(record: Any) -> Any:
    """A record as what JSON holds; codes become lists."""
    return asdict(record)


def from_plain(kind: type[Record], plain: Any) -> Record:
    """The record that `to_plain` wrote."""
    made: Record = _made(kind, plain)
    return made


def _made(kind: Any, plain: Any) -> Any:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return None if plain is None else _made(next(each for each in inner if each is not type(None)), plain)
    if origin is tuple:
        kinds = inner[:1] * len(plain) if inner[-1] is ... else inner
        return tuple(_made(each, value) for each, value in zip(kinds, plain, strict=True))
    if is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        record: Any = kind
        return record(**{each.name: _made(hints[each.name], plain[each.name]) for each in fields(kind)})
    if hasattr(kind, "_fields"):
        return kind(*plain)
    return float(plain) if kind is float else plain
