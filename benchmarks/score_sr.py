"""SR of a case's scores, by TID 1500: the evaluated and the reference segments, and a number a metric."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import EnhancedSRStorage

from .. import __version__
from ..enrich.encoding.composite import SeriesRole, new_instance
from ..enrich.encoding.content_items import (
    CONTAINS,
    HAS_CONCEPT_MOD,
    HAS_OBS_CONTEXT,
    coded_item,
    container,
    image_item,
    number_item,
    root,
    text_item,
    uid_item,
)
from ..enrich.encoding.encoded import keep_encoding
from ..enrich.encoding.equipment import LONG_STRING, Producer, ascii_text, code_of
from ..enrich.encoding.report_codes import (
    ALGORITHM_NAME,
    ALGORITHM_PARAMETERS,
    ALGORITHM_VERSION,
    FINDING,
    FINDING_SITE,
    IMAGING_MEASUREMENTS,
    LATERALITY,
    MEASUREMENT_GROUP,
    MEASUREMENT_REPORT,
    REFERENCED_SEGMENT,
    SOURCE_SERIES,
    TRACKING_IDENTIFIER,
    TRACKING_UID,
)
from ..enrich.features.feature_codes import MILLIMETER, NO_UNITS, PERCENT, PRIVATE_SCHEME
from ..enrich.series import SourceImage
from ..enrich.sr import Referred, add_document, preamble, private_scheme
from ..models.codes import ANATOMICAL_STRUCTURE
from ..models.model import ModelCard
from .crosswalk import Concept
from .metrics.catalogue import metric_named
from .score import Case, Score

ROLE = SeriesRole("scores", EnhancedSRStorage, "SR", 0, "Scores of series")
REFERENCE_SEGMENT = Code("ref-segment", PRIVATE_SCHEME, "Reference Segment")
EVALUATED_BY = Code("evaluated", PRIVATE_SCHEME, "Evaluated Segmentation")
REFERENCE_BY = Code("reference", PRIVATE_SCHEME, "Reference Standard")
COMMENT = Code("121106", "DCM", "Comment")
UNITS = {"1": NO_UNITS, "mm": MILLIMETER, "mL": Code("mL", "UCUM", "milliliter"), "%": PERCENT}
BACKGROUND = ("DCM", "125040")
SHORT_STRING = 16
"""Longest Code Value, an SH (PS3.5 table 6.2-1), in characters."""


@dataclass(frozen=True, slots=True)
class SegFile:
    """A SEG that one side of the scores comes from, as a report refers to it.

    Attributes
    ----------
    numbers : tuple of int
        Segment Number of each structure of its `Annotation`, in that order.
    """

    referred: Referred
    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Side:
    """Where one side's voxels of a pair come from.

    Attributes
    ----------
    seg : SegFile or None
        None where it is no DICOM SEG: the report then names it in words.
    structures : tuple of int
        Of its `Annotation`, from 1.
    """

    seg: SegFile | None
    structures: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ScoredPair:
    """One structure with its scores."""

    concept: Concept
    category: Code | None
    evaluated: Side
    reference: Side
    scores: tuple[Score, ...]


def seg_file(path: Path) -> SegFile | None:
    """What a report needs to know of a SEG; None where the file is something else."""
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=[
            "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "SegmentSequence",
        ])  # fmt: skip
    except (OSError, pydicom.errors.InvalidDicomError):
        return None
    items = header.get("SegmentSequence")
    if not items:
        return None
    numbers = tuple(int(item.SegmentNumber) for item in items if not _is_background(item))
    uids = (header.StudyInstanceUID, header.SeriesInstanceUID, header.SOPClassUID, header.SOPInstanceUID)
    return SegFile(Referred(*map(str, uids)), numbers)


def encode_score_sr(image: SourceImage, case: Case, pairs: Sequence[ScoredPair], key: str) -> Dataset:
    """SR of all scores of one series, one group for each structure; undefined scores are left out.

    Parameters
    ----------
    image : SourceImage
        Of which patient and study are copied.
    pairs : sequence of ScoredPair
        Of the one model and the one reference of `case`.
    key : str
        Digest of all that decides the scores; every UID derives from it.
    """
    producer = Producer(key, _card(case.model), {"model": case.model, "reference": case.reference})
    referred = {
        side.seg.referred: None for pair in pairs for side in (pair.evaluated, pair.reference) if side.seg is not None
    }
    groups = [_group(image, case, pair, number, producer) for number, pair in enumerate(pairs, start=1)]
    dataset = new_instance(image, producer, ROLE)
    add_document(dataset, image, tuple(referred))
    items = [*preamble(image, producer), container(IMAGING_MEASUREMENTS, CONTAINS, groups, None)]
    dataset.update(root(MEASUREMENT_REPORT, items, "1500"))
    dataset.CodingSchemeIdentificationSequence = [private_scheme()]
    keep_encoding(dataset)
    return dataset


def metric_code(name: str) -> Code:
    """Concept of a metric: ours, since neither DICOM nor SNOMED CT has any of them."""
    short = name.replace("surface_dice_", "nsd-").replace("_", "-")[:SHORT_STRING].rstrip("-")
    return Code(short, PRIVATE_SCHEME, metric_named(name).title[:LONG_STRING])


def _is_background(item: Dataset) -> bool:
    kind = code_of(item.SegmentedPropertyTypeCodeSequence[0])
    return int(item.SegmentNumber) == 0 or (kind.scheme_designator, kind.value) == BACKGROUND


def _card(model: str) -> ModelCard:
    """What scores, as a device; series of two models get two numbers."""
    return ModelCard(
        name=f"benchmark of {model}",
        version=__version__,
        description="Scores of a segmentation against a reference.",
        intended_use="Research on how good a segmentation is.",
        modality=(),
        body_part="",
        algorithm_family="RULES",
        segments=(),
        weights=(),
        parameters={},
        memory_bytes=0,
        gpu_bytes=0,
        code_licence="Apache-2.0",
        weights_licence="none",
        citations=(),
    )


def _group(image: SourceImage, case: Case, pair: ScoredPair, number: int, producer: Producer) -> bytes:
    """Group of one structure: TID 1411 where its voxels are segments, else TID 1501."""
    segments = [*_images(REFERENCED_SEGMENT, pair.evaluated), *_images(REFERENCE_SEGMENT, pair.reference)]
    words = {EVALUATED_BY: case.model, REFERENCE_BY: case.reference}
    failure = next((score.failure for score in pair.scores if score.failure), None)
    items = [
        text_item(TRACKING_IDENTIFIER, HAS_OBS_CONTEXT, ascii_text(pair.concept.name)),
        uid_item(TRACKING_UID, HAS_OBS_CONTEXT, producer.tracking_uid(number)),
        *_finding(pair),
        text_item(ALGORITHM_NAME, HAS_CONCEPT_MOD, "Voxfleet benchmark"),
        text_item(ALGORITHM_VERSION, HAS_CONCEPT_MOD, __version__),
        text_item(ALGORITHM_PARAMETERS, HAS_CONCEPT_MOD, "definitions=Metrics Reloaded,surfaces=DeepMind"),
        *(text_item(concept, CONTAINS, ascii_text(name)) for concept, name in words.items()),
        *segments,
        uid_item(SOURCE_SERIES, CONTAINS, image.series.series_instance_uid),
        *([text_item(COMMENT, CONTAINS, ascii_text(failure))] if failure else []),
        *(
            number_item(metric_code(score.metric), CONTAINS, score.value, UNITS[score.unit])
            for score in pair.scores
            if not math.isnan(score.value)
        ),
    ]
    return container(MEASUREMENT_GROUP, CONTAINS, items, "1411" if pair.evaluated.seg else "1501")


def _images(concept: Code, side: Side) -> Iterator[bytes]:
    """The segments of one side; none where it is no SEG."""
    if side.seg is None:
        return
    of = side.seg.referred
    for structure in side.structures:
        if structure <= len(side.seg.numbers):
            number = side.seg.numbers[structure - 1]
            yield image_item(concept, of.sop_class_uid, of.sop_instance_uid, number)


def _finding(pair: ScoredPair) -> Iterator[bytes]:
    """What it is and where, as the SR of measurements tells it."""
    concept = pair.concept
    side = () if concept.laterality is None else (coded_item(LATERALITY, HAS_CONCEPT_MOD, concept.laterality),)
    organ = concept.anatomic_region is None
    yield coded_item(FINDING, CONTAINS, (pair.category or ANATOMICAL_STRUCTURE) if organ else concept.type)
    yield coded_item(FINDING_SITE, HAS_CONCEPT_MOD, concept.anatomic_region or concept.type, side)


def of_segment(scores: Sequence[Score]) -> Mapping[str, tuple[Score, ...]]:
    """Scores by their segment, in order."""
    groups: dict[str, list[Score]] = {}
    for score in scores:
        groups.setdefault(score.segment, []).append(score)
    return {segment: tuple(group) for segment, group in groups.items()}
