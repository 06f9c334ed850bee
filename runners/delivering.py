"""The last lane: a segmentation measured, encoded, checked, stored, and told to people."""

from __future__ import annotations

from pydicom import Dataset

from ..enrich.archives.archive import StoredObject
from ..enrich.archives.folder.store import store_file
from ..enrich.encoding.equipment import Producer, measuring_of
from ..enrich.features.feature_parameters import FeatureParameters
from ..enrich.measurement import Measured
from ..enrich.radiomics import measure
from ..enrich.seg import encode_seg
from ..enrich.series import SourceImage
from ..enrich.sr import encode_sr
from ..enrich.validate import validate_pair
from ..models import catalogue
from ..models.segmentation import Segmentation
from .attachments import attach_results
from .consumption import Meter
from .handover import load_image, load_segmentation
from .request import Delivery, StageSettings, file_name
from .results import Result, publish
from .stages import kept_archive
from .workitem import Workitem


def deliver(workitem: Workitem, settings: StageSettings, meter: Meter) -> Delivery:
    """Measure, encode, check, store and read back; then write what people read about it."""
    folder, card = settings.folder_of(workitem), catalogue.card(settings.reference_of(workitem))
    with meter.measure("measure"):
        image = load_image(settings.series_folder_of(workitem))
        segmentation = load_segmentation(folder, image, card.segments)
        measured = _measured(image, segmentation, workitem, settings)
    with meter.measure("encode"):
        producer = Producer(workitem.key, card, dict(workitem.parameters), measuring_of(workitem.features))
        seg = encode_seg(image, segmentation, producer, segmentation_type=workitem.segmentation_type)
        sr = encode_sr(image, seg, segmentation, measured, producer)
        validate_pair(seg, sr)
    with meter.measure("store"):
        stored = tuple(_store(dataset, kind, workitem, settings) for dataset, kind in ((seg, "seg"), (sr, "sr")))
        meter.bytes_out += sum(each.bytes for each in stored if not each.already_there)
    with meter.measure("report"):
        result = Result(workitem, card, image, segmentation, measured, stored)
        publish(result, settings, tuple(meter.consumption))
        if workitem.target:
            meter.bytes_out += attach_results(result, settings, kept_archive(workitem.target))
    return Delivery(stored, image.repairs, result.failed_features)


def _measured(image: SourceImage, segmentation: Segmentation, workitem: Workitem, settings: StageSettings) -> Measured:
    """The published features, or those that a parameter file asks for."""
    if not workitem.features:
        return measure(image.volume, segmentation, workitem.modality)
    # Imports pyradiomics, which is an extra.
    from ..enrich.features.extraction import measure_features

    parameters = FeatureParameters(workitem.features)
    return measure_features(image.volume, segmentation, parameters, workitem.modality, settings.cores or None)


def _store(dataset: Dataset, kind: str, workitem: Workitem, settings: StageSettings) -> StoredObject:
    """Store in the target archive, or as a file of the results where there is none."""
    if workitem.target:
        return kept_archive(workitem.target).store(dataset)
    return store_file(dataset, settings.results_of(workitem) / f"{file_name(workitem.model)}.{kind}.dcm")
