"""The stages of a workitem as plain functions, and the lanes that they make up.

Each lane runs in a child process of its own and hands over through files on the local disk:
``prepare`` (retrieve, read), ``segment`` (with the model warm), ``deliver`` (measure, encode,
store, report).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from .. import Error
from ..enrich.archives.archive import Archive, SeriesEntry
from ..enrich.archives.opening import open_archive
from ..enrich.series import read_volume
from ..models import catalogue
from .consumption import Meter
from .handover import has_image, load_image, save_image, save_segmentation
from .request import Delivery, StageSettings
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
        series = kept_archive(workitem.source).retrieve(_entry(workitem), folder / "source")
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
    """See `delivering.deliver`."""
    # Pages, tables, radiomics, provenance: half a second to import, which the lanes before do not have.
    from . import delivering

    return delivering.deliver(workitem, settings, meter)


LANES: dict[str, Callable[[Workitem, StageSettings, Meter], Delivery | None]] = {
    "prepare": prepare,
    "segment": segment,
    "deliver": deliver,
}
"""What each lane of the pipeline does; in the order of `pipeline.LANES`."""


@lru_cache(maxsize=4)
def kept_archive(uri: str) -> Archive:
    """Archive connections that this process keeps open."""
    return open_archive(uri)


@lru_cache(maxsize=1)
def _models(device: str, memory_bytes: int) -> WarmModels:
    """The warm models of this process."""
    return WarmModels(device, lambda: room_on(device, memory_bytes))


def _entry(workitem: Workitem) -> SeriesEntry:
    return SeriesEntry(
        study_instance_uid=workitem.study_instance_uid,
        series_instance_uid=workitem.series_instance_uid,
        modality=workitem.modality,
        instances=workitem.instances,
        bytes=workitem.bytes,
    )
