"""Zip and tar files as archives: equal to what was packed, and harmless whatever was packed."""

from __future__ import annotations

import gzip
import io
import stat
import subprocess
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from pydicom import Dataset
from voxfleet.enrich.archives.address import BadArchiveUri
from voxfleet.enrich.archives.archive import (
    NotThere,
    RefusedObject,
    RetrieveError,
    SearchError,
    SeriesEntry,
    StoreRefused,
)
from voxfleet.enrich.archives.opening import open_archive
from voxfleet.enrich.archives.packed import pack
from voxfleet.enrich.digest import dataset_digest

MakeSlices = Callable[..., list[Dataset]]


def encoded(dataset: Dataset) -> bytes:
    """The object as a file."""
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    """A zip file of members."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def refused(path: Path) -> dict[str, str]:
    """Identifier -> code of all that a search refuses."""
    found = open_archive(f"dir:{path}").search()
    return {each.identifier: each.code for each in found if isinstance(each, RefusedObject)}


@pytest.mark.parametrize("suffix", ["zip", "tar", "tar.gz", "tgz", "tar.bz2", "tar.xz"])
def test_what_was_packed_comes_back(ct_slices: MakeSlices, tmp_path: Path, suffix: str) -> None:
    """Two series packed by zip or by GNU tar come back equal, each once, and a file that is no DICOM is reported."""
    (tmp_path / "data" / "a b").mkdir(parents=True)
    made = [ct_slices(2), ct_slices(1)]
    for number, each in enumerate(dataset for series in made for dataset in series):
        (tmp_path / "data" / "a b" / f"{number}.dcm").write_bytes(encoded(each))
    (tmp_path / "data" / "notes.txt").write_text("no DICOM")
    path = tmp_path / f"cohort.{suffix}"
    if suffix == "zip":
        zipped(path, {str(p.relative_to(tmp_path)): p.read_bytes() for p in (tmp_path / "data").rglob("*.*")})
    else:
        subprocess.run(["tar", "--auto-compress", "-cf", path, "./data"], cwd=tmp_path, check=True)
    archive = open_archive(str(path))
    entries = [each for each in archive.search() if isinstance(each, SeriesEntry)]
    assert [each.instances for each in entries] == [
        len(series) for series in sorted(made, key=lambda s: s[0].SeriesInstanceUID)
    ]
    found = {
        instance.sop_instance_uid: dataset_digest(pydicom.dcmread(instance.path))
        for entry in entries
        for instance in open_archive(archive.uri)
        .retrieve(entry, tmp_path / "into" / entry.series_instance_uid)
        .instances
    }
    assert found == {each.SOPInstanceUID: dataset_digest(each) for series in made for each in series}
    assert [code for name, code in refused(path).items() if name.endswith("notes.txt")] == ["NOT_DICOM"]


def test_names_that_lead_out(ct_slices: MakeSlices, tmp_path: Path) -> None:
    """Members with absolute names, parents or backslashes are refused, and nothing is written outside."""
    content = encoded(ct_slices(1)[0])
    names = ["../escape.dcm", "/etc/escape.dcm", "a/../../escape.dcm", "..\\escape.dcm", "C:/escape.dcm"]
    path = zipped(tmp_path / "bad.zip", dict.fromkeys(names, content))
    assert set(refused(path).values()) == {"UNSAFE_NAME"}
    assert list(tmp_path.parent.rglob("escape*")) == []


def test_links_and_devices(ct_slices: MakeSlices, tmp_path: Path) -> None:
    """A link in a zip or tar file, wherever it leads, and a device are refused and not followed."""
    (tmp_path / "secret.dcm").write_bytes(encoded(ct_slices(1)[0]))
    with tarfile.open(tmp_path / "links.tar", "w") as file:
        for name, kind in (("soft", tarfile.SYMTYPE), ("hard", tarfile.LNKTYPE), ("null", tarfile.CHRTYPE)):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, str(tmp_path / "secret.dcm")
            file.addfile(entry)
    assert refused(tmp_path / "links.tar") == {"soft": "LINK_OUTSIDE", "hard": "LINK_OUTSIDE", "null": "NOT_A_FILE"}
    link = zipfile.ZipInfo("soft")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "links.zip", "w") as zip_file:
        zip_file.writestr(link, str(tmp_path / "secret.dcm"))
    assert refused(tmp_path / "links.zip") == {"soft": "LINK_OUTSIDE"}


@pytest.mark.parametrize("suffix", ["zip", "tar.gz"])
def test_a_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    """A file whose contents are 1,000 times its size is refused whole, before it is unpacked."""
    monkeypatch.setattr(pack, "HARMLESS_BYTES", 1 << 20)
    path = tmp_path / f"bomb.{suffix}"
    zeros = bytes(1 << 22)
    if suffix == "zip":
        zipped(path, {"bomb": zeros})
    else:
        with tarfile.open(path, "w:gz") as file:
            entry = tarfile.TarInfo("bomb")
            entry.size = len(zeros)
            file.addfile(entry, io.BytesIO(zeros))
    with pytest.raises(SearchError, match="bomb") as caught:
        list(open_archive(f"dir:{path}").search())
    assert not caught.value.retryable


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_bomb_before_the_first_member(tmp_path: Path, kind: bytes) -> None:
    """What a tar file says about a member (pax records, long names) is read into memory: 64 MiB of it are refused."""
    entry = tarfile.TarInfo("x")
    entry.type, entry.size = kind, 64 << 20
    path = tmp_path / "bomb.tar.gz"
    with gzip.open(path, "wb", 1) as file:
        file.write(entry.tobuf(tarfile.USTAR_FORMAT) + bytes(entry.size) + bytes(1024))
    tracemalloc.start()
    with pytest.raises(SearchError, match="about one member"):
        list(open_archive(f"dir:{path}").search())
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 16 << 20


def test_a_damaged_member(ct_slices: MakeSlices, tmp_path: Path) -> None:
    """A member whose bytes do not have its checksum is found when the series is retrieved."""
    (dataset,) = ct_slices(1)
    path = tmp_path / "damaged.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        file.writestr("a.dcm", encoded(dataset))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    archive = open_archive(str(path))
    (entry,) = archive.search()
    with pytest.raises(RetrieveError, match="CRC"):
        archive.retrieve(entry, tmp_path / "into")


def test_a_name_that_is_no_text(ct_slices: MakeSlices, tmp_path: Path) -> None:
    """A zip whose name says UTF-8 (APPNOTE 4.4.4, bit 11) and is not is damaged, which is told in a line."""
    path = zipped(tmp_path / "cohort.zip", {"é.dcm": encoded(ct_slices(1)[0])})
    path.write_bytes(path.read_bytes().replace("é".encode(), b"\xff\xfe"))
    with pytest.raises(SearchError, match="cannot be unpacked"):
        list(open_archive(f"dir:{path}").search())


def test_what_is_no_packed_file(tmp_path: Path) -> None:
    """A cut zip file is an error of the search; a file of another kind is no archive; an absent series is not there."""
    (tmp_path / "cut.zip").write_bytes(b"PK\x03\x04 and nothing more")
    with pytest.raises(SearchError, match="cannot be unpacked"):
        list(open_archive(str(tmp_path / "cut.zip")).search())
    (tmp_path / "scan.nii").write_bytes(b"")
    with pytest.raises(BadArchiveUri, match="is a file"):
        open_archive(str(tmp_path / "scan.nii"))
    with pytest.raises(NotThere):
        open_archive(str(zipped(tmp_path / "a.zip", {"a": b""}))).retrieve(SeriesEntry("1", "2", "CT", 1), tmp_path)


def test_a_packed_file_that_changed(ct_slices: MakeSlices, tmp_path: Path) -> None:
    """Another file under the same name is read anew."""
    first, second = ct_slices(1), ct_slices(1)
    path = zipped(tmp_path / "a.zip", {"a": encoded(first[0])})
    assert [each.series_instance_uid for each in open_archive(str(path)).search()] == [first[0].SeriesInstanceUID]
    zipped(path, {"b": encoded(second[0])})
    assert [each.series_instance_uid for each in open_archive(str(path)).search()] == [second[0].SeriesInstanceUID]


def test_nothing_is_stored_in_it(ct_slices: MakeSlices, tmp_path: Path) -> None:
    """A packed file as target is refused before any work, by name."""
    (dataset,) = ct_slices(1)
    archive = open_archive(str(zipped(tmp_path / "a.zip", {"a": encoded(dataset)})))
    for attempt in (archive.probe, lambda: archive.store(dataset)):
        with pytest.raises(StoreRefused, match="only read"):
            attempt()
