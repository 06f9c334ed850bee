"""What people and tables read about one result: page, measurements, provenance, NIfTI."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from ..enrich.archives.archive import StoredObject
from ..enrich.atomic import write_text
from ..enrich.features.feature_parameters import content_sha256
from ..enrich.measurement import Measured, sentences
from ..enrich.nifti import write_nifti
from ..enrich.prov_json import to_prov
from ..enrich.provenance import Activity
from ..enrich.series import SourceImage
from ..enrich.tables import measurement_table, write_tables
from ..models.model import ModelCard
from ..models.segmentation import Segmentation
from .consumption import Consumption
from .environment import git_commit, machine, software
from .page import Link
from .pictures import pictures
from .report import SeriesPage, series_report
from .request import StageSettings, file_name
from .workitem import Workitem

PAGE = "report.html"
PROVENANCE = "provenance.json"


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """All that became of one workitem."""

    workitem: Workitem
    card: ModelCard
    image: SourceImage
    segmentation: Segmentation
    measured: Measured
    stored: tuple[StoredObject, ...]

    @property
    def failed_features(self) -> tuple[str, ...]:
        """Features without a value, in sentences."""
        return sentences(self.measured.failed)


def publish(result: Result, settings: StageSettings, consumption: tuple[Consumption, ...]) -> None:
    """Write a result's files into its folder, each whole or not at all.

    Raises
    ------
    OSError
        If the disk is full or the folder cannot be written to.
    """
    folder = settings.results_of(result.workitem)
    activity = _activity(result, settings.node, consumption)
    write_tables(measurement_table(result.image.series, result.card, result.measured, result.stored), folder)
    write_text(folder / PROVENANCE, to_prov(activity))
    files = [Link("measurements (CSV)", "measurements.csv"), Link("measurements (Parquet)", "measurements.parquet")]
    files.append(Link("provenance (PROV-JSON)", PROVENANCE))
    if settings.nifti:
        name = f"{file_name(result.workitem.model)}.nii.gz"
        write_nifti(result.segmentation, folder / name)
        files.append(Link("label map (NIfTI)", name))
    volume = result.image.volume
    seen = pictures(volume, result.segmentation, result.workitem.modality)
    page = SeriesPage(activity, volume, result.segmentation, result.measured, seen, tuple(files))
    write_text(folder / PAGE, series_report(page))


def _settings(item: Workitem) -> dict[str, str]:
    """The platform's settings of a workitem; the features asked for with their digest."""
    settings = {"segmentation_type": item.segmentation_type, "repair": str(item.repair).lower()}
    if item.features:
        settings |= {"features": item.features, "features_sha256": content_sha256(item.features)}
    return settings


def _activity(result: Result, node: str, consumption: tuple[Consumption, ...]) -> Activity:
    item, series = result.workitem, result.image.series
    return Activity(
        key=item.key,
        study_instance_uid=series.study_instance_uid,
        series_instance_uid=series.series_instance_uid,
        modality=series.modality,
        source=item.source,
        used=series.instances,
        card=result.card,
        parameters=dict(item.parameters),
        settings=_settings(item),
        software=software(),
        git_commit=git_commit(),
        machine=machine(node),
        started=datetime.fromtimestamp(min(used.started for used in consumption), UTC),
        ended=datetime.now(UTC),
        stages=consumption,
        generated=result.stored,
        repairs=result.image.repairs,
        failed_features=result.failed_features,
    )
