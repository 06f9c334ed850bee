"""One series scored: every model against every reader and what they agree on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from pydicom.sr.coding import Code

from ..enrich.atomic import replacing
from ..runners.request import file_name
from .agreement import LEAST_READERS, ReadSeries, inter_observer, score_readers
from .case import CaseRequest, CaseResult, Involvement, Mark, Problem, Provenance, Volumes, WithoutPartner
from .detections import detect, outside_of
from .involvement import involvement_percent
from .marks import mark_scores, marked
from .metric import SegmentMetric
from .metrics.catalogue import lesion_metrics, segment_metrics
from .opacity import lungs_of, opacity_of, opacity_structures
from .paired_case import PairedCase, Prediction, pair_case
from .pairing import NO_PARTNER, PARTS_MISSING, NothingPaired, Pair, outlined, pair_structures
from .readings import Expert, patient_of, read_image
from .references.packed_mask import PackedMask
from .references.reference import Annotation
from .score import Case, Score
from .score_sr import ScoredPair, SegFile, Side, encode_score_sr, of_segment, seg_file
from .scoring import StructureMasks, score_failure, score_structures
from .subgroups import attributes_of


def score_case(request: CaseRequest) -> CaseResult:
    """All scores of one series, and everything that the report tells of it.

    Raises
    ------
    RetrieveError, AccessDenied, GeometryRefused
        If the image cannot be had or read.
    InvalidCrosswalk
        If the user's file cannot be read.
    """
    image = read_image(request)
    case = pair_case(image, request)
    result = CaseResult(
        series_instance_uid=image.series.series_instance_uid,
        patient=patient_of(image),
        modality=image.series.modality,
        attributes=attributes_of(image.headers[0]),
        readers=tuple(each.name for each in case.experts),
        claimed=case.claimed,
        problems=tuple(case.problems),
    )
    if not case.experts:
        return result
    scores, volumes, reports = _scores(case, request)
    marks, mark_problems = _marks(case)
    involvement, no_involvement = _involvement(case)
    rules, outside = request.rules, tuple(outside_of(image.volume.get_geometry(), request.lists))
    return replace(
        result,
        scores=scores,
        agreement=_agreement(case, metrics_of(request)) if request.rules.consensus else (),
        volumes=volumes,
        marks=marks,
        involvement=involvement,
        detections=tuple(
            found
            for expert in case.experts
            for found in detect(expert, request.lists, rules.irrelevant, rules.point_radius_mm)
        ),
        without_partner=tuple(_without_partner(case)),
        problems=(*result.problems, *_remarks(case), *_failures(case), *mark_problems, *no_involvement, *outside),
        provenance=tuple(_provenance(case)),
        found=tuple((p.candidate.model, outlined(p.annotation)) for p in case.predictions if p.annotation),
        lacking=tuple(_lacking(case)),
        reports=reports,
    )


def metrics_of(request: CaseRequest) -> tuple[SegmentMetric, ...]:
    """What each structure is scored by."""
    more = lesion_metrics() if request.rules.lesions else ()
    return (*segment_metrics(request.rules.tolerances_mm), *more)


def _scores(case: PairedCase, request: CaseRequest) -> tuple[tuple[Score, ...], tuple[Volumes, ...], tuple[str, ...]]:
    """Scores of every model under every reference, volumes of both sides, and the SR files written."""
    scores: list[Score] = []
    volumes: list[Volumes] = []
    reports: list[str] = []
    metrics, patient, series = metrics_of(request), patient_of(case.image), case.image.series.series_instance_uid
    for prediction in case.predictions:
        model = prediction.candidate.model
        for reference, reading in case.readings.items():
            shared = {name: reading[name] for name in case.found.get(model, {}) if name in reading}
            if not shared:
                continue
            of = Case(patient, series, model, reference)
            if prediction.annotation is None:
                mine = score_failure(shared, case.grid, of, prediction.failure, metrics)
            else:
                masks = tuple(_both(case, model, shared))
                mine = score_structures(masks, case.grid, of, metrics)
                volumes += [_volumes(each, case, of) for each in masks]
            scores += mine
            reports.append(_report(case, prediction, of, mine, request.reports))
    return tuple(scores), tuple(volumes), tuple(reports)


def _both(case: PairedCase, model: str, shared: dict[str, PackedMask]) -> Iterator[StructureMasks]:
    for name, mask in shared.items():
        other = case.found[model][name]
        if other is not None:
            yield StructureMasks(name, mask, other)


def _volumes(masks: StructureMasks, case: PairedCase, of: Case) -> Volumes:
    expert, model = (side.voxels * case.grid.voxel_ml for side in (masks.reference, masks.prediction))
    return Volumes(of.model, of.reference, masks.segment, expert, model)


def _agreement(case: PairedCase, metrics: Sequence[SegmentMetric]) -> tuple[Score, ...]:
    """How the readers agree, a score for each structure and metric: the ceiling for a model."""
    readers = {each.name: case.readings[each.name] for each in case.experts}
    if len(readers) < LEAST_READERS:
        return ()
    series = case.image.series.series_instance_uid
    read = ReadSeries(patient_of(case.image), series, case.grid, readers)
    return tuple(inter_observer(score_readers(read, [metric for metric in metrics if metric.symmetric])))


def _marks(case: PairedCase) -> tuple[tuple[Mark, ...], tuple[Problem, ...]]:
    """Points, lines and boxes held against each model."""
    found, problems = [], []
    for prediction in case.predictions:
        model, annotation = prediction.candidate.model, prediction.annotation
        for expert in case.experts:
            if annotation is None or not marked(expert.annotation):
                continue
            source = expert.annotation.origin.source
            try:
                pairing = pair_structures(marked(expert.annotation), outlined(annotation), case.crosswalk, source)
            except NothingPaired as exc:
                problems.append(Problem(exc.code, str(exc), model, expert.name))
                continue
            found += [
                Mark(model, expert.name, each.segment, each.kind, each.hit, each.distance_mm, each.iou)
                for each in mark_scores(expert.annotation, annotation, pairing)
            ]
    return tuple(found), tuple(problems)


def _involvement(case: PairedCase) -> tuple[tuple[Involvement, ...], tuple[Problem, ...]]:
    """Share of the lungs that is opaque by each reader and each model that looks for opacity."""
    found, problems = [], []
    of_models = [lungs_of(each.annotation, case.crosswalk) for each in case.predictions if each.annotation]
    spare = next((lungs for lungs in of_models if lungs is not None), None)
    for expert in case.experts:
        opacity, own = opacity_of(expert.annotation), lungs_of(expert.annotation, case.crosswalk)
        looking = [each for each in case.predictions if opacity_structures(each.structures(expert.annotation))]
        if opacity is None or not looking:
            continue
        lungs = own or spare
        if lungs is None:
            reason = "neither expert nor model has both lungs: per cent of what is not known"
            problems.append(Problem("NO_INVOLVEMENT", reason, reference=expert.name))
            continue
        percent, whose = involvement_percent(opacity, lungs), "model" if own is None else "expert"
        for each in looking:
            share = 0.0 if each.annotation is None else _share(case, each, lungs)
            failed = each.annotation is None
            found.append(Involvement(each.candidate.model, expert.name, percent, share, whose, failed))
    return tuple(found), tuple(problems)


def _share(case: PairedCase, prediction: Prediction, lungs: PackedMask) -> float:
    """A model's opacity in per cent of its own lungs, or of those that the expert's is held against."""
    if prediction.annotation is None:
        return 0.0
    opacity = opacity_of(prediction.annotation)
    own = lungs_of(prediction.annotation, case.crosswalk)
    return 0.0 if opacity is None else involvement_percent(opacity, own or lungs)


def _without_partner(case: PairedCase) -> Iterator[WithoutPartner]:
    for (model, reference), pairing in case.pairings.items():
        for each in pairing.unpaired:
            yield WithoutPartner(model, reference, each.side, each.structure.name, each.code, each.reason)


def _remarks(case: PairedCase) -> Iterator[Problem]:
    """What experts' files hold and was mended or left out."""
    for expert in case.experts:
        for remark in expert.annotation.remarks:
            told = f"{expert.annotation.origin.source}: {remark.structure}: {remark.reason}"
            yield Problem(remark.code, told, reference=expert.name)


def _failures(case: PairedCase) -> Iterator[Problem]:
    for each in case.predictions:
        if each.failure:
            code, _, reason = each.failure.partition(": ")
            yield Problem(code, reason or each.failure, each.candidate.model)


def _lacking(case: PairedCase) -> Iterator[str]:
    """Models whose words might hold more than their prediction here describes."""
    for prediction in case.predictions:
        model = prediction.candidate.model
        pairings = [case.pairings.get((model, each.name)) for each in case.experts]
        missed = any(
            pairing is None
            or any(each.side == "expert" and each.code in (NO_PARTNER, PARTS_MISSING) for each in pairing.unpaired)
            for pairing in pairings
        )
        if missed or prediction.annotation is None:
            yield model


def _provenance(case: PairedCase) -> Iterator[Provenance]:
    """Both sides: the experts' files, then the predictions."""
    for expert in case.experts:
        origin = expert.annotation.origin
        yield Provenance(
            "expert",
            expert.name,
            expert.annotation.reader,
            origin.format,
            origin.source,
            origin.sha256,
            origin.sop_instance_uid,
        )
    for prediction in case.predictions:
        if prediction.annotation is None:
            continue
        origin, reader = prediction.annotation.origin, prediction.annotation.reader
        yield Provenance(
            "prediction",
            prediction.candidate.model,
            reader,
            origin.format,
            origin.source,
            origin.sha256,
            origin.sop_instance_uid,
        )


def _report(case: PairedCase, prediction: Prediction, of: Case, scores: list[Score], folder: str) -> str:
    """Path of the SR of one model under one reference, written."""
    expert = next((each for each in case.experts if each.name == of.reference), None)
    pairs = {**_any_pairs(case, of.model), **case.pairs.get((of.model, of.reference), {})}
    evaluated, reference = _seg_of(prediction.annotation), _seg_of(expert.annotation if expert else None)
    scored = [
        ScoredPair(
            concept=pairs[name].concept,
            category=_category(expert, pairs[name].expert.numbers),
            evaluated=Side(evaluated, pairs[name].prediction.numbers),
            reference=Side(reference, pairs[name].expert.numbers),
            scores=group,
        )
        for name, group in of_segment(scores).items()
    ]
    key = hashlib.sha256(json.dumps([asdict(score) for score in scores]).encode()).hexdigest()
    path = Path(folder) / of.series_instance_uid / f"{file_name(of.model)}.{file_name(of.reference)}.dcm"
    dataset = encode_score_sr(case.image, of, scored, key)
    with replacing(path) as temporary:
        dataset.save_as(temporary, enforce_file_format=True)
    return str(path)


def _any_pairs(case: PairedCase, model: str) -> dict[str, Pair]:
    """Pairs of a model by name, whoever the reader."""
    return {name: pair for (of, _), pairs in case.pairs.items() if of == model for name, pair in pairs.items()}


def _seg_of(annotation: Annotation | None) -> SegFile | None:
    """An annotation as a report refers to it; None where it is no SEG."""
    origin = annotation.origin if annotation else None
    return seg_file(Path(origin.source)) if origin and origin.sop_instance_uid else None


def _category(expert: Expert | None, numbers: tuple[int, ...]) -> Code | None:
    return None if expert is None else expert.annotation.structure(numbers[0]).category
