"""What the Imaging Data Commons takes: a bucket of objects, its manifest, and the row that lists the results."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path

from .about import About
from .separated import write_separated
from .submitted import Submitted

BUCKET = "bucket"
"""Folder whose content goes into the bucket as it is."""
MANIFEST = "manifest.csv"
"""In the bucket: IDC wants every object but .csv and .zip to be listed."""
RESULTS = "analysis_results.csv"

MANIFEST_COLUMNS = (
    "collection_id",
    "patientID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SOPInstanceUID",
    "ingestion_url",
    "md5_hash",
)
RESULT_COLUMNS = (
    "analysis_result_id",
    "analysis_result_title",
    "source_doi",
    "source_url",
    "subjects",
    "collections",
    "modalities",
    "analysis_result_updated",
    "license_short_name",
    "description",
    "citation",
)
"""As in idc-index-data's `analysis_results_index`."""


def write_idc(folder: Path, files: tuple[Submitted, ...], about: About, url: str, updated: date) -> tuple[Path, ...]:
    """Write manifest and listing beside the objects, which lie in the bucket's folder; their paths.

    Parameters
    ----------
    files : tuple of Submitted
        Paths from the bucket's folder on.
    url : str
        Where the bucket's content will lie, e.g. ``gs://bucket/prefix``.
    updated : date
        Day of the newest object.
    """
    rows = ({**_row(each), "collection_id": about.source.collection, "ingestion_url": f"{url.rstrip('/')}/{each.path}"}
            for each in files)  # fmt: skip
    return (
        write_separated(folder / BUCKET / MANIFEST, MANIFEST_COLUMNS, rows),
        write_separated(folder / RESULTS, RESULT_COLUMNS, _results(files, about, updated)),
    )


def _row(each: Submitted) -> dict[str, object]:
    return {
        "patientID": each.patient_id,
        "StudyInstanceUID": each.study_instance_uid,
        "SeriesInstanceUID": each.series_instance_uid,
        "SOPInstanceUID": each.sop_instance_uid,
        "md5_hash": each.md5,
    }


def _results(files: tuple[Submitted, ...], about: About, updated: date) -> Iterator[dict[str, object]]:
    yield {
        "analysis_result_id": about.nickname,
        "analysis_result_title": about.title,
        "source_doi": about.doi,
        "source_url": about.url,
        "subjects": len({each.patient_id for each in files}),
        "collections": about.source.collection,
        "modalities": ",".join(sorted({each.modality for each in files})),
        "analysis_result_updated": updated.isoformat(),
        "license_short_name": about.licence,
        "description": about.abstract,
        "citation": about.citation,
    }
