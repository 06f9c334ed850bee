"""DICOMweb archives: memory, TLS, pages and pauses, against a service that keeps objects as files, and Orthanc."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import pytest
from pydicom import Dataset
from voxfleet.enrich.archives.archive import (
    AccessDenied,
    ArchiveError,
    RetrieveError,
    SearchError,
    SeriesEntry,
    StoreRefused,
)
from voxfleet.enrich.archives.dicomweb import archive as dicomweb
from voxfleet.enrich.archives.dicomweb.archive import DicomwebArchive
from voxfleet.enrich.archives.http_session import Patience
from voxfleet.enrich.digest import dataset_digest

PATIENCE = Patience(connect_s=20.0, read_s=60.0, retries=2, backoff_s=0.01)
MEGABYTE = 1 << 20
MakeSlices = Callable[..., list[Dataset]]
MEASURED = """
import json, os, sys
from pathlib import Path
import pydicom
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid
from voxfleet.enrich.archives.dicomweb.archive import DicomwebArchive
from voxfleet.enrich.archives.object_file import opened

url, folder, megabytes = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
archive = DicomwebArchive(url)

def peak():  # of this process alone: ru_maxrss begins with that of its parent
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10

def made(megabytes):
    dataset = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID = (generate_uid() for _ in range(3))
    dataset.PixelData = os.urandom(1 << 20) * megabytes
    return dataset

grown, before = {}, peak()
archive.store(made(1))
(entry,) = archive.search()
path = archive.retrieve(entry, folder / "small").instances[0].path
with path.open("r+b") as file:  # the same object with more pixels, which are its last element
    at = path.read_bytes().rindex(b"\\xe0\\x7f\\x10\\x00OW\\0\\0")
    file.seek(at + 8)
    file.write((megabytes << 20).to_bytes(4, "little"))
    for _ in range(megabytes):
        file.write(os.urandom(1 << 20))
    file.truncate()
with opened(path) as dataset:
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID = (generate_uid() for _ in range(3))
    before = peak()
    stored = archive.store(dataset)
    grown["store from a file"] = peak() - before
path.unlink()
(entry,) = [each for each in archive.search() if each.series_instance_uid == stored.series_instance_uid]
before = peak()
(instance,) = archive.retrieve(entry, folder / "large").instances
grown["retrieve"] = peak() - before
instance.path.unlink()
dataset = made(megabytes // 5)
before = peak()
archive.store(dataset)
grown["store from memory"] = peak() - before
print(json.dumps([stored.bytes, grown]))
"""


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # Its records look for it there.
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Any]:
    """A DICOMweb service with nothing in it."""
    folder = tmp_path / "service"
    folder.mkdir()
    with _module(Path(__file__).with_name("dicomweb_double.py")).running_dicomweb(folder) as server:
        yield server


@pytest.mark.slow
def test_memory_does_not_grow_with_the_object(service: Any, tmp_path: Path) -> None:
    """500 MB of pixels are stored from their file and retrieved, and 100 MB stored from memory, in 30 MB more."""
    command = [sys.executable, "-c", MEASURED, service.url, str(tmp_path), "500"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    size, grown = json.loads(done.stdout)
    assert size > 500 * MEGABYTE
    assert {name: count for name, count in grown.items() if count > 30 * MEGABYTE} == {}


@pytest.mark.parametrize("status", [429, 503])
def test_a_pause_that_is_asked_for(service: Any, ct_slices: MakeSlices, status: int) -> None:
    """An archive that is busy and names a second in Retry-After is asked again after that second, and then takes it."""
    (dataset,) = ct_slices(1)
    service.store_statuses, service.retry_after = [status, 200], "1"
    begun = time.monotonic()
    assert DicomwebArchive(service.url, PATIENCE).store(dataset).sha256 == dataset_digest(dataset)
    assert time.monotonic() - begun >= 1.0
    assert [method for method, _, _ in service.seen] == ["GET", "POST", "POST", "GET"]


def test_pages(service: Any, ct_slices: MakeSlices, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five series in pages of two are all found, each once, with the counts that are asked for by includefield."""
    _check_pages(DicomwebArchive(service.url, PATIENCE), ct_slices, monkeypatch)
    asked = [path for _, path, _ in service.seen if path.startswith("/dicom-web/series?")]
    assert all("includefield=00201209" in path for path in asked)
    assert [f"offset={offset}" in path for offset, path in zip((0, 2, 4, 5), asked, strict=True)] == [True] * 4


@pytest.mark.orthanc
def test_pages_of_orthanc(start_orthanc: Callable[..., Any], ct_slices: MakeSlices, monkeypatch: Any) -> None:
    """So they are in Orthanc."""
    _check_pages(DicomwebArchive(start_orthanc().url, PATIENCE), ct_slices, monkeypatch)


def _check_pages(archive: DicomwebArchive, ct_slices: MakeSlices, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicomweb, "PAGE", 2)
    made = [ct_slices(count) for count in (1, 2, 1, 2, 1)]
    for dataset in (each for series in made for each in series):
        archive.store(dataset)
    found = [(each.series_instance_uid, each.instances) for each in archive.search() if isinstance(each, SeriesEntry)]
    assert found == sorted((series[0].SeriesInstanceUID, len(series)) for series in made)


def _check_mistrust(url: str, dataset: Dataset, reason: str, into: Path) -> None:
    """No verb goes through to a server whose certificate is not accepted; each error says why, and the next step."""
    archive = DicomwebArchive(url, PATIENCE)
    entry = SeriesEntry(dataset.StudyInstanceUID, dataset.SeriesInstanceUID, "CT", 1)
    verbs: list[tuple[type[ArchiveError], Callable[[], object]]] = [
        (SearchError, lambda: list(archive.search())),
        (RetrieveError, lambda: archive.retrieve(entry, into)),
        (StoreRefused, lambda: archive.store(dataset)),
    ]
    for kind, verb in verbs:
        with pytest.raises(kind, match=reason) as caught:
            verb()
        assert type(caught.value) is kind
        assert "REQUESTS_CA_BUNDLE" in str(caught.value)


def test_a_certificate_that_is_not_trusted(
    service: Any, authority: Any, ct_slices: MakeSlices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unknown authority: refused, with the next step, and nothing reaches the archive; with it all goes through."""
    (dataset,) = ct_slices(1)
    port = urlsplit(service.url).port
    with sys.modules["authority"].speaking_tls(port, authority.server) as tls:
        reason = r"certificate was not accepted \(unable to get local issuer certificate\)"
        _check_mistrust(f"https://127.0.0.1:{tls}/dicom-web", dataset, reason, tmp_path / "into")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.certificate))
        _check_mistrust(f"https://localhost:{tls}/dicom-web", dataset, "Hostname mismatch", tmp_path / "into")
        assert service.seen == []
        archive = DicomwebArchive(f"https://127.0.0.1:{tls}/dicom-web", PATIENCE)
        assert archive.store(dataset).sha256 == dataset_digest(dataset)


@pytest.mark.orthanc
def test_orthanc_with_a_password_behind_tls(
    start_orthanc: Callable[..., Any], authority: Any, ct_slices: MakeSlices, monkeypatch: Any, tmp_path: Path
) -> None:
    """Not trusted, then without and with a wrong password: denied; with the right one an object goes in and out."""
    (dataset,) = ct_slices(1)
    orthanc = start_orthanc("fleet", "s3cret", authority.server)
    _check_mistrust(orthanc.url, dataset, "unable to get local issuer certificate", tmp_path / "into")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.certificate))
    monkeypatch.setenv("NETRC", "/dev/null")
    for password in ("", "wr0ng"):
        if password:
            monkeypatch.setenv("VOXFLEET_DICOMWEB_USER", "fleet")
            monkeypatch.setenv("VOXFLEET_DICOMWEB_PASSWORD", password)
        for verb in ("search", "probe", "store"):
            archive = DicomwebArchive(orthanc.url, PATIENCE)
            with pytest.raises(AccessDenied, match="401") as caught:
                list(archive.search()) if verb == "search" else getattr(archive, verb)(*[dataset][verb != "store" :])
            assert "wr0ng" not in str(caught.value)
    monkeypatch.setenv("VOXFLEET_DICOMWEB_PASSWORD", "s3cret")
    archive = DicomwebArchive(orthanc.url, PATIENCE)
    assert not archive.store(dataset).already_there
    assert archive.store(dataset).already_there
    (entry,) = archive.search()
    assert isinstance(entry, SeriesEntry)
    assert len(archive.retrieve(entry, tmp_path / "into").instances) == 1
