"""An XNAT as an archive: what only XNAT has, and a server that misbehaves; by xnatpy, against a double."""

from __future__ import annotations

import copy
import logging
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import pydicom
import pytest
from pydicom import Dataset
from pydicom.uid import generate_uid
from voxfleet.enrich.archives.address import BadArchiveUri, MissingExtra
from voxfleet.enrich.archives.archive import (
    AccessDenied,
    Archive,
    NoSpace,
    ReadBackDiffers,
    RefusedObject,
    RetrieveError,
    SearchError,
    SearchUnanswered,
    SeriesEntry,
    SourceNotThere,
    StoreConflict,
    StoreError,
    StoreRefused,
)
from voxfleet.enrich.archives.attaching import Attachment, InvalidAttachment, TakesFiles
from voxfleet.enrich.archives.credentials import BadCredentials
from voxfleet.enrich.archives.http_session import Patience
from voxfleet.enrich.archives.opening import open_archive
from voxfleet.enrich.archives.xnat.address import parse_address
from voxfleet.enrich.archives.xnat.archive import XnatArchive
from voxfleet.enrich.archives.xnat.errors import UnsafeAnswer

MakeSlices = Callable[..., list[Dataset]]
ZIP = "/resources/DICOM/files.*format=zip"
BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE b [<!ENTITY a "aaaaaaaaaa">'
    + b"".join(b'<!ENTITY a%d "%s">' % (n, b"&a%d;" % (n - 1) * 10 if n else b"&a;" * 10) for n in range(12))
    + b"]><b>&a11;</b>"
)


@pytest.fixture
def archive(xnat: Any) -> Iterator[Archive]:
    """Open the double's empty project."""
    opened = open_archive(xnat.uri)
    yield opened
    opened.close()


@pytest.fixture
def fault(xnat: Any, xnat_double: ModuleType) -> Callable[..., None]:
    """Let the double answer some requests with a status and a body, or with what a function makes of them."""

    def add(method: str, path: str, act: Any, times: int = 1) -> None:
        answer = act if callable(act) else lambda _: act if isinstance(act, tuple) else (act, b"")
        xnat.faults.append(xnat_double.Fault(method, path, answer, times))

    return add


def _stored(archive: Archive, slices: list[Dataset]) -> SeriesEntry:
    for each in slices:
        archive.store(each)
    (entry,) = (each for each in archive.search() if isinstance(each, SeriesEntry))
    return entry


def _encoded(dataset: Dataset) -> bytes:
    buffer = BytesIO()
    pydicom.dcmwrite(buffer, dataset)
    return buffer.getvalue()


def _impatient(archive: Archive) -> XnatArchive:
    """The same project, asked once."""
    return XnatArchive(parse_address(archive.uri), Patience(retries=0))


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("xnat+https://user:pw@host/P", "credentials do not belong"),
        ("xnat+https://host", "HOST/PROJECT"),
        ("xnat+https://host/../P/..", "HOST/PROJECT"),
        ("xnat+https://host/P?x=1", "no query"),
    ],
)
def test_addresses_that_are_none(uri: str, told: str) -> None:
    """An address without project, with a path that is none, or with a password is refused, the password untold."""
    with pytest.raises(BadArchiveUri, match=told) as caught:
        open_archive(uri)
    assert "pw" not in str(caught.value)


def test_a_server_below_a_path() -> None:
    """The project is the last part of the address; the server may be below others."""
    assert open_archive("xnat+https://host:8443/app/P_1/").uri == "xnat+https://host:8443/app/P_1"


def test_without_xnatpy(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation without xnatpy says which extra brings it."""
    for name in [each for each in sys.modules if each.startswith("voxfleet.enrich.archives.xnat")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "xnat", None)
    with pytest.raises(MissingExtra, match=r"voxfleet\[xnat\]"):
        open_archive("xnat+https://host/P")


def test_half_of_the_credentials(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without password is refused, and xnatpy asks nobody on a terminal."""
    monkeypatch.delenv("VOXFLEET_XNAT_PASSWORD")
    with pytest.raises(BadCredentials, match="set together"):
        archive.probe()
    monkeypatch.delenv("VOXFLEET_XNAT_USER")
    monkeypatch.setenv("XNAT_USER", "someone")
    with pytest.raises(BadCredentials, match="XNAT_USER is not read"):
        archive.probe()


def test_credentials_from_netrc(
    archive: Archive, xnat_double: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the variables are for another host, ``.netrc`` gives user and password."""
    monkeypatch.setenv("VOXFLEET_XNAT_HOST", "elsewhere.example.org")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    line = f"machine 127.0.0.1 login {xnat_double.USER} password {xnat_double.PASSWORD}\n"
    (tmp_path / "netrc").write_text(line)
    archive.probe()
    (tmp_path / "netrc").write_text(line.replace(xnat_double.PASSWORD, "other"))
    with pytest.raises(AccessDenied):
        open_archive(archive.uri).probe()


def test_a_guest(archive: Archive, xnat: Any, ct_slices: MakeSlices, tmp_path: Path, monkeypatch: Any) -> None:
    """Without credentials we are a guest, who reads where the server lets guests read, and is denied elsewhere."""
    entry = _stored(archive, ct_slices(1))
    monkeypatch.delenv("VOXFLEET_XNAT_USER")
    monkeypatch.delenv("VOXFLEET_XNAT_PASSWORD")
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    with pytest.raises(AccessDenied):
        _impatient(archive).probe()
    xnat.guests = True
    guest = _impatient(archive)
    assert len(guest.retrieve(entry, tmp_path).instances) == 1
    guest.close()


def test_a_wrong_password(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], caplog: Any
) -> None:
    """A login that is refused is one error, and the password is in no message, no log and no output."""
    monkeypatch.setenv("VOXFLEET_XNAT_PASSWORD", "wr0ng-secret")
    with caplog.at_level(logging.DEBUG), pytest.raises(AccessDenied, match="VOXFLEET_XNAT_USER") as caught:
        archive.probe()
    printed = capfd.readouterr()
    assert "wr0ng-secret" not in str(caught.value) + caplog.text + printed.out + printed.err + repr(archive)


@pytest.mark.parametrize("path", ["/data/services/auth", "/data/auth"])
def test_a_login_to_a_busy_server(archive: Archive, fault: Callable[..., None], path: str) -> None:
    """A server that is busy while we log in has not refused us: a fleet may try again, and is told so."""
    fault("PUT" if "services" in path else "GET", path, 503, times=4)
    with pytest.raises(SearchUnanswered) as caught:
        _impatient(archive).probe()
    assert caught.value.retryable


def test_a_certificate_that_nobody_vouches_for(archive: Archive, xnat: Any, tmp_path: Path) -> None:
    """A server with a certificate of its own gets no password, and asking again is of no use."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not there: apt-get install openssl")
    files = [str(tmp_path / name) for name in ("key", "certificate")]
    words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    subprocess.run([openssl, *words, "-keyout", files[0], "-out", files[1]], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files[1], files[0])
    xnat.socket = context.wrap_socket(xnat.socket, server_side=True, do_handshake_on_connect=False)
    xnat.handle_error = lambda *_: None  # The handshake fails, as it should.
    with pytest.raises(SearchError, match="certificate") as caught:
        open_archive(archive.uri.replace("http:", "https:")).probe()
    assert not caught.value.retryable
    assert xnat.asked == []


def test_a_server_that_is_not_there() -> None:
    """A refused connection may be tried again."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # without listening: nobody else gets the port meanwhile
        uri = f"xnat+http://127.0.0.1:{taken.getsockname()[1]}/P"
        with pytest.raises(SearchUnanswered, match="no connection"):
            XnatArchive(parse_address(uri), Patience(retries=0)).probe()


def test_a_password_that_expired(archive: Archive, fault: Callable[..., None]) -> None:
    """XNAT's page that says so is a denial, which no retry mends."""
    fault("GET", "/data/auth", (200, b"Your password has expired"))
    with pytest.raises(AccessDenied, match="expired"):
        archive.probe()


def test_a_session_that_expired(archive: Archive, xnat: Any, ct_slices: MakeSlices, tmp_path: Path) -> None:
    """A session that the server forgot is replaced by a new login, within search, retrieve and store."""
    slices = ct_slices(2)
    entry = _stored(archive, slices)
    for verb in (archive.probe, lambda: archive.retrieve(entry, tmp_path), lambda: archive.store(slices[0])):
        xnat.sessions.clear()
        verb()
    assert [path for method, path, *_ in xnat.asked if method == "PUT"].count("/data/services/auth") == 4


@pytest.mark.parametrize(
    ("status", "error", "retryable"),
    [
        (403, AccessDenied, False),
        (404, SourceNotThere, False),
        (500, SearchUnanswered, True),
        (400, SearchError, False),
    ],
)
def test_a_listing_that_fails(
    archive: Archive, fault: Callable[..., None], status: int, error: type[Exception], retryable: bool
) -> None:
    """403, 404, 500 that stays and 400 are four errors, and only the third may be tried again."""
    fault("GET", "/experiments", status, times=9)
    with pytest.raises(error) as caught:
        list(_impatient(archive).search())
    assert (type(caught.value), caught.value.retryable) == (error, retryable)


def test_a_server_that_fails_once(
    archive: Archive, fault: Callable[..., None], ct_slices: MakeSlices, tmp_path: Path
) -> None:
    """One 500 to a listing, a download and an upload each is passed over, and the object is whole."""
    fault("PUT", r"/files/.*\.dcm", 500)
    fault("GET", "/experiments", 503)
    fault("GET", ZIP, 500)
    slices = ct_slices(1)
    entry = _stored(archive, slices)
    (instance,) = archive.retrieve(entry, tmp_path).instances
    assert pydicom.dcmread(instance.path) == slices[0]


@pytest.mark.parametrize("answer", [BOMB, b"<!DOCTYPE html><form>login", b'{"ResultSet": []}', b"[", b'{"items": [1]}'])
def test_an_answer_that_is_none(archive: Archive, fault: Callable[..., None], answer: bytes) -> None:
    """An XML entity bomb (10^12 letters), a page and JSON of another shape are refused at once, never expanded."""
    archive.probe()
    fault("GET", "/experiments", (200, answer))
    started = time.process_time()
    with pytest.raises(SearchError) as caught:
        list(archive.search())
    assert time.process_time() - started < 10
    assert not caught.value.retryable


def test_a_connection_that_breaks(
    archive: Archive, fault: Callable[..., None], ct_slices: MakeSlices, tmp_path: Path
) -> None:
    """A zip that ends in the middle, with its connection, may be asked for again; nothing half is left."""
    entry = _stored(archive, ct_slices(2))

    def cut(request: Any) -> tuple[int, bytes]:
        request.send_response(200)
        request.send_header("Content-Length", "100000")
        request.end_headers()
        request.wfile.write(b"PK\3\4" + b"0" * 1000)
        return 0, b""

    fault("GET", ZIP, cut)
    with pytest.raises(RetrieveError, match="broke") as caught:
        archive.retrieve(entry, tmp_path)
    assert caught.value.retryable
    assert list(tmp_path.iterdir()) == []
    assert len(archive.retrieve(entry, tmp_path).instances) == 2


def test_a_zip_that_is_cut(
    archive: Archive, xnat: Any, fault: Callable[..., None], ct_slices: MakeSlices, tmp_path: Path
) -> None:
    """A zip that is cut or changed, though its answer is whole and 200, is not taken and may be asked for again."""
    entry = _stored(archive, ct_slices(2))

    def changed(edit: Callable[[bytes], bytes]) -> Callable[[Any], tuple[int, bytes]]:
        return lambda request: (200, edit(xnat.answer(request)[1]))

    fault("GET", ZIP, changed(lambda zipped: zipped[: len(zipped) // 2]))
    fault("GET", ZIP, changed(lambda zipped: zipped[:200] + bytes(8) + zipped[208:]))
    for _ in range(2):
        with pytest.raises(RetrieveError, match="cut or damaged") as caught:
            archive.retrieve(entry, tmp_path)
        assert caught.value.retryable


@pytest.mark.parametrize("name", ["../../escape.dcm", "/etc/escape.dcm", "a/../../escape.dcm", "..\\escape", "C:\\x"])
def test_a_zip_that_leads_out(
    archive: Archive,
    xnat_double: ModuleType,
    fault: Callable[..., None],
    ct_slices: MakeSlices,
    tmp_path: Path,
    name: str,
) -> None:
    """A zip with a path out of it is refused before anything is written, and not asked for again."""
    slices = ct_slices(1)
    entry = _stored(archive, slices)
    fault("GET", ZIP, (200, xnat_double.zipped({name: _encoded(slices[0])})))
    with pytest.raises(UnsafeAnswer, match="leads out") as caught:
        archive.retrieve(entry, tmp_path / "into")
    assert not caught.value.retryable
    assert [each.name for each in tmp_path.rglob("*")] == ["into"]


def test_a_zip_other_than_listed(
    archive: Archive, xnat_double: ModuleType, fault: Callable[..., None], ct_slices: MakeSlices, tmp_path: Path
) -> None:
    """100 MB of zeros, a file too few and a file with another MD5 are each told from what was listed."""
    slices = ct_slices(1)
    entry, content = _stored(archive, slices), _encoded(slices[0])
    fault("GET", ZIP, (200, xnat_double.zipped({"a.dcm": bytes(10**8)})))
    fault("GET", ZIP, (200, xnat_double.zipped({})))
    fault("GET", ZIP, (200, xnat_double.zipped({"a.dcm": content[:-1] + b"\1"})))
    with pytest.raises(UnsafeAnswer, match="100000000 bytes"):
        archive.retrieve(entry, tmp_path)
    with pytest.raises(RetrieveError, match="holds 0 files"):
        archive.retrieve(entry, tmp_path)
    with pytest.raises(RetrieveError, match="MD5"):
        archive.retrieve(entry, tmp_path)


@pytest.mark.parametrize(
    ("status", "error", "retryable"),
    [
        (401, AccessDenied, False),
        (403, AccessDenied, False),
        (400, StoreRefused, False),
        (507, NoSpace, False),
        (501, StoreError, True),
    ],
)
def test_an_object_that_is_not_taken(
    archive: Archive, fault: Callable[..., None], ct_slices: MakeSlices, status: int, error: type, retryable: bool
) -> None:
    """Refusals of an upload are told apart, and name the object."""
    fault("PUT", r"\.dcm", status, times=2)
    (dataset,) = ct_slices(1)
    with pytest.raises(error, match=dataset.SOPInstanceUID) as caught:
        archive.store(dataset)
    assert (type(caught.value), caught.value.retryable) == (error, retryable)


def test_an_object_that_does_not_come_back(archive: Archive, fault: Callable[..., None], ct_slices: MakeSlices) -> None:
    """An upload that is answered and dropped, and one that is changed on its way, are seen by reading back."""

    def change(request: Any) -> None:
        request.body = request.body.replace(b"CompressedSamples", b"Other^Patient^^^^")

    dropped, changed = ct_slices(2)
    fault("PUT", rf"{dropped.SOPInstanceUID}\.dcm", 200)
    fault("PUT", rf"{changed.SOPInstanceUID}\.dcm", change)
    with pytest.raises(StoreError, match="does not hold it"):
        archive.store(dropped)
    with pytest.raises(ReadBackDiffers):
        archive.store(changed)


@pytest.mark.parametrize("same", [True, False])
def test_two_writers_at_once(
    archive: Archive, xnat: Any, fault: Callable[..., None], ct_slices: MakeSlices, same: bool
) -> None:
    """Where another was first with the name, XNAT's 409 leads to a comparison: equal is fine, else a conflict."""
    (dataset,) = ct_slices(1)
    theirs = copy.deepcopy(dataset)
    if not same:
        theirs.PatientComments = "theirs"

    def first(request: Any) -> tuple[int, bytes]:
        request.body = _encoded(theirs)
        xnat.answer(request)
        return 409, b""

    fault("PUT", r"\.dcm", first)
    if same:
        assert archive.store(dataset).already_there
    else:
        with pytest.raises(StoreConflict, match="left as it was"):
            archive.store(dataset)


def test_patients_stay_apart(archive: Archive, xnat: Any, ct_slices: MakeSlices) -> None:
    """Two studies of one patient are two sessions of one subject; IDs that XNAT cannot spell are two subjects."""
    for patient in ("A-1", "A-1", "A.1", "A 1", ""):
        (dataset,) = ct_slices(1)
        dataset.PatientID = patient
        archive.store(dataset)
    assert [len(each.below) for each in xnat.subjects.values()] == [2, 1, 1, 1]
    assert next(iter(xnat.subjects)) == "A-1"


def test_a_segmentation_is_a_scan_of_its_session(archive: Archive, xnat: Any, ct_slices: MakeSlices) -> None:
    """An object of modality SEG in a study that is there becomes a ``segScanData`` beside the CT, with its UID."""
    (dataset,) = ct_slices(1)
    archive.store(dataset)
    dataset.Modality, dataset.SeriesInstanceUID = "SEG", generate_uid()
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    archive.store(dataset)
    ((session, node),) = xnat.experiments.items()
    assert session.startswith("XNAT_E")
    assert node.kind == "xnat:ctSessionData"
    assert [(each.kind, list(each.resources)) for each in node.below.values()] == [
        ("xnat:ctScanData", ["DICOM"]),
        ("xnat:segScanData", ["DICOM"]),
    ]
    assert list(node.below.values())[1].fields["UID"] == dataset.SeriesInstanceUID


def test_files_that_xnat_named(archive: Archive, xnat: Any, ct_slices: MakeSlices) -> None:
    """An object that came by DICOM, under a name of XNAT's, is found by what it holds and not stored twice."""
    (dataset,) = ct_slices(1)
    archive.store(dataset)
    ((scan,),) = (each.below.values() for each in xnat.experiments.values())
    files = scan.resources["DICOM"]
    files["Roe-3-1-1xq2.dcm"] = files.pop(f"{dataset.SOPInstanceUID}.dcm")
    assert archive.store(dataset).already_there
    assert list(files) == ["Roe-3-1-1xq2.dcm"]


def test_scans_that_are_no_series(archive: Archive, xnat: Any, ct_slices: MakeSlices) -> None:
    """A scan without UID, one without DICOM files and two of one UID are told with their paths."""
    for dataset in (ct_slices(1)[0] for _ in range(4)):
        archive.store(dataset)
    first, second, third, fourth = (next(iter(each.below.values())) for each in xnat.experiments.values())
    del first.fields["UID"]
    second.resources["NIFTI"] = second.resources.pop("DICOM")
    third.fields["UID"] = fourth.fields["UID"]
    found = list(archive.search())
    assert all(isinstance(each, RefusedObject) for each in found)
    assert [each.code for each in found] == ["MISSING_UID", "NOT_DICOM", "DUPLICATE_UID", "DUPLICATE_UID"]
    assert found[0].identifier.startswith("experiments/XNAT_E00000/scans/")


def test_a_study_in_two_sessions(archive: Archive, xnat: Any, ct_slices: MakeSlices, tmp_path: Path) -> None:
    """Where a project files the series of one study into two sessions, each is found in its own."""
    made = [ct_slices(1)[0] for _ in range(2)]
    for each in made:
        archive.store(each)
    first, second = xnat.experiments.values()
    second.fields["UID"] = first.fields["UID"]
    entries = [each for each in archive.search() if isinstance(each, SeriesEntry)]
    assert {each.study_instance_uid for each in entries} == {made[0].StudyInstanceUID}
    found = [archive.retrieve(each, tmp_path).instances[0].sop_instance_uid for each in entries]
    assert sorted(found) == sorted(each.SOPInstanceUID for each in made)


def test_counts_that_xnat_does_not_tell(archive: Archive, xnat: Any, ct_slices: MakeSlices, tmp_path: Path) -> None:
    """Where the catalogue has not been counted, the files are listed; and an unfiltered search finds the study."""
    slices = ct_slices(2)
    for each in (*slices, *ct_slices(1)):
        archive.store(each)
    plain = xnat.answer

    def uncounted(request: Any) -> tuple[int, bytes]:
        request.query.pop("xnat:imageSessionData/UID", None) if request.command == "GET" else None
        status, body = plain(request)
        return status, body.replace(b'"file_count"', b'"other"')

    xnat.answer = uncounted
    entries = {each.series_instance_uid: each for each in archive.search()}
    entry = entries[slices[0].SeriesInstanceUID]
    assert entry.instances == 2
    assert len(archive.retrieve(entry, tmp_path).instances) == 2


def test_files_beside_a_study(archive: Archive, xnat: Any, ct_slices: MakeSlices, tmp_path: Path) -> None:
    """A file becomes one of a resource of the session; equal again is nothing, another under its name a conflict."""
    (dataset,) = ct_slices(1)
    archive.store(dataset)
    path = tmp_path / "mask"
    path.write_bytes(b"\0\1" * 5000)
    assert isinstance(archive, TakesFiles)
    attachment = Attachment(dataset.StudyInstanceUID, "Annotations", "segmentation_liver_m-1.nii.gz", path)
    uri = archive.attach(attachment)
    assert uri == archive.attach(attachment)
    assert uri.endswith("/resources/Annotations/files/segmentation_liver_m-1.nii.gz")
    (session,) = xnat.experiments.values()
    assert session.resources == {"Annotations": {"segmentation_liver_m-1.nii.gz": b"\0\1" * 5000}}
    path.write_bytes(b"other")
    with pytest.raises(StoreConflict, match="left as it was"):
        archive.attach(attachment)
    assert session.resources["Annotations"]["segmentation_liver_m-1.nii.gz"] == b"\0\1" * 5000


def test_files_that_cannot_be_kept(
    archive: Archive, fault: Callable[..., None], ct_slices: MakeSlices, tmp_path: Path
) -> None:
    """A file for an unknown study, one that came back changed, and a name that is a path are refused."""
    path = tmp_path / "mask"
    path.write_bytes(b"mask")
    (dataset,) = ct_slices(1)
    with pytest.raises(StoreRefused, match="no session"):
        archive.attach(Attachment(dataset.StudyInstanceUID, "Annotations", "mask.nii.gz", path))
    archive.store(dataset)
    fault("PUT", "mask.nii.gz", lambda request: setattr(request, "body", b"cut"))
    with pytest.raises(ReadBackDiffers):
        archive.attach(Attachment(dataset.StudyInstanceUID, "Annotations", "mask.nii.gz", path))
    for folder, name in (("..", "x"), ("Annotations", "../x"), ("Annotations", "a b")):
        with pytest.raises(InvalidAttachment):
            Attachment(dataset.StudyInstanceUID, folder, name, path)
