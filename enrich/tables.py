"""Measurements as tables: one row per segment and feature, for data frames and spreadsheets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from pydicom.sr.coding import Code

from ..models.model import ModelCard
from ..models.segmentation import Segment
from .archives.archive import StoredObject
from .atomic import replacing
from .measurement import FailedFeature, Measured, Measurement
from .series import Series

STEM = "measurements"
"""Name of the two files, without their endings."""

SCHEMA = pa.schema(
    [
        pa.field(
            name, kind, nullable=name in {"laterality", "laterality_code", "ibsi_code", "value", "unit", "failure"}
        )
        for name, kind in (
            ("study_instance_uid", pa.string()),
            ("series_instance_uid", pa.string()),
            ("modality", pa.string()),
            ("model", pa.string()),
            ("model_version", pa.string()),
            ("segment_number", pa.int32()),
            ("segment_label", pa.string()),
            ("segment_type", pa.string()),
            ("segment_type_scheme", pa.string()),
            ("segment_type_code", pa.string()),
            ("laterality", pa.string()),
            ("laterality_code", pa.string()),
            ("feature", pa.string()),
            ("feature_class", pa.string()),
            ("image_filter", pa.string()),
            ("ibsi_code", pa.string()),
            ("value", pa.float64()),
            ("unit", pa.string()),
            ("failure", pa.string()),
            ("seg_sop_instance_uid", pa.string()),
            ("sr_sop_instance_uid", pa.string()),
        )
    ]
)
"""Columns, the same for every series and model, so that files can be read as one data set.

`feature` is pyradiomics' name with its class, which stands alone in `feature_class`; `image_filter`
is pyradiomics' name of the filtered image, ``original`` without one. `unit` is a UCUM code. A
feature that has no value for a segment has null in `ibsi_code`, `value` and `unit`, and the
reason in `failure`.
"""


def measurement_table(series: Series, card: ModelCard, measured: Measured, stored: Sequence[StoredObject]) -> pa.Table:
    """All measurements of one series, in long form, with `SCHEMA`.

    Parameters
    ----------
    card : ModelCard
        Of the model that made the segments; its segments name the rows.
    measured : Measured
        Rows come in its order: values first, then failed features.
    stored : sequence of StoredObject
        The SEG, then the SR, that hold the same.
    """
    seg, sr = (each.sop_instance_uid for each in stored)
    same = {
        "study_instance_uid": series.study_instance_uid,
        "series_instance_uid": series.series_instance_uid,
        "modality": series.modality,
        "model": card.name,
        "model_version": card.version,
        "seg_sop_instance_uid": seg,
        "sr_sop_instance_uid": sr,
    }
    described = {segment.number: _described(segment) for segment in card.segments}
    rows = [{**same, **described[number], **row} for number, row in _rows(measured)]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def write_tables(table: pa.Table, folder: Path, stem: str = STEM) -> tuple[Path, Path]:
    """Write ``measurements.parquet`` and ``measurements.csv``, each whole or not at all.

    Returns
    -------
    tuple of Path
        Of the Parquet file and of the CSV file.
    """
    parquet, csv = folder / f"{stem}.parquet", folder / f"{stem}.csv"
    with replacing(parquet) as temporary:
        pyarrow.parquet.write_table(table, temporary)
    with replacing(csv) as temporary:
        pyarrow.csv.write_csv(table, temporary)
    return parquet, csv


def _rows(measured: Measured) -> Iterator[tuple[int, dict[str, Any]]]:
    for each in measured.measurements:
        yield (
            each.segment_number,
            {
                **_feature(each),
                "ibsi_code": each.concept.value if each.concept.scheme_designator == "IBSI" else None,
                "value": each.value,
                "unit": each.unit.value,
            },
        )
    for failed in measured.failed:
        yield failed.segment_number, {**_feature(failed), "failure": failed.reason}


def _feature(each: Measurement | FailedFeature) -> dict[str, Any]:
    family = each.name.partition("_")[0]
    return {"feature": each.name, "feature_class": family, "image_filter": each.image_filter}


def _described(segment: Segment) -> dict[str, Any]:
    laterality: Code | None = segment.laterality
    return {
        "segment_number": segment.number,
        "segment_label": segment.label,
        "segment_type": segment.type.meaning,
        "segment_type_scheme": segment.type.scheme_designator,
        "segment_type_code": segment.type.value,
        "laterality": laterality and laterality.meaning,
        "laterality_code": laterality and laterality.value,
    }
