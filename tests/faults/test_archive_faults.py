"""Archives that answer wrongly, late, by halves or not at all, over real sockets."""

from __future__ import annotations

import json
import logging
import pickle
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
import requests
from pydicom import Dataset
from pydicom.uid import generate_uid
from voxfleet.cluster.ledger import Ledger, Publication, Run
from voxfleet.cluster.ledgers.sqlite import SqliteLedger
from voxfleet.cluster.results.publish import Publisher
from voxfleet.enrich.archives.archive import (
    AccessDenied,
    ArchiveError,
    NoSpace,
    NotThere,
    ReadBackDiffers,
    RetrieveError,
    SearchError,
    SearchUnanswered,
    SeriesEntry,
    SourceNotThere,
    StoreError,
    StoreRefused,
)
from voxfleet.enrich.archives.dicomweb.archive import DicomwebArchive
from voxfleet.enrich.archives.folder.archive import FolderArchive
from voxfleet.enrich.archives.http_session import Patience
from voxfleet.enrich.digest import dataset_digest
from voxfleet.runners.workitem import Outcome, State, Workitem

PATIENCE = Patience(connect_s=60.0, read_s=60.0, retries=2, backoff_s=0.01)
IMPATIENCE = Patience(connect_s=60.0, read_s=0.4, retries=2, backoff_s=0.01)
"""Where silence is the fault: beside a machine that is busy, others take longer than that to speak."""
BOUNDARY = "b0undary"
MakeSlices = Callable[..., list[Dataset]]
Answer = Callable[["_Handler"], None]
Expected = tuple[type[ArchiveError], bool, str]
"""Kind of error, whether it is retryable, and what it says."""


@dataclass
class Pacs:
    """A DICOMweb service of a few lines that keeps objects, and answers with faults in the order given."""

    url: str = ""
    held: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, list[Answer]] = field(default_factory=lambda: {"search": [], "retrieve": [], "store": []})
    seen: list[tuple[str, str | None]] = field(default_factory=list)
    """Kind of each request and its Authorization field."""
    over: threading.Event = field(default_factory=threading.Event)
    """Set when nobody waits for an answer any more: until then who is silent stays so."""

    def holds(self, *datasets: Dataset) -> None:
        """Put objects in without a request."""
        for dataset in datasets:
            file = BytesIO()
            pydicom.dcmwrite(file, dataset)
            self.held[dataset.SOPInstanceUID] = file.getvalue()

    def answers(self, kind: str, *faults: Answer) -> None:
        """Answer the next requests of a kind so, and the rest rightly."""
        self.faults[kind].extend(faults)

    def times(self, kind: str) -> int:
        """How many requests of a kind came."""
        return sum(each == kind for each, _ in self.seen)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    pacs: Pacs

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Say nothing."""

    def do_GET(self) -> None:
        self._answer("retrieve" if "/studies/" in self.path and "/instances?" not in self.path else "search")

    def do_POST(self) -> None:
        self.body = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer("store")

    def _answer(self, kind: str) -> None:
        self.pacs.seen.append((kind, self.headers["Authorization"]))
        queue = self.pacs.faults[kind]
        (queue.pop(0) if queue else getattr(_Handler, kind))(self)

    def reply(self, status: int, body: bytes = b"", content_type: str = "text/plain", **fields: str) -> None:
        """One whole answer."""
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        for name, value in fields.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def search(self) -> None:
        found: dict[str, list[Dataset]] = {}
        for each in self.objects():
            found.setdefault(each.SeriesInstanceUID, []).append(each)
        tell = [_match(each[0], len(each)) for each in found.values()]
        offset = int((re.search(r"offset=(\d+)", self.path) or ["", "0"])[1])
        self.reply(200, json.dumps(tell[offset:]).encode(), "application/dicom+json")

    def retrieve(self) -> None:
        instance = re.search(r"/instances/([\d.]+)", self.path)
        parts = [data for uid, data in self.pacs.held.items() if instance is None or uid == instance[1]]
        self.reply(200, multipart(parts), MULTIPART) if parts else self.reply(404)

    def store(self) -> None:
        self.keep()
        self.reply(200, json.dumps({"00081198": {"vr": "SQ", "Value": []}}).encode(), "application/dicom+json")

    def keep(self) -> None:
        dataset = pydicom.dcmread(BytesIO(self.body[self.body.index(b"\r\n\r\n") + 4 : self.body.rindex(b"\r\n--")]))
        self.pacs.holds(dataset)

    def objects(self) -> list[Dataset]:
        return [pydicom.dcmread(BytesIO(each)) for each in self.pacs.held.values()]


MULTIPART = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'


def multipart(parts: list[bytes]) -> bytes:
    """Objects as the body of an answer (RFC 2387)."""
    head = f"\r\n--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    return b"".join(head + each for each in parts) + f"\r\n--{BOUNDARY}--\r\n".encode()


def _match(dataset: Dataset, instances: int) -> dict[str, dict[str, object]]:
    return {
        "00080060": {"vr": "CS", "Value": [dataset.Modality]},
        "0020000D": {"vr": "UI", "Value": [dataset.StudyInstanceUID]},
        "0020000E": {"vr": "UI", "Value": [dataset.SeriesInstanceUID]},
        "00201209": {"vr": "IS", "Value": [instances]},
    }


def status(code: int, **fields: str) -> Answer:
    """Answer with a status code and no body."""
    return lambda handler: handler.reply(code, **fields)


def hang(handler: _Handler) -> None:
    """Answer nothing for longer than the client waits, however long both stand still."""
    handler.pacs.over.wait(200)


def hang_up(handler: _Handler) -> None:
    """Close the connection without an answer."""
    handler.close_connection = True


def cut(handler: _Handler) -> None:
    """Announce the whole answer, send half of it, close."""
    body = multipart(list(handler.pacs.held.values()))
    handler.send_response(200)
    handler.send_header("Content-Type", MULTIPART)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body[: len(body) // 2])
    handler.close_connection = True


def cut_unseen(handler: _Handler) -> None:
    """As Orthanc does, announce no length; send all but the last 4 kB, close."""
    handler.send_response(200)
    handler.send_header("Content-Type", MULTIPART)
    handler.send_header("Connection", "close")
    handler.end_headers()
    handler.wfile.write(multipart(list(handler.pacs.held.values()))[:-4096])
    handler.close_connection = True


def stall(handler: _Handler) -> None:
    """Begin an answer and fall silent in the middle."""
    body = multipart(list(handler.pacs.held.values()))
    handler.send_response(200)
    handler.send_header("Content-Type", MULTIPART)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body[:1000])
    handler.wfile.flush()
    handler.pacs.over.wait(200)
    handler.close_connection = True


def failed(code: int, reason: int) -> Answer:
    """Answer that the object failed, with a Failure Reason, as DICOM JSON."""
    item = {"00081197": {"vr": "US", "Value": [reason]}}
    body = json.dumps({"00081198": {"vr": "SQ", "Value": [item]}}).encode()
    return lambda handler: handler.reply(code, body, "application/dicom+json")


def failed_xml(code: int, reason: int) -> Answer:
    """Answer that the object failed, as DICOM XML (PS3.19 A.1)."""
    body = (
        '<NativeDicomModel xmlns="http://dicom.nema.org/PS3.19/models/NativeDICOM">'
        '<DicomAttribute tag="00081198" vr="SQ" keyword="FailedSOPSequence"><Item number="1">'
        '<DicomAttribute tag="00081197" vr="US" keyword="FailureReason">'
        f'<Value number="1">{reason}</Value></DicomAttribute></Item></DicomAttribute></NativeDicomModel>'
    ).encode()
    return lambda handler: handler.reply(code, body, "application/dicom+xml")


def change(handler: _Handler) -> None:
    """Store the object with another pixel value, and report success."""
    _Handler.store(handler)
    for dataset in handler.objects():
        dataset.PixelData = b"\1" + dataset.PixelData[1:]
        handler.pacs.holds(dataset)


def accept_and_drop(code: int) -> Answer:
    """Report success and keep nothing."""
    return lambda handler: handler.reply(code, b"{}", "application/dicom+json")


def stored_with(code: int, body: bytes, content_type: str) -> Answer:
    """Keep the object, and answer something else than DICOM JSON."""

    def answer(handler: _Handler) -> None:
        handler.keep()
        handler.reply(code, body, content_type)

    return answer


@pytest.fixture
def pacs() -> Iterator[Pacs]:
    """A service on a free port of 127.0.0.1 in threads of its own."""
    pacs = Pacs()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"pacs": pacs}))
    server.daemon_threads = True
    pacs.url = f"http://127.0.0.1:{server.server_address[1]}/dicom-web"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield pacs
    pacs.over.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def archive(pacs: Pacs, request: pytest.FixtureRequest) -> Iterator[DicomwebArchive]:
    """Our side; impatient where the fault of the test is silence."""
    fault = getattr(request.node, "callspec", None) and request.node.callspec.params.get("fault")
    archive = DicomwebArchive(pacs.url, IMPATIENCE if fault in (hang, stall) else PATIENCE)
    yield archive
    archive.close()


def _check(error: ArchiveError, expected: Expected) -> None:
    """An error of that kind and no other, in one line that names the archive and the reason."""
    kind, retryable, names = expected
    assert type(error) is kind
    assert error.retryable is retryable
    assert error.args[0] in str(error)
    assert names in str(error)
    assert "\n" not in str(error)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_the_service_keeps_the_contract(
    pacs: Pacs, archive: DicomwebArchive, ct_slices: MakeSlices, tmp_path: Path
) -> None:
    """Without faults the double searches, stores and gives back: the errors below come from the faults."""
    slices = ct_slices(2)
    assert [archive.store(each).already_there for each in slices] == [False, False]
    (entry,) = archive.search()
    assert entry == SeriesEntry(slices[0].StudyInstanceUID, slices[0].SeriesInstanceUID, "CT", 2)
    got = archive.retrieve(entry, tmp_path).instances
    assert {dataset_digest(pydicom.dcmread(each.path)) for each in got} == {dataset_digest(each) for each in slices}


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (status(401), (AccessDenied, False, "401")),
        (status(403), (AccessDenied, False, "VOXFLEET_DICOMWEB")),
        (status(404), (SourceNotThere, False, "404")),
        (status(400), (SearchError, False, "400")),
        (status(500), (SearchUnanswered, True, "500")),
        (lambda handler: handler.reply(200, b"<html>", "text/html"), (SearchError, False, "cannot be understood")),
        (hang, (SearchUnanswered, True, "no answer within 0.4 s")),
    ],
)
def test_search_faults(pacs: Pacs, archive: DicomwebArchive, fault: Answer, expected: Expected) -> None:
    """Each answer to a search that is none gives its own error."""
    pacs.answers("search", fault)
    with pytest.raises(ArchiveError) as caught:
        list(archive.search())
    _check(caught.value, expected)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (status(401), (AccessDenied, False, "401")),
        (status(403), (AccessDenied, False, "403")),
        (status(404), (NotThere, False, "404")),
        (status(409), (RetrieveError, True, "409")),
        (status(500), (RetrieveError, True, "500")),
        (hang, (RetrieveError, True, "no answer within 0.4 s")),
        (stall, (RetrieveError, True, "no answer within 0.4 s")),
        (cut, (RetrieveError, True, "broke in the middle")),
        (cut_unseen, (RetrieveError, True, "broke in the middle")),
        (lambda handler: handler.reply(200, b"<html>", "text/html"), (RetrieveError, True, "cannot be understood")),
        (lambda handler: handler.reply(200, multipart([b"no DICOM"]), MULTIPART), (RetrieveError, True, "understood")),
        (lambda handler: handler.reply(200, multipart([]), MULTIPART), (NotThere, False, "no instance")),
    ],
)
def test_retrieve_faults(
    pacs: Pacs,
    archive: DicomwebArchive,
    ct_slices: MakeSlices,
    tmp_path: Path,
    fault: Answer,
    expected: Expected,
) -> None:
    """Each answer that is no whole series gives its own error, which names the series."""
    slices = ct_slices(2)
    pacs.holds(*slices)
    pacs.answers("retrieve", fault)
    entry = SeriesEntry(slices[0].StudyInstanceUID, slices[0].SeriesInstanceUID, "CT", 2)
    with pytest.raises(ArchiveError, match=entry.series_instance_uid) as caught:
        archive.retrieve(entry, tmp_path)
    _check(caught.value, expected)
    assert len(DicomwebArchive(pacs.url, PATIENCE).retrieve(entry, tmp_path).instances) == 2


@pytest.mark.parametrize("keep", [1, 3])
def test_a_series_of_another_count(
    pacs: Pacs, archive: DicomwebArchive, ct_slices: MakeSlices, tmp_path: Path, keep: int
) -> None:
    """An archive that gives fewer or more instances than it told gave no series."""
    slices = ct_slices(3)
    pacs.holds(*slices[:keep])
    entry = SeriesEntry(slices[0].StudyInstanceUID, slices[0].SeriesInstanceUID, "CT", 2)
    with pytest.raises(RetrieveError, match=f"gave {keep} of 2"):
        archive.retrieve(entry, tmp_path)


def test_an_object_of_another_series(
    pacs: Pacs, archive: DicomwebArchive, ct_slices: MakeSlices, tmp_path: Path
) -> None:
    """An object of a series that was not asked for is an error, not a slice."""
    pacs.holds(*ct_slices(1))
    entry = SeriesEntry(generate_uid(), generate_uid(), "CT", 1)
    with pytest.raises(RetrieveError, match="gave an object of series"):
        archive.retrieve(entry, tmp_path)


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_an_object_that_names_a_path(
    pacs: Pacs, archive: DicomwebArchive, ct_slices: MakeSlices, tmp_path: Path
) -> None:
    """A SOP Instance UID that climbs out of the folder is refused, and nothing is written."""
    (dataset,) = ct_slices(1)
    dataset.SOPInstanceUID = "../../escape"
    pacs.holds(dataset)
    entry = SeriesEntry(dataset.StudyInstanceUID, dataset.SeriesInstanceUID, "CT", 1)
    with pytest.raises(RetrieveError, match="SOPInstanceUID"):
        archive.retrieve(entry, tmp_path / "a" / "b")
    assert [each for each in tmp_path.rglob("*") if each.is_file()] == []


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (status(401), (AccessDenied, False, "401")),
        (status(403), (AccessDenied, False, "403")),
        (status(400), (StoreRefused, False, "400")),
        (status(404), (StoreRefused, False, "404")),
        (status(409), (StoreRefused, False, "409")),
        (status(413), (StoreRefused, False, "413")),
        (status(500), (StoreError, True, "500")),
        (status(507), (NoSpace, False, "507")),
        (failed(409, 0x0122), (StoreRefused, False, "SOP class not supported (0122H)")),
        (failed_xml(409, 0x0122), (StoreRefused, False, "SOP class not supported (0122H)")),
        (failed(409, 0x0111), (StoreRefused, False, "duplicate SOP instance (0111H)")),
        (failed(409, 0xA700), (NoSpace, False, "out of resources (A700H)")),
        (failed(202, 0x0110), (StoreRefused, False, "processing failure (0110H)")),
        (failed(200, 0x0110), (StoreRefused, False, "processing failure (0110H)")),
        (failed(200, 0xA702), (NoSpace, False, "out of resources (A702H)")),
        (failed_xml(200, 0xC122), (StoreRefused, False, "transfer syntax not supported (C122H)")),
        (hang, (StoreError, True, "no answer within 0.4 s")),
        (accept_and_drop(200), (StoreError, True, "does not hold it")),
        (accept_and_drop(202), (StoreError, True, "does not hold it")),
        (change, (ReadBackDiffers, False, "another data set")),
    ],
)
def test_store_faults(
    pacs: Pacs,
    archive: DicomwebArchive,
    ct_slices: MakeSlices,
    fault: Answer,
    expected: Expected,
) -> None:
    """Each way not to store an object gives its own error, which names the object."""
    (dataset,) = ct_slices(1)
    pacs.answers("store", fault)
    with pytest.raises(ArchiveError, match=dataset.SOPInstanceUID) as caught:
        archive.store(dataset)
    _check(caught.value, expected)


@pytest.mark.parametrize(
    ("code", "body", "content_type"),
    [
        (200, b"", "text/plain"),
        (202, b"{}", "application/dicom+json"),
        (200, b"[{}]", "application/dicom+json"),
        (200, b"not JSON", "application/dicom+json"),
        (200, b"stored, thank you", "text/html"),
    ],
)
def test_only_what_comes_back_counts(
    pacs: Pacs, archive: DicomwebArchive, ct_slices: MakeSlices, code: int, body: bytes, content_type: str
) -> None:
    """An object that comes back equal is stored, however oddly the archive answered the store."""
    (dataset,) = ct_slices(1)
    pacs.answers("store", stored_with(code, body, content_type))
    assert archive.store(dataset).sha256 == dataset_digest(dataset)


@pytest.mark.parametrize("fault", [status(500), cut, cut_unseen, hang])
def test_reading_back_fails(pacs: Pacs, archive: DicomwebArchive, ct_slices: MakeSlices, fault: Answer) -> None:
    """Stored but not read back is not completed: an error that may pass, and the next try finds the object."""
    (dataset,) = ct_slices(1)

    def store(handler: _Handler) -> None:
        archive._patience = IMPATIENCE if fault is hang else PATIENCE  # from the reading back on
        _Handler.store(handler)

    archive._patience = PATIENCE
    pacs.answers("retrieve", _Handler.retrieve, fault)
    pacs.answers("store", store)
    with pytest.raises(StoreError) as caught:
        archive.store(dataset)
    assert caught.value.retryable
    archive._patience = PATIENCE
    assert archive.store(dataset).already_there


@pytest.mark.parametrize("code", [429, 502, 503, 504])
def test_a_busy_archive_is_asked_again(
    pacs: Pacs, archive: DicomwebArchive, ct_slices: MakeSlices, tmp_path: Path, code: int
) -> None:
    """Not now, then yes: every verb goes through without an error, also the object sent whole a second time."""
    (dataset,) = ct_slices(1)
    dataset.add_new(0x00091001, "OB", bytes(3_000_000))  # more than dicomweb-client's chunk, which cannot be sent twice
    for kind in ("search", "retrieve", "store"):
        pacs.answers(kind, status(code), status(code, Retry_After="0"))
    assert archive.store(dataset).sha256 == dataset_digest(dataset)
    (entry,) = archive.search()
    assert isinstance(entry, SeriesEntry)
    assert len(archive.retrieve(entry, tmp_path).instances) == 1
    assert pacs.times("store") == 3


def test_a_busy_archive_is_not_asked_for_ever(pacs: Pacs, archive: DicomwebArchive) -> None:
    """After the retries that patience allows, busy is an error that may pass."""
    pacs.answers("search", *[status(503)] * 10)
    with pytest.raises(SearchUnanswered, match="503") as caught:
        list(archive.search())
    assert caught.value.retryable
    assert pacs.times("search") == 1 + PATIENCE.retries


def test_a_broken_connection_is_tried_again(pacs: Pacs, archive: DicomwebArchive, ct_slices: MakeSlices) -> None:
    """A connection that breaks before an answer is taken up again, for asking and for storing."""
    (dataset,) = ct_slices(1)
    pacs.answers("search", hang_up)
    pacs.answers("store", hang_up)
    assert archive.store(dataset).sha256 == dataset_digest(dataset)
    assert len(list(archive.search())) == 1


@pytest.mark.parametrize("again", [_Handler.store, failed(409, 0x0111), failed(200, 0x0111), status(409)])
def test_a_lost_acknowledgement(pacs: Pacs, archive: DicomwebArchive, ct_slices: MakeSlices, again: Answer) -> None:
    """Kept, and the connection broke before the answer: sent again, and done also where that is refused as there."""
    (dataset,) = ct_slices(1)

    def keep_and_hang_up(handler: _Handler) -> None:
        handler.keep()
        handler.close_connection = True

    pacs.answers("store", keep_and_hang_up, again)
    assert archive.store(dataset).sha256 == dataset_digest(dataset)
    assert pacs.times("store") == 2
    assert set(pacs.held) == {dataset.SOPInstanceUID}


def test_silence_is_not_tried_again(pacs: Pacs) -> None:
    """An archive that hangs costs one waiting time, not one for each retry."""
    pacs.answers("search", hang, hang, hang)
    with pytest.raises(SearchUnanswered):
        list(DicomwebArchive(pacs.url, IMPATIENCE).search())
    assert pacs.times("search") == 1


def test_nobody_listens() -> None:
    """A port where nothing listens is an error that may pass."""
    archive = DicomwebArchive("http://127.0.0.1:9/dicom-web", PATIENCE)
    with pytest.raises(SearchUnanswered, match="no connection") as caught:
        list(archive.search())
    assert caught.value.retryable


def test_an_archive_without_paging(pacs: Pacs, archive: DicomwebArchive, ct_slices: MakeSlices) -> None:
    """An archive that gives all series whatever the offset is listed once, and the search ends."""
    pacs.holds(*ct_slices(1), *ct_slices(1))

    def everything(handler: _Handler) -> None:
        handler.path = handler.path.replace("offset=", "ignored=")
        _Handler.search(handler)

    pacs.answers("search", *[everything] * 5)
    assert len(list(archive.search())) == 2


def test_an_archive_that_does_not_count(pacs: Pacs, archive: DicomwebArchive, ct_slices: MakeSlices) -> None:
    """Where Number of Series Related Instances is absent, the instances are counted; UIDs that are none are refused."""
    slices = ct_slices(2)
    one, bad = _match(slices[0], 2), _match(slices[0], 2)
    del one["00201209"]
    bad["0020000E"]["Value"] = ["6fa459ea-ee8a"]
    instances = [{"00080018": {"vr": "UI", "Value": [each.SOPInstanceUID]}} for each in slices]
    for body in ([one, bad], [], instances, []):
        pacs.answers(
            "search", lambda handler, body=body: handler.reply(200, json.dumps(body).encode(), "application/json")
        )
    entry, refused = archive.search()
    assert isinstance(entry, SeriesEntry)
    assert entry.instances == 2
    assert (refused.identifier, refused.code) == ("6fa459ea-ee8a", "INVALID_UID")


@pytest.mark.parametrize(
    "case",
    [
        ({"USER": "user", "PASSWORD": "s3cret"}, "Basic dXNlcjpzM2NyZXQ="),  # RFC 7617: base64 of user:s3cret
        ({"TOKEN": "s3cret"}, "Bearer s3cret"),
        ({"TOKEN_FILE": "token"}, "Bearer s3cret"),
        ({"USER": "user", "PASSWORD": "s3cret", "HOST": "127.0.0.1"}, "Basic dXNlcjpzM2NyZXQ="),
        ({"TOKEN": "s3cret", "HOST": "other.example"}, None),
        ({}, None),
    ],
)
def test_credentials_reach_the_archive_and_nothing_else(
    pacs: Pacs,
    ct_slices: MakeSlices,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    case: tuple[dict[str, str], str | None],
) -> None:
    """Every request bears the credentials, meant for this host only; no log, error, URI or repr shows them."""
    caplog.set_level(logging.DEBUG)
    given, field = case
    (tmp_path / "token").write_text("s3cret\n")
    monkeypatch.setenv("NETRC", "/dev/null")
    for name, value in given.items():
        monkeypatch.setenv(f"VOXFLEET_DICOMWEB_{name}", str(tmp_path / value) if name == "TOKEN_FILE" else value)
    archive = DicomwebArchive(pacs.url, PATIENCE)
    stored = archive.store(ct_slices(1)[0])
    pacs.answers("search", status(401))
    with pytest.raises(AccessDenied) as caught:
        list(archive.search())
    assert {each for _, each in pacs.seen} == {field}
    shown = [caplog.text, str(caught.value), repr(caught.value), archive.uri, repr(stored), repr(vars(archive))]
    shown.append(repr(archive._session.auth))
    assert not any("s3cret" in each or "dXNlcjpzM2NyZXQ" in each for each in shown)


def test_a_token_that_is_replaced(pacs: Pacs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token file is read for each request: a token that was replaced while we run is used."""
    monkeypatch.setenv("VOXFLEET_DICOMWEB_TOKEN_FILE", str(tmp_path / "token"))
    archive = DicomwebArchive(pacs.url, PATIENCE)
    for token in ("one", "two"):
        (tmp_path / "token").write_text(token)
        list(archive.search())
    assert [each for _, each in pacs.seen] == ["Bearer one", "Bearer two"]


def test_netrc(pacs: Pacs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without variables the host's entry in .netrc is used; a bearer token goes before it."""
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login user password s3cret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    list(DicomwebArchive(pacs.url, PATIENCE).search())
    monkeypatch.setenv("VOXFLEET_DICOMWEB_TOKEN", "t0ken")
    list(DicomwebArchive(pacs.url, PATIENCE).search())
    assert [each for _, each in pacs.seen] == ["Basic dXNlcjpzM2NyZXQ=", "Bearer t0ken"]


@pytest.mark.orthanc
def test_a_real_archive_with_a_password(
    start_orthanc: Callable[..., object], ct_slices: MakeSlices, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Orthanc with a password: denied without it and with a wrong one, whole with the right one."""
    orthanc = start_orthanc(user="fleet", password="s3cret")
    url, denied = orthanc.url, []
    for password in ("", "wrong", "s3cret"):
        if password:
            monkeypatch.setenv("VOXFLEET_DICOMWEB_USER", "fleet")
            monkeypatch.setenv("VOXFLEET_DICOMWEB_PASSWORD", password)
        try:
            assert list(DicomwebArchive(url, PATIENCE).search()) == []
        except AccessDenied as exc:
            denied.append(str(exc))
    assert len(denied) == 2
    assert all("401" in each and "wrong" not in each for each in denied)
    assert not DicomwebArchive(url, PATIENCE).store(ct_slices(1)[0]).already_there


@pytest.fixture
def staged(ct_slices: MakeSlices, tmp_path: Path) -> tuple[Ledger, FolderArchive, list[Dataset]]:
    """A run that left three objects in a staging folder, and its ledger."""
    staging = FolderArchive(tmp_path / "staging")
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    ledger.create_run(Run("r", "dir:/in", staging.uri, ("m 1",), {}, "0", "local", datetime.now(UTC)))
    objects = [dataset for _ in range(3) for dataset in ct_slices(1)]
    for number, dataset in enumerate(objects):
        work = Workitem(dataset.StudyInstanceUID, f"1.2.{number}", "CT", 1, "dir:/in", staging.uri, "m", "1", "none")
        ledger.add([work])
        (lease,) = ledger.lease("o", 1)
        ledger.finish(lease, Outcome(work.key, State.COMPLETED, stored=(staging.store(dataset),)))
    return ledger, staging, objects


def test_what_changed_in_the_staging_store_is_not_published(
    pacs: Pacs, archive: DicomwebArchive, staged: tuple[Ledger, FolderArchive, list[Dataset]], tmp_path: Path
) -> None:
    """Only what the run stored goes on: an object that was edited or cut in between is rejected and not sent."""
    ledger, staging, objects = staged
    edited, cut = (
        next((tmp_path / "staging").rglob(f"{each.SOPInstanceUID}.dcm")) for each in (objects[0], objects[1])
    )
    dataset = pydicom.dcmread(edited)
    dataset.PatientID = "another"
    dataset.save_as(edited)
    cut.write_bytes(cut.read_bytes()[:-7])
    Publisher(ledger, staging, archive, 1000.0).work(threading.Event(), lambda: None)
    assert ledger.publication() == Publication(0, 1, 2)
    assert set(pacs.held) == {objects[2].SOPInstanceUID}


@pytest.mark.parametrize("code", [429, 503])
def test_publishing_waits_for_an_archive_that_sleeps(
    pacs: Pacs, archive: DicomwebArchive, staged: tuple[Ledger, FolderArchive, list[Dataset]], code: int
) -> None:
    """Busy beyond a store's own retries, then awake: every object arrives, once, and is noted with where it is."""
    ledger, staging, objects = staged
    pacs.answers("store", *[status(code)] * 7)
    Publisher(ledger, staging, archive, per_s=1000).work(threading.Event(), lambda: None)
    assert ledger.publication() == Publication(published=3)
    held = {uid: dataset_digest(pydicom.dcmread(BytesIO(data))) for uid, data in pacs.held.items()}
    assert held == {each.SOPInstanceUID: dataset_digest(each) for each in objects}
    assert pacs.times("store") == 3 + 7


def test_publishing_goes_on_past_an_object_that_always_fails(
    pacs: Pacs,
    archive: DicomwebArchive,
    staged: tuple[Ledger, FolderArchive, list[Dataset]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """500 for the first object and never for another: those arrive; it is tried five times more, told, and kept."""
    monkeypatch.setattr("voxfleet.cluster.results.delays.PAUSES_S", (0.01,) * 4)
    monkeypatch.setattr("voxfleet.cluster.results.delays.SHORTEST_PAUSE_S", 0.01)
    ledger, staging, _ = staged
    (first,) = ledger.backlog(1)
    bad = first.object.sop_instance_uid

    def stumble(handler: _Handler) -> None:
        handler.reply(500) if bad.encode() in handler.body else _Handler.store(handler)

    pacs.answers("store", *[stumble] * 1000)
    left = Publisher(ledger, staging, archive, per_s=1000).work(threading.Event(), lambda: None)
    assert left.keys() == {bad}
    assert "STORE_FAILED" in left[bad]
    assert "500" in left[bad]
    assert ledger.publication() == Publication(waiting=1, published=2)
    assert pacs.times("store") == 2 + 1 + 5


def test_publishing_waits_for_an_archive_that_takes_nothing(
    pacs: Pacs,
    archive: DicomwebArchive,
    staged: tuple[Ledger, FolderArchive, list[Dataset]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All fail, ten times each: it is the archive, none is left for it, and all arrive when it is back."""
    monkeypatch.setattr("voxfleet.cluster.results.delays.LONGEST_PAUSE_S", 0.01)
    ledger, staging, _ = staged
    pacs.answers("store", *[status(500)] * 30)
    assert Publisher(ledger, staging, archive, per_s=1000).work(threading.Event(), lambda: None) == {}
    assert ledger.publication() == Publication(published=3)
    assert pacs.times("store") == 30 + 3


def test_publishing_goes_on_after_what_an_archive_refuses(
    pacs: Pacs, archive: DicomwebArchive, staged: tuple[Ledger, FolderArchive, list[Dataset]]
) -> None:
    """A refused object is rejected with the reason, the others arrive; asked to, it is tried again."""
    ledger, staging, _ = staged
    pacs.answers("store", failed(409, 0x0122))
    publisher = Publisher(ledger, staging, archive, per_s=1000)
    publisher.work(threading.Event(), lambda: None)
    assert ledger.publication() == Publication(published=2, rejected=1)
    assert ledger.publish_again() == 1
    publisher.work(threading.Event(), lambda: None)
    assert ledger.publication() == Publication(published=3)


def test_publishing_waits_for_a_staging_store_that_is_away(
    archive: DicomwebArchive,
    staged: tuple[Ledger, FolderArchive, list[Dataset]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That it does not answer says nothing of the object: none is rejected, and all arrive once it is back."""
    ledger, staging, _ = staged
    retrieve, silent = FolderArchive.retrieve, iter(range(2))

    def away_twice(self: FolderArchive, entry: SeriesEntry, folder: Path) -> object:
        if next(silent, None) is None:
            return retrieve(self, entry, folder)
        raise RetrieveError(self.uri, "1.2.3", "no answer") from requests.ConnectionError()

    monkeypatch.setattr(FolderArchive, "retrieve", away_twice)
    monkeypatch.setattr("voxfleet.cluster.results.delays.SHORTEST_PAUSE_S", 0.01)
    Publisher(ledger, staging, archive, per_s=1000).work(threading.Event(), lambda: None)
    assert ledger.publication() == Publication(published=3)


def test_publishing_ends_where_the_door_is_shut(
    pacs: Pacs, archive: DicomwebArchive, staged: tuple[Ledger, FolderArchive, list[Dataset]]
) -> None:
    """No access is no fault of the object: an error, and all of it waits for the next time."""
    ledger, staging, _ = staged
    pacs.answers("store", status(403))
    with pytest.raises(AccessDenied, match="403"):
        Publisher(ledger, staging, archive, per_s=1000).work(threading.Event(), lambda: None)
    assert ledger.publication() == Publication(waiting=3)


def test_publishing_can_be_stopped_while_it_waits(
    pacs: Pacs, archive: DicomwebArchive, staged: tuple[Ledger, FolderArchive, list[Dataset]]
) -> None:
    """Stopped between two tries, or between two objects, it ends at once and without an error."""
    ledger, staging, _ = staged
    pacs.answers("store", *[status(503)] * 1000)
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    begun = time.monotonic()
    Publisher(ledger, staging, archive, per_s=1000).work(stop, lambda: None)
    assert time.monotonic() - begun < 20
    assert ledger.publication() == Publication(waiting=3)
    Publisher(ledger, staging, archive, per_s=0.001).work(stop, lambda: None)
    assert ledger.publication() == Publication(waiting=3)


def test_publishing_keeps_the_rate(
    pacs: Pacs, archive: DicomwebArchive, staged: tuple[Ledger, FolderArchive, list[Dataset]]
) -> None:
    """Three objects at four a second take at least half a second."""
    ledger, staging, _ = staged
    begun = time.monotonic()
    Publisher(ledger, staging, archive, per_s=4).work(threading.Event(), lambda: None)
    assert time.monotonic() - begun >= 0.5
    assert pacs.times("store") == 3
