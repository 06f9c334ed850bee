"""Where a plan's times come from: a pilot out of the IDC, and pilots with features of one's own."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from voxfleet.cluster.planning.measuring import Measure, measured
from voxfleet.cluster.planning.timing import NotMeasured, timing_of_card
from voxfleet.enrich.archives.idc.archive import ENDPOINT
from voxfleet.enrich.phantom import CtIdentity, chest_phantom, write_ct_series
from voxfleet.models import catalogue
from voxfleet.runners.commands import features_of

idc_index_data = pytest.importorskip("idc_index_data")

CARD = catalogue.card("ct-threshold")
PICKED = (
    "SELECT min(SeriesInstanceUID) AS SeriesInstanceUID FROM index WHERE collection_id = 'rider_pilot'"
    " AND Modality = 'CT' AND instanceCount >= 20 GROUP BY instanceCount ORDER BY instanceCount LIMIT 3"
)
"""Three series of different sizes."""

FEATURES = "imageType: {Original: {}}\nfeatureClass: {shape: }\nsetting: {binWidth: WIDTH}\n"


def quiet(done: int, number: int) -> None:
    """Nobody looks on."""


@pytest.fixture
def three_of_the_idc(
    tmp_path: Path, serve_public: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch
) -> list[int]:
    """A mirror of IDC's bucket with phantoms in place of three of its series; instances of each by the index."""
    import duckdb

    index = f"'{idc_index_data.IDC_INDEX_PARQUET_FILEPATH}'"
    rows = duckdb.sql(
        "SELECT StudyInstanceUID, SeriesInstanceUID, instanceCount, aws_bucket, crdc_series_uuid "
        f"FROM {index} WHERE SeriesInstanceUID IN ({PICKED.replace('index', index)}) ORDER BY instanceCount"
    ).fetchall()
    for number, (study, series, instances, bucket, folder) in enumerate(rows):
        phantom = chest_phantom(shape=(instances, 64, 64), spacing_mm=(280 / instances, 5.6, 5.6), seed=number)
        write_ct_series(phantom.volume, tmp_path / "made" / str(number), identity=CtIdentity.named(f"idc-{number}"))
        place = tmp_path / "buckets" / bucket / folder
        place.mkdir(parents=True)
        for path in (tmp_path / "made" / str(number)).iterdir():
            dataset = pydicom.dcmread(path)
            dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
            dataset.save_as(place / f"{uuid.uuid4()}.dcm")
    monkeypatch.setenv(ENDPOINT, serve_public(tmp_path / "buckets").url)  # type: ignore[attr-defined]
    monkeypatch.chdir(tmp_path)
    return [row[2] for row in rows]


@pytest.mark.slow
def test_a_pilot_takes_its_series_out_of_the_idc(three_of_the_idc: list[int]) -> None:
    """Series that the index names are retrieved, run and timed; those smaller than the plan's are left out."""
    found = measured(CARD, f"idc:?{PICKED}", Measure(pilot=3, least_instances=three_of_the_idc[1]), quiet)
    assert found.series == 2
    assert found.expected_s(np.array([float(three_of_the_idc[1])])) > 0


@pytest.mark.slow
def test_a_pilot_does_not_wait_for_an_archive_that_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody listens at the bucket's address, it says so, and does not try again for a quarter of an hour."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(ENDPOINT, "http://127.0.0.1:9")
    with pytest.raises(NotMeasured, match="met an outage, try again later"):
        measured(CARD, f"idc:?{PICKED}", Measure(pilot=2), quiet)


@pytest.mark.slow
def test_features_are_measured_and_not_taken_from_the_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A card knows the published features only; a pilot runs those asked for, and its run serves them again."""
    monkeypatch.chdir(tmp_path)
    mine, other = (tmp_path / f"{width}.yaml" for width in (25, 5))
    for file in (mine, other):
        file.write_text(FEATURES.replace("WIDTH", file.stem))
    asked = features_of(mine)
    for number, slices in enumerate((24, 30)):
        phantom = chest_phantom(shape=(slices, 64, 64), spacing_mm=(280 / slices, 5.6, 5.6), seed=number)
        write_ct_series(phantom.volume, tmp_path / "ct" / str(number), identity=CtIdentity.named(f"own-{number}"))
    assert measured(CARD, "ct", Measure(), quiet) == timing_of_card(CARD)
    with pytest.raises(NotMeasured, match="knows no seconds of these features: use --pilot"):
        measured(CARD, "ct", Measure(features=asked), quiet)
    found = measured(CARD, "ct", Measure(pilot=2, features=asked), quiet)
    (run,) = (path.name for path in (tmp_path / "voxfleet-runs").iterdir())
    again = measured(CARD, "ct", Measure(from_run=run, features=asked), quiet)
    assert (again.fixed_s, again.per_slice_s) == (found.fixed_s, found.per_slice_s)
    with pytest.raises(NotMeasured, match="other features"):
        measured(CARD, "ct", Measure(from_run=run, features=features_of(other)), quiet)
