"""The stages of a workitem as plain functions, and the lanes that they make up.

Each lane runs in a child process of its own and hands over through files on the local disk:
``prepare`` (retrieve, read), ``segment`` (with the model warm), ``deliver`` (measure, encode,
store, report).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from pydicom import Dataset

from .. import Error
from ..enrich.archives.archive import Archive, SeriesEntry, StoredObject
from ..enrich.archives.folder.store import store_file
from ..enrich.archives.opening import open_archive
from ..enrich.encoding.equipment import Producer, measuring_of
from ..enrich.features.feature_parameters import FeatureParameters
from ..enrich.measurement import Measured
from ..enrich.radiomics import measure
from ..enrich.seg import encode_seg
from ..enrich.series import SourceImage, read_volume
from ..enrich.sr import encode_sr
from ..enrich.validate import validate_pair
from ..models import catalogue
from ..models.segmentation import Segmentation
from .attachments import attach_results
from .consumption import Meter
from .handover import has_image, load_image, load_segmentation, save_image, save_segmentation
from .request import Delivery, StageSettings, file_name
from .results import Result, publish
from .segmenting import segment_image
from .warm_models import WarmModels, room_on
from .workitem import Workitem


class ModalityRefused(Error):
    """A series of a modality that the model does not take."""

    code = "MODALITY"
    refused = True

    def __init__(self, series_instance_uid: str, modality: str, model: str, wanted: tuple[str, ...]) -> None:
        super().__init__(series_instance_uid, modality, model, wanted)

    def __str__(self) -> str:
        series, modality, model, wanted = self.args
        return f"series {series} is {modality or 'of no modality'}; {model} takes {' or '.join(wanted)}"


def prepare(workitem: Workitem, settings: StageSettings, meter: Meter) -> None:
    """Retrieve the series, pass it through the geometry gate, read its volume; unless another model's item just did."""
    folder = settings.series_folder_of(workitem)
    with meter.measure("retrieve"):
        card = catalogue.card(settings.reference_of(workitem))
        if workitem.modality not in card.modality:
            raise ModalityRefused(workitem.series_instance_uid, workitem.modality, card.name, card.modality)
        if has_image(folder):
            return
        folder.mkdir(parents=True, exist_ok=True)
        series = _archive(workitem.source).retrieve(_entry(workitem), folder / "source")
        meter.bytes_in += sum(instance.bytes for instance in series.instances)
    with meter.measure("read"):
        save_image(read_volume(series, repair=workitem.repair), folder)


def segment(workitem: Workitem, settings: StageSettings, meter: Meter) -> None:
    """Segment the volume with the model; it stays loaded, beside others where there is room."""
    folder = settings.folder_of(workitem)
    folder.mkdir(parents=True, exist_ok=True)
    with meter.measure("segment", holds_gpu=settings.device.startswith("cuda")):
        image, parameters = load_image(settings.series_folder_of(workitem)), dict(workitem.parameters)
        models, name = _models(settings.device, settings.memory_bytes), settings.reference_of(workitem)
        found = models.use(name, parameters, lambda model: segment_image(model, image, parameters))
        save_segmentation(found, folder)


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
            meter.bytes_out += attach_results(result, settings, _archive(workitem.target))
    return Delivery(stored, image.repairs, result.failed_features)


LANES: dict[str, Callable[[Workitem, StageSettings, Meter], Delivery | None]] = {
    "prepare": prepare,
    "segment": segment,
    "deliver": deliver,
}
"""What each lane of the pipeline does; in the order of `pipeline.LANES`."""


def _measured(image: SourceImage, segmentation: Segmentation, workitem: Workitem, settings: StageSettings) -> Measured:
    """The published features, or those that a parameter file asks for."""
    if not workitem.features:
        return measure(image.volume, segmentation, workitem.modality)
    # Imports pyradiomics, which is an extra.
    from ..enrich.features.extraction import measure_features

    parameters = FeatureParameters(workitem.features)
    return measure_features(image.volume, segmentation, parameters, workitem.modality, settings.cores or None)


@lru_cache(maxsize=4)
def _archive(uri: str) -> Archive:
    """Archive connections that this process keeps open."""
    return open_archive(uri)


@lru_cache(maxsize=1)
def _models(device: str, memory_bytes: int) -> WarmModels:
    """The warm models of this process."""
    return WarmModels(device, lambda: room_on(device, memory_bytes))


def _store(dataset: Dataset, kind: str, workitem: Workitem, settings: StageSettings) -> StoredObject:
    """Store in the target archive, or as a file of the results where there is none."""
    if workitem.target:
        return _archive(workitem.target).store(dataset)
    return store_file(dataset, settings.results_of(workitem) / f"{file_name(workitem.model)}.{kind}.dcm")


def _entry(workitem: Workitem) -> SeriesEntry:
    return SeriesEntry(
        study_instance_uid=workitem.study_instance_uid,
        series_instance_uid=workitem.series_instance_uid,
        modality=workitem.modality,
        instances=workitem.instances,
        bytes=workitem.bytes,
    )
