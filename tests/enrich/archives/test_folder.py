"""Folders of every shape, with everything that stands in real ones."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom import Dataset
from pydicom.data import get_testdata_file
from pydicom.fileset import FileSet
from voxfleet.enrich.archives.archive import (
    AccessDenied,
    RefusedObject,
    RetrieveError,
    SearchError,
    SeriesEntry,
    SourceNotThere,
    StoreConflict,
    StoreRefused,
)
from voxfleet.enrich.archives.folder import scan as folder_scan
from voxfleet.enrich.archives.folder import store as folder_store
from voxfleet.enrich.archives.folder.archive import FolderArchive
from voxfleet.enrich.archives.folder.store import store_file
from voxfleet.enrich.archives.opening import open_archive
from voxfleet.enrich.digest import dataset_digest, file_sha256

MakeSlices = Callable[..., list[Dataset]]
pytestmark = pytest.mark.filterwarnings("ignore:Invalid value for VR UI", "ignore:The value length")


def _encoded(dataset: Dataset) -> bytes:
    file = BytesIO()
    pydicom.dcmwrite(file, dataset)
    return file.getvalue()


def _put(folder: Path, **files: bytes) -> FolderArchive:
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return FolderArchive(folder)


def _search(folder: Path) -> tuple[list[SeriesEntry], dict[str, str]]:
    """Series found, and code of each refused object."""
    archive = FolderArchive(folder)
    found = list(archive.search())
    archive.close()
    refused = {each.identifier: each.code for each in found if isinstance(each, RefusedObject)}
    return [each for each in found if isinstance(each, SeriesEntry)], refused


def test_a_tree_of_any_shape(tmp_path: Path, ct_slices: MakeSlices) -> None:
    """One series spread over folders, beside another, under names without suffix: two series, all instances."""
    one, two = ct_slices(3), ct_slices(1)
    for number, dataset in enumerate([*one, *two]):
        folder = tmp_path / ("a/" * (number + 1)) / "ünï cödé"
        folder.mkdir(parents=True, exist_ok=True)
        dataset.save_as(folder / f"IM{number}")
    entries, refused = _search(tmp_path)
    assert sorted((each.series_instance_uid, each.instances) for each in entries) == sorted(
        [(one[0].SeriesInstanceUID, 3), (two[0].SeriesInstanceUID, 1)]
    )
    assert refused == {}
    assert sum(each.bytes or 0 for each in entries) == sum(p.stat().st_size for p in tmp_path.rglob("IM*"))


def test_what_is_no_dicom_file(tmp_path: Path, ct_slices: MakeSlices) -> None:
    """A licence, an empty file, a picture and 132 bytes that only begin like DICOM: refused each, CT found."""
    whole = _encoded(ct_slices(1)[0])
    names = {"LICENSE": b"MIT", "empty.dcm": b"", ".DS_Store": b"\0" * 600, "ct.dcm": whole, "cut.dcm": whole[:200]}
    _put(tmp_path, **names)
    entries, refused = _search(tmp_path)
    assert len(entries) == 1
    not_dicom = dict.fromkeys(("LICENSE", "empty.dcm", ".DS_Store"), "NOT_DICOM")
    assert refused == {**not_dicom, "cut.dcm": "UNREADABLE"}


def test_a_file_cut_anywhere_before_its_uids_is_unreadable(tmp_path: Path, ct_slices: MakeSlices) -> None:
    """Cut at any byte after the prefix, a file is either found under its true UID or refused: never under another."""
    (dataset,) = ct_slices(1)
    whole = _encoded(dataset)
    for length in range(132, 3000, 29):
        (tmp_path / f"{length:04}").write_bytes(whole[:length])
        entries, refused = _search(tmp_path)
        assert {each.series_instance_uid for each in entries} <= {dataset.SeriesInstanceUID}
        assert set(refused.values()) <= {"UNREADABLE"}
        (tmp_path / f"{length:04}").unlink()


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("", "MISSING_UID"),
        ("6fa459ea-ee8a-3ca4-894e-db77e160355e", "INVALID_UID"),
        ("1." * 33 + "1", "INVALID_UID"),
        ("1.02", "INVALID_UID"),
    ],
)
def test_uids_that_break_the_rule(tmp_path: Path, ct_slices: MakeSlices, keyword: str, value: str, code: str) -> None:
    """Empty, a GUID, 67 characters, a leading zero: refused by the attribute's name, also from the index."""
    (dataset,) = ct_slices(1)
    setattr(dataset, keyword, value)
    archive = _put(tmp_path, bad=_encoded(dataset))
    for _ in range(2):
        (refused,) = archive.search()
        assert isinstance(refused, RefusedObject)
        assert (refused.identifier, refused.code) == ("bad", code)
        assert keyword in refused.reason


def test_no_sop_class(shared_data: Path) -> None:
    """The TotalSegmentator example, whose series and class UIDs are empty, is refused file by file."""
    folder = next((shared_data / "totalsegmentator-example").glob("**/*example_ct_dicom*"))
    if not folder.is_dir():
        pytest.skip("the example is packed")
    entries, refused = _search(folder)
    assert entries == []
    assert set(refused.values()) == {"MISSING_UID"}


def test_copies_of_a_file_count_once(tmp_path: Path, ct_slices: MakeSlices) -> None:
    """The same object three times, once with other file meta information, is one instance."""
    (dataset,) = ct_slices(1)
    same = _encoded(dataset)
    dataset.file_meta.ImplementationVersionName = "OTHER"
    archive = _put(tmp_path, a=same, b=same, c=_encoded(dataset))
    (entry,) = archive.search()
    assert isinstance(entry, SeriesEntry)
    assert entry.instances == 1
    assert [each.path.name for each in archive.retrieve(entry, tmp_path / "into").instances] == ["a"]


def test_two_objects_under_one_uid(tmp_path: Path, ct_slices: MakeSlices) -> None:
    """Files that differ under one UID: both are named, their series is left out, the other series is not."""
    slices, other = ct_slices(3), ct_slices(1)
    for number, dataset in enumerate([*slices, *other]):
        dataset.save_as(tmp_path / f"{number}.dcm")
    slices[1].PatientComments = "changed"
    slices[1].save_as(tmp_path / "changed.dcm")
    entries, refused = _search(tmp_path)
    assert [each.series_instance_uid for each in entries] == [other[0].SeriesInstanceUID]
    assert refused == {"1.dcm": "DUPLICATE_UID", "changed.dcm": "DUPLICATE_UID"}


def test_a_series_in_two_studies(tmp_path: Path, ct_slices: MakeSlices) -> None:
    """A Series Instance UID that stands in two studies is refused under that UID."""
    slices = ct_slices(2)
    slices[1].StudyInstanceUID = "1.2.3"
    _put(tmp_path, a=_encoded(slices[0]), b=_encoded(slices[1]))
    assert _search(tmp_path) == ([], {slices[0].SeriesInstanceUID: "MIXED_SERIES"})


def test_directory_and_half_written_files_are_passed_over(tmp_path: Path, ct_slices: MakeSlices) -> None:
    """A DICOMDIR and what a killed writer left are no objects and need no report."""
    directory = Path(get_testdata_file("DICOMDIR")).read_bytes()
    _put(tmp_path, DICOMDIR=directory, **{f".x{folder_scan.PART_SUFFIX}": _encoded(ct_slices(1)[0])})
    assert _search(tmp_path) == ([], {})


def test_the_files_of_a_directory_of_media() -> None:
    """Of a medium with a DICOMDIR (PS3.10 8.6) every instance that it names is found, as pydicom's FileSet reads it."""
    directory = get_testdata_file("DICOMDIR")
    named = {str(each.SeriesInstanceUID): 0 for each in FileSet(directory)}
    for each in FileSet(directory):
        named[str(each.SeriesInstanceUID)] += 1
    entries, _ = _search(Path(directory).parent)
    found = {each.series_instance_uid: each.instances for each in entries}
    assert named
    assert {uid: found.get(uid) for uid in named} == named


@pytest.mark.parametrize("suffix", ["zip", "tar", "tar.gz", "tgz", "tar.bz2", "tar.xz"])
def test_a_packed_file_in_a_folder(tmp_path: Path, ct_slices: MakeSlices, suffix: str) -> None:
    """A zip or tar file is no silent loss: the report names the address by which it can be read, and that works."""
    (tmp_path / "root").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "ct.dcm").write_bytes(_encoded(ct_slices(1)[0]))
    kind = {"tgz": "gztar", "tar.gz": "gztar", "tar.bz2": "bztar", "tar.xz": "xztar"}.get(suffix, suffix)
    packed = Path(shutil.make_archive(str(tmp_path / "packed"), kind, tmp_path / "data"))
    packed.rename(tmp_path / "root" / f"Cohort.{suffix}")
    for _ in range(2):
        (refused,) = open_archive(str(tmp_path / "root")).search()
        assert isinstance(refused, RefusedObject)
        assert (refused.identifier, refused.code) == (f"Cohort.{suffix}", "PACKED")
        inner = open_archive(f"dir:{refused.reason.rpartition('dir:')[2]}")
        assert [each.instances for each in inner.search() if isinstance(each, SeriesEntry)] == [1]


def test_links(tmp_path: Path, ct_slices: MakeSlices) -> None:
    """Links within the tree count once; links out of it are refused by name; a link to itself does no harm."""
    root, outside = tmp_path / "root", tmp_path / "outside"
    for folder in (root, outside):
        folder.mkdir()
        ct_slices(1)[0].save_as(folder / "ct.dcm")
    (root / "again.dcm").symlink_to("ct.dcm")
    (root / "loop").symlink_to(".")
    (root / "file").symlink_to(outside / "ct.dcm")
    (root / "folder").symlink_to(outside)
    entries, refused = _search(root)
    assert [each.instances for each in entries] == [1]
    assert refused == {"file": "LINK_OUTSIDE", "folder": "LINK_OUTSIDE"}


def test_names_that_are_no_text(tmp_path: Path, ct_slices: MakeSlices) -> None:
    """Names with bytes that are no UTF-8 are read, and reported in a form that can be printed."""
    folder = os.fsencode(tmp_path) + b"/\xff"
    os.mkdir(folder)  # noqa: PTH102 - pathlib takes no bytes
    for name, content in ((b"/\xfe.dcm", _encoded(ct_slices(1)[0])), (b"/\xfd.txt", b"text")):
        Path(os.fsdecode(folder + name)).write_bytes(content)
    for _ in range(2):
        entries, refused = _search(tmp_path)
        assert [each.instances for each in entries] == [1]
        assert refused == {"\\xff/\\xfd.txt": "NOT_DICOM"}


def test_a_source_that_is_not_there(tmp_path: Path) -> None:
    """A folder that does not exist is an error of the search, which names it and is not to be retried."""
    with pytest.raises(SourceNotThere, match=str(tmp_path / "absent")) as caught:
        list(FolderArchive(tmp_path / "absent").search())
    assert (caught.value.code, caught.value.retryable) == ("SOURCE_NOT_THERE", False)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read(tmp_path: Path, ct_slices: MakeSlices) -> None:
    """A closed folder and a closed file within a source are named; closed itself, the source is denied."""
    ct_slices(1)[0].save_as(tmp_path / "ct.dcm")
    (tmp_path / "closed").mkdir(mode=0)
    (tmp_path / "closed.dcm").touch(mode=0)
    entries, refused = _search(tmp_path)
    assert len(entries) == 1
    assert refused == {"closed": "ACCESS_DENIED", "closed.dcm": "ACCESS_DENIED"}
    with pytest.raises(AccessDenied):
        _search(tmp_path / "closed")


def test_headers_are_read_once(tmp_path: Path, ct_slices: MakeSlices, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second search, and a retrieve in an archive opened anew, read no header of a file that is known."""
    for dataset in ct_slices(2):
        dataset.save_as(tmp_path / f"{dataset.InstanceNumber}.dcm")
    first = list(FolderArchive(tmp_path).search())
    monkeypatch.setattr(folder_scan, "read_header", lambda path: pytest.fail(f"{path} was read again"))
    anew = FolderArchive(tmp_path)
    (entry,) = anew.search()
    assert [entry] == first
    assert isinstance(entry, SeriesEntry)
    monkeypatch.setattr(folder_scan, "refresh", lambda *_: pytest.fail("the tree was walked"))
    assert len(FolderArchive(tmp_path).retrieve(entry, tmp_path / "into").instances) == 2


def test_changes_are_seen(tmp_path: Path, ct_slices: MakeSlices) -> None:
    """Files that came, went or changed since the last search are seen by the next."""
    slices = ct_slices(3)
    archive = _put(tmp_path, a=_encoded(slices[0]), b=_encoded(slices[1]))
    assert [each.instances for each in archive.search() if isinstance(each, SeriesEntry)] == [2]
    (tmp_path / "b").unlink()
    assert [each.instances for each in archive.search() if isinstance(each, SeriesEntry)] == [1]
    (tmp_path / "sub").mkdir()
    slices[2].save_as(tmp_path / "sub" / "c")
    (tmp_path / "a").write_bytes(b"not DICOM any more")
    found = list(archive.search())
    assert [(each.instances) for each in found if isinstance(each, SeriesEntry)] == [1]
    assert [each.code for each in found if isinstance(each, RefusedObject)] == ["NOT_DICOM"]
    (tmp_path / "sub" / "c").unlink()
    (tmp_path / "sub").rmdir()
    assert [each for each in archive.search() if isinstance(each, SeriesEntry)] == []


def test_retrieve_looks_again_where_the_index_is_behind(tmp_path: Path, ct_slices: MakeSlices) -> None:
    """A series that was moved since the search is found; one whose file is gone is an error that may pass."""
    slices = ct_slices(2)
    archive = _put(tmp_path, a=_encoded(slices[0]), b=_encoded(slices[1]))
    (entry,) = archive.search()
    assert isinstance(entry, SeriesEntry)
    (tmp_path / "b").rename(tmp_path / "c")
    series = FolderArchive(tmp_path).retrieve(entry, tmp_path / "into")
    assert sorted(each.path.name for each in series.instances) == ["a", "c"]
    assert {each.sha256 for each in series.instances} == {file_sha256(tmp_path / "a"), file_sha256(tmp_path / "c")}
    assert not (tmp_path / "into").exists()
    (tmp_path / "c").unlink()
    with pytest.raises(RetrieveError, match="1 instances and not 2") as caught:
        archive.retrieve(entry, tmp_path / "into")
    assert caught.value.retryable


def test_a_second_object_that_came_after_the_search(tmp_path: Path, ct_slices: MakeSlices) -> None:
    """A differing file under the same UID, put there between search and retrieve, is an error and no lottery."""
    slices = ct_slices(2)
    archive = _put(tmp_path, a=_encoded(slices[0]), b=_encoded(slices[1]))
    (entry,) = archive.search()
    assert isinstance(entry, SeriesEntry)
    slices[0].PatientComments = "changed"
    _put(tmp_path, aa=_encoded(slices[0]), b=_encoded(slices[1]))
    list(FolderArchive(tmp_path).search())
    with pytest.raises(RetrieveError, match=slices[0].SOPInstanceUID):
        archive.retrieve(entry, tmp_path / "into")


@pytest.mark.parametrize("cache", ["/dev/null", "/proc/absent"])
def test_an_index_that_cannot_be_kept(
    tmp_path: Path, ct_slices: MakeSlices, monkeypatch: pytest.MonkeyPatch, cache: str
) -> None:
    """Without a place for the index everything works; each archive reads the headers for itself."""
    monkeypatch.setenv("VOXFLEET_CACHE", cache)
    ct_slices(1)[0].save_as(tmp_path / "ct.dcm")
    (entry,), refused = _search(tmp_path)
    assert refused == {}
    assert len(FolderArchive(tmp_path).retrieve(entry, tmp_path / "into").instances) == 1


def test_an_index_that_is_damaged(tmp_path: Path, ct_slices: MakeSlices, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index file that is no database is made anew."""
    cache, root = tmp_path / "cache", tmp_path / "root"
    root.mkdir()
    monkeypatch.setenv("VOXFLEET_CACHE", str(cache))
    ct_slices(1)[0].save_as(root / "ct.dcm")
    assert len(_search(root)[0]) == 1
    for path in (cache / "folders").iterdir():
        path.write_bytes(b"no database" * 1000)
    assert len(_search(root)[0]) == 1


def test_searches_at_once(tmp_path: Path, ct_slices: MakeSlices, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen workers that meet a folder without index at the same moment all find the whole of it."""
    root = tmp_path / "root"
    root.mkdir()
    for dataset in ct_slices(20):
        dataset.save_as(root / f"{dataset.InstanceNumber}.dcm")
    monkeypatch.setenv("VOXFLEET_CACHE", str(tmp_path / "cache"))
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: _search(root), range(16)))
    assert [[each.instances for each in entries] for entries, _ in found] == [[20]] * 16


def test_where_an_object_is_stored(tmp_path: Path, ct_slices: MakeSlices) -> None:
    """An object lies under STUDY/SERIES/INSTANCE.dcm, as a whole DICOM file, with nothing beside it."""
    (dataset,) = ct_slices(1)
    stored = FolderArchive(tmp_path / "new" / "archive").store(dataset)
    path = tmp_path / "new" / "archive" / dataset.StudyInstanceUID / dataset.SeriesInstanceUID
    assert [each.name for each in path.iterdir()] == [f"{dataset.SOPInstanceUID}.dcm"]
    assert stored.uri == f"dir:{path}/{dataset.SOPInstanceUID}.dcm"
    assert stored.bytes == (path / f"{dataset.SOPInstanceUID}.dcm").stat().st_size


def test_a_link_out_of_the_archive_is_not_written_through(tmp_path: Path, ct_slices: MakeSlices) -> None:
    """A study's folder that is a link to somewhere else is refused as a place to store."""
    (dataset,) = ct_slices(1)
    (tmp_path / "outside").mkdir()
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / dataset.StudyInstanceUID).symlink_to(tmp_path / "outside")
    with pytest.raises(StoreRefused, match="link"):
        FolderArchive(tmp_path / "root").store(dataset)
    assert list((tmp_path / "outside").iterdir()) == []


def test_writers_at_once(tmp_path: Path, ct_slices: MakeSlices) -> None:
    """Of eight that store the same object at once, one writes it, all end well, and one file is there."""
    (dataset,) = ct_slices(1)
    archive = FolderArchive(tmp_path)
    copies = [pydicom.dcmread(BytesIO(_encoded(dataset))) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        stored = list(pool.map(archive.store, copies))
    assert {each.sha256 for each in stored} == {dataset_digest(dataset)}
    assert sum(not each.already_there for each in stored) == 1
    assert len([each for each in tmp_path.rglob("*") if each.is_file()]) == 1


def test_what_is_there_and_no_object(tmp_path: Path, ct_slices: MakeSlices) -> None:
    """A damaged file in an object's place is a conflict and stays: it is not ours to remove."""
    (dataset,) = ct_slices(1)
    path = tmp_path / "x.dcm"
    path.write_bytes(b"something else")
    with pytest.raises(StoreConflict):
        store_file(dataset, path)
    assert path.read_bytes() == b"something else"


def test_without_hard_links(tmp_path: Path, ct_slices: MakeSlices, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file system without hard links an object is stored all the same, and conflicts are seen."""

    def refuse(self: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    (dataset,) = ct_slices(1)
    assert store_file(dataset, tmp_path / "x.dcm").sha256 == dataset_digest(dataset)
    dataset.PatientComments = "changed"
    with pytest.raises(StoreConflict):
        store_file(dataset, tmp_path / "x.dcm")
    assert [each.name for each in tmp_path.iterdir()] == ["x.dcm"]


def test_a_writer_killed_half_way(tmp_path: Path, ct_slices: MakeSlices) -> None:
    """SIGKILL during a store leaves no object or a whole one, and the next writer finishes."""
    (dataset,) = ct_slices(1)
    dataset.add_new(0x00091001, "OB", bytes(48_000_000))
    dataset.add_new(0x00090010, "LO", "TEST")
    dataset.save_as(tmp_path / "big.dcm")
    root = tmp_path / "archive"
    program = (
        "import sys, pydicom; from pathlib import Path;"
        "from voxfleet.enrich.archives.folder.archive import FolderArchive;"
        "FolderArchive(Path(sys.argv[1])).store(pydicom.dcmread(sys.argv[2]))"
    )
    process = subprocess.Popen([sys.executable, "-c", program, root, tmp_path / "big.dcm"])
    while process.poll() is None and not list(root.rglob(f".*{folder_scan.PART_SUFFIX}")):
        time.sleep(0.0005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert {each.bytes for each in _search(root)[0]} <= {(tmp_path / "big.dcm").stat().st_size}
    assert FolderArchive(root).store(dataset).sha256 == dataset_digest(dataset)
    entries, refused = _search(root)
    assert ([each.instances for each in entries], refused) == ([1], {})


def test_what_killed_writers_left_is_removed(tmp_path: Path, ct_slices: MakeSlices) -> None:
    """A store removes half-written files of its folder that are over an hour old, and no younger ones."""
    (dataset,) = ct_slices(1)
    old, young = (tmp_path / f".{name}{folder_scan.PART_SUFFIX}" for name in ("old", "young"))
    young.touch()
    old.touch()
    os.utime(old, (time.time() - folder_store.STALE_PART_S - 1,) * 2)
    store_file(dataset, tmp_path / "x.dcm")
    assert sorted(each.name for each in tmp_path.iterdir()) == [young.name, "x.dcm"]


def test_a_file_is_no_archive(tmp_path: Path) -> None:
    """A file where the folder should be is an error of the search."""
    (tmp_path / "file").touch()
    with pytest.raises(SearchError, match="file"):
        list(FolderArchive(tmp_path / "file").search())
