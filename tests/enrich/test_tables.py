"""Measurement tables, read back by pandas and Parquet."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow.parquet
import pytest
from voxfleet.enrich.archives.archive import StoredObject
from voxfleet.enrich.measurement import FailedFeature, Measured
from voxfleet.enrich.phantom import chest_phantom
from voxfleet.enrich.radiomics import measure
from voxfleet.enrich.series import Series
from voxfleet.enrich.tables import SCHEMA, measurement_table, write_tables
from voxfleet.models import catalogue
from voxfleet.models.segmentation import Segmentation

STORED = tuple(
    StoredObject("1.2.840.10008.5.1.4.1.1.66.4", uid, "2.25.9", "dir:/x", "0" * 64, 1) for uid in ("2.25.1", "2.25.2")
)
SERIES = Series("1.2.3", "1.2.4", "CT", ())


@pytest.fixture(scope="module")
def measured() -> Measured:
    """Measurements of a phantom's lungs, and one that could not be made."""
    phantom = chest_phantom((20, 48, 48), (12.0, 8.0, 8.0), seed=3)
    array = phantom.truth.labelmap.array
    labelmap = phantom.volume.with_array(((array == 2) + 2 * (array == 3)).astype("uint8"))
    result = measure(phantom.volume, Segmentation(labelmap, catalogue.card("covid-opacity-hu").segments))
    return Measured(result.measurements, (FailedFeature(4, "shape_Sphericity", "one voxel, nothing to measure"),))


def test_a_row_per_segment_and_feature(measured: Measured) -> None:
    """The table has every value once, named by IBSI code, segment, side and the objects that hold it too."""
    table = measurement_table(SERIES, catalogue.card("covid-opacity-hu"), measured, STORED)
    assert table.schema == SCHEMA
    assert table.num_rows == len(measured.measurements) + 1
    frame = table.to_pandas()
    volume = frame[(frame.segment_number == 2) & (frame.feature == "shape_VoxelVolume")].iloc[0]
    # IBSI YEKZ, volume from voxel summation; SNOMED CT 39607008 lung, 7771000 left.
    assert (volume.ibsi_code, volume.unit, volume.segment_type_code, volume.laterality_code) == (
        "YEKZ",
        "mm3",
        "39607008",
        "7771000",
    )
    assert (volume.seg_sop_instance_uid, volume.sr_sop_instance_uid) == ("2.25.1", "2.25.2")
    assert (volume.series_instance_uid, volume.model, volume.segment_label) == (
        "1.2.4",
        "covid-opacity-hu",
        "Left Lung",
    )


def test_a_failed_feature_has_a_reason_and_no_value(measured: Measured) -> None:
    """What could not be measured is null, never NaN, and says why."""
    table = measurement_table(SERIES, catalogue.card("covid-opacity-hu"), measured, STORED)
    last = table.to_pylist()[-1]
    assert (last["value"], last["unit"], last["failure"]) == (None, None, "one voxel, nothing to measure")


def test_files_give_every_value_back(measured: Measured, tmp_path: Path) -> None:
    """Parquet gives the table back equal; the CSV, read by pandas, the same numbers to the last bit."""
    table = measurement_table(SERIES, catalogue.card("covid-opacity-hu"), measured, STORED)
    parquet, csv = write_tables(table, tmp_path / "results")
    assert pyarrow.parquet.read_table(parquet).equals(table)
    frame = pd.read_csv(csv, dtype={"segment_type_code": str})
    assert list(frame.columns) == SCHEMA.names
    assert list(frame.value[:-1]) == [each.value for each in measured.measurements]
    assert {path.name for path in (tmp_path / "results").iterdir()} == {"measurements.parquet", "measurements.csv"}


def test_nothing_measured_gives_an_empty_table() -> None:
    """A series in which nothing was found has a table of no rows and all columns."""
    table = measurement_table(SERIES, catalogue.card("covid-opacity-hu"), Measured(()), STORED)
    assert (table.num_rows, table.schema) == (0, SCHEMA)
