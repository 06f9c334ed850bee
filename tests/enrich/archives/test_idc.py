"""The Imaging Data Commons: chosen by the bundled index, read from a bucket of IDC's layout."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from pydicom import Dataset
from voxfleet.enrich.archives.archive import NotThere, RetrieveError, SeriesEntry
from voxfleet.enrich.archives.idc.archive import ENDPOINT
from voxfleet.enrich.archives.idc.index import IdcError, NoIdcIndex, selection_of
from voxfleet.enrich.archives.opening import open_archive
from voxfleet.enrich.archives.read_only import ReadOnlyArchive
from voxfleet.enrich.digest import dataset_digest

idc_index_data = pytest.importorskip("idc_index_data")
SMALL = "SELECT SeriesInstanceUID FROM index WHERE collection_id = 'rider_pilot' AND Modality = 'CT' ORDER BY 1 LIMIT 3"
MakeSlices = Callable[..., list[Dataset]]


@pytest.fixture
def small() -> tuple[SeriesEntry, str, str]:
    """One CT series of the index with few instances, its bucket and its folder there, by DuckDB."""
    import duckdb

    row = duckdb.sql(
        "SELECT StudyInstanceUID, SeriesInstanceUID, instanceCount, aws_bucket, crdc_series_uuid "
        f"FROM '{idc_index_data.IDC_INDEX_PARQUET_FILEPATH}' "
        "WHERE collection_id = 'rider_pilot' AND Modality = 'CT' ORDER BY SeriesInstanceUID LIMIT 1"
    ).fetchone()
    return SeriesEntry(row[0], row[1], "CT", row[2]), row[3], row[4]


@pytest.fixture
def mirror(
    small: tuple[SeriesEntry, str, str],
    ct_slices: MakeSlices,
    tmp_path: Path,
    serve_public: Callable[[Path], object],
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[Path, dict[str, str]]:
    """Serve a bucket of IDC's layout with one series in it; give its folder and the digests of what is there."""
    entry, bucket, folder = small
    place = tmp_path / "buckets" / bucket / folder
    place.mkdir(parents=True)
    digests = {}
    for dataset in ct_slices(entry.instances):
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = entry.study_instance_uid, entry.series_instance_uid
        dataset.save_as(place / f"{uuid.uuid4()}.dcm")
        digests[str(dataset.SOPInstanceUID)] = dataset_digest(dataset)
    monkeypatch.setenv(ENDPOINT, serve_public(tmp_path / "buckets").url)
    return place, digests


def test_a_collection_is_searched_without_a_network() -> None:
    """rider_pilot has 774 series in IDC v25, each once, by UID, with licence and DOI."""
    archive = open_archive("idc:rider_pilot")
    found = list(archive.search())
    uids = [each.series_instance_uid for each in found]
    assert uids == sorted(set(uids))
    assert len(found) == 774
    assert {each.licence for each in found} <= {"CC BY 3.0", "CC BY 4.0"}
    assert all(each.doi.startswith("10.7937/") and each.bytes > 0 for each in found)


def test_an_address_is_bound_to_the_index_that_it_was_opened_with() -> None:
    """The URI that a ledger keeps names the version, opens again, and is refused by another index."""
    uri = open_archive(f"idc:?{SMALL}").uri
    assert uri == f"idc:@{idc_index_data.__version__}?{SMALL}"
    assert [each.modality for each in open_archive(uri).search()] == ["CT"] * 3
    with pytest.raises(NoIdcIndex, match=r"pip install idc-index-data==1\.0"):
        open_archive("idc:nlst@1.0")


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("idc:", "idc:COLLECTION or"),
        ("idc:a/b", "idc:COLLECTION or"),
        ("idc:nlst?SELECT 1", "idc:COLLECTION or"),
        ("idc:rider_pilott", "did you mean rider_pilot"),
        ("idc:?SELECT 1", "no column SeriesInstanceUID"),
        ("idc:?SELEC", "Parser Error"),
        ("idc:?SELECT content AS SeriesInstanceUID FROM read_text('/etc/passwd')", "Permission Error"),
        ("idc:?SET threads = 4", "locked"),
    ],
)
def test_addresses_that_name_no_series(uri: str, told: str) -> None:
    """Each says in one line what is wrong; a query reads no file and changes no setting."""
    with pytest.raises(IdcError, match=told) as caught:
        list(open_archive(uri).search())
    assert "\n" not in str(caught.value)


def test_a_series_is_read_from_a_bucket_of_idcs_layout(
    small: tuple[SeriesEntry, str, str], mirror: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    """Objects named by crdc_instance_uuid come back under their SOP Instance UIDs, without a signature."""
    archive = open_archive(f"idc:?{SMALL}")
    series = archive.retrieve(small[0], tmp_path / "into")
    back = {each.sop_instance_uid: dataset_digest(pydicom.dcmread(each.path)) for each in series.instances}
    assert back == mirror[1]
    assert {each.path.name for each in series.instances} == {f"{uid}.dcm" for uid in back}


def test_a_bucket_that_lacks_an_instance(
    small: tuple[SeriesEntry, str, str], mirror: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    """One instance less than the index says is an error; so is a series that is not there at all."""
    next(iter(mirror[0].iterdir())).unlink()
    archive = open_archive(f"idc:?{SMALL}")
    with pytest.raises(RetrieveError, match=f"not {small[0].instances}"):
        archive.retrieve(small[0], tmp_path / "into")
    other = next(each for each in archive.search() if each.series_instance_uid != small[0].series_instance_uid)
    with pytest.raises(NotThere):
        archive.retrieve(other, tmp_path / "into")


def test_an_object_of_another_series_in_the_folder(
    small: tuple[SeriesEntry, str, str], mirror: tuple[Path, dict[str, str]], ct_slices: MakeSlices, tmp_path: Path
) -> None:
    """A foreign object is told by its UID and not taken."""
    (foreign,) = ct_slices(1)
    foreign.save_as(next(iter(mirror[0].iterdir())))
    with pytest.raises(RetrieveError, match=foreign.SeriesInstanceUID):
        open_archive(f"idc:?{SMALL}").retrieve(small[0], tmp_path / "into")


def test_the_idc_is_only_read(ct_slices: MakeSlices) -> None:
    """Neither probe nor store do anything but refuse."""
    archive = open_archive("idc:rider_pilot")
    with pytest.raises(ReadOnlyArchive):
        archive.probe()
    with pytest.raises(ReadOnlyArchive):
        archive.store(ct_slices(1)[0])


def test_a_selection_names_what_it_was_given() -> None:
    """Collection, query and version are told apart, whatever the query holds."""
    here = idc_index_data.__version__
    found = selection_of(f"idc:@{here}?SELECT '@1?' AS SeriesInstanceUID")
    assert (found.collection, found.sql, found.version) == ("", "SELECT '@1?' AS SeriesInstanceUID", here)
