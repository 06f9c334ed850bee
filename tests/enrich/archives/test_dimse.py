"""A DICOM node as an archive: what only DIMSE has, against Orthanc, dcmtk's dcmqrscp and nodes that misbehave."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pydicom
import pytest
from pydicom import Dataset
from pydicom.data import get_testdata_file
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian
from pynetdicom import AE, build_context, evt, transport
from pynetdicom.dimse_primitives import C_FIND
from pynetdicom.sop_class import (
    CTImageStorage,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)
from voxfleet.enrich.archives.address import BadArchiveUri
from voxfleet.enrich.archives.archive import (
    AccessDenied,
    Archive,
    NoSpace,
    RetrieveError,
    SearchError,
    SearchUnanswered,
    SeriesEntry,
    StoreError,
    StoreRefused,
)
from voxfleet.enrich.archives.dimse.address import Listener, parse_address
from voxfleet.enrich.archives.dimse.archive import DimseArchive
from voxfleet.enrich.archives.dimse.association import associate
from voxfleet.enrich.archives.http_session import Patience
from voxfleet.enrich.archives.opening import open_archive
from voxfleet.enrich.digest import dataset_digest

MakeSlices = Callable[..., list[Dataset]]
SHORT = Patience(connect_s=2.0, read_s=1.0, retries=0)
CLASSES = (
    Verification,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    CTImageStorage,
)


@contextmanager
def node(*handlers: tuple[evt.EventType, Callable], title: str = "NODE", **rules: object) -> Iterator[str]:
    """Run a node of pynetdicom on loopback with the handlers given; gives its address."""
    entity = AE(title)
    for each in CLASSES:
        entity.add_supported_context(each, [ExplicitVRLittleEndian], scu_role=True, scp_role=True)
    for name, value in rules.items():
        setattr(entity, name, value)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=list(handlers))
    try:
        yield f"dimse://NODE@127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()


def finds(*matches: dict[str, str]) -> tuple[evt.EventType, Callable]:
    """Answer every C-FIND with the matches given."""

    def answer(event: evt.Event) -> Iterator[tuple[int, Dataset]]:
        for match in matches:
            found = Dataset()
            for keyword, value in match.items():
                setattr(found, keyword, value)
            yield 0xFF00, found

    return evt.EVT_C_FIND, answer


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("dimse://127.0.0.1:104", "dimse://AET@HOST:PORT"),
        ("dimse://NODE@127.0.0.1", "dimse://AET@HOST:PORT"),
        ("dimse://NODE@127.0.0.1:99999", "port"),
        ("dimse://NODE:s3cret@127.0.0.1:104", "password"),
        ("dimse://NODE@127.0.0.1:104/studies", "path"),
        ("dimse://NODE@127.0.0.1:104?user=x", "unknown option 'user'"),
        ("dimse://AN-AET-OF-17-CHAR@127.0.0.1:104", "PS3.5 6.2"),
        ("dimse://NODE@127.0.0.1:104?move=port", r"\[HOST:\]PORT"),
        ("dimse://NODE@127.0.0.1:104?commit=0", r"\[HOST:\]PORT"),
    ],
)
def test_what_is_no_address(uri: str, told: str) -> None:
    """An address that lacks a part, breaks a rule or holds a password is refused, and the password is not told."""
    with pytest.raises(BadArchiveUri, match=told) as caught:
        open_archive(uri)
    assert "s3cret" not in str(caught.value)


def test_our_title_and_listeners(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our title comes from the address, else the environment; listeners are on loopback unless a host is named."""
    monkeypatch.setenv("VOXFLEET_DIMSE_AET", "WARD7")
    plain = parse_address("dimse://NODE@pacs:104?move=11112&commit=10.0.0.5:11113")
    assert (plain.called_aet, plain.host, plain.port, plain.calling_aet) == ("NODE", "pacs", 104, "WARD7")
    assert (plain.move_to, plain.commit_to) == (Listener("127.0.0.1", 11112), Listener("10.0.0.5", 11113))
    named = parse_address("dimse://NODE@pacs:104?aet=NIGHT")
    assert (named.calling_aet, named.uri) == ("NIGHT", "dimse://NODE@pacs:104?aet=NIGHT")


def test_no_node_there() -> None:
    """Nobody listening is an error that may pass."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(SearchUnanswered, match="no association"):
        DimseArchive(f"dimse://NODE@127.0.0.1:{port}", SHORT).probe()


def test_a_node_that_says_nothing() -> None:
    """A port that accepts and then is silent is given up after the time-out."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        archive = DimseArchive(f"dimse://NODE@127.0.0.1:{mute.getsockname()[1]}", SHORT)
        with pytest.raises(SearchUnanswered, match="within 2 s"):
            archive.probe()


@pytest.mark.parametrize("rule", [{"require_calling_aet": ["OTHER"]}, {"require_called_aet": True, "title": "OTHER"}])
def test_a_title_that_is_not_known(rule: dict) -> None:
    """A node that knows our title or its own not under that name denies access, and the message names both."""
    with node(**rule) as uri, pytest.raises(AccessDenied, match=r"AE title not recognised.*VOXFLEET calling NODE"):
        DimseArchive(uri, SHORT).probe()


def test_a_rejection_quicker_than_we_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that a rejection closed before we looked whether it was made is told as the rejection."""

    class Late(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            done = super().wait(timeout)
            time.sleep(0.3)
            return done

    monkeypatch.setattr(transport, "threading", SimpleNamespace(Event=Late))
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as other:

        def reject() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(b"\x03\0\0\0\0\4\0\1\1\7")  # permanent, called title (PS3.8 9.3.4)

        other.submit(reject)
        uri = f"dimse://NODE@127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(AccessDenied, match="Called AE title not recognised"):
            DimseArchive(uri, SHORT).probe()


@pytest.mark.parametrize(
    ("status", "error", "told"),
    [
        (0xA700, NoSpace, "out of resources .A700H."),
        (0x0122, StoreRefused, "SOP class not supported"),
        (0xC000, StoreRefused, "C000H"),
        (0x0124, AccessDenied, "not authorised"),
        (0x0110, StoreError, "processing failure"),
    ],
)
def test_what_a_node_says_to_a_store(ct_slices: MakeSlices, status: int, error: type[Exception], told: str) -> None:
    """A failure status (PS3.4 B.2.3, PS3.7 C) becomes the error that says whether sending again helps."""
    with node(finds(), (evt.EVT_C_STORE, lambda event: status)) as uri, pytest.raises(error, match=told) as caught:
        DimseArchive(uri, SHORT).store(ct_slices(1)[0])
    assert caught.value.retryable == (status == 0x0110)


def test_a_node_that_drops_what_it_took(ct_slices: MakeSlices) -> None:
    """Success for an object that is not there afterwards is an error."""
    with (
        node(finds(), (evt.EVT_C_STORE, lambda event: 0)) as uri,
        pytest.raises(StoreError, match="does not hold it"),
    ):
        DimseArchive(uri, SHORT).store(ct_slices(1)[0])


def test_a_node_that_breaks_off_a_store(ct_slices: MakeSlices) -> None:
    """An association aborted in the middle of a store is an error that may pass."""

    def abort(event: evt.Event) -> int:
        event.assoc.abort()
        return 0

    with (
        node(finds(), (evt.EVT_C_STORE, abort)) as uri,
        pytest.raises(StoreError, match="association broke") as caught,
    ):
        DimseArchive(uri, SHORT).store(ct_slices(1)[0])
    assert caught.value.retryable


def test_a_search_that_fails() -> None:
    """A C-FIND that the node refuses is an error with its status."""

    def refuse(event: evt.Event) -> Iterator[tuple[int, None]]:
        yield 0xA900, None

    with node((evt.EVT_C_FIND, refuse)) as uri, pytest.raises(SearchError, match="A900H"):
        list(DimseArchive(uri, SHORT).search())


def test_a_response_waits_for_who_asked() -> None:
    """The association's own thread, which looks for requests every millisecond, leaves a response in the queue."""
    response = C_FIND()
    response.MessageIDBeingRespondedTo, response.Status = 1, 0xFF00
    find = build_context(StudyRootQueryRetrieveInformationModelFind)
    with node() as uri, associate(parse_address(uri), SHORT, [find]) as association:
        association.dimse.msg_queue.put((1, response))
        time.sleep(0.1)
        assert association.dimse.get_msg(block=False) == (1, response)


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_series_without_usable_uid() -> None:
    """A series whose UID is a path is reported and not given as an entry."""
    match = {"StudyInstanceUID": "1.2", "SeriesInstanceUID": "../escape", "Modality": "CT"}
    with node(finds(match)) as uri:
        (found,) = DimseArchive(uri, SHORT).search()
    assert (found.code, found.identifier) == ("INVALID_UID", "../escape")


def gives(dataset: Dataset, count: int = 1) -> tuple[evt.EventType, Callable]:
    """Answer every C-GET with one object, and say that there are `count`."""

    def answer(event: evt.Event) -> Iterator:
        yield count
        yield 0xFF00, dataset

    return evt.EVT_C_GET, answer


@pytest.mark.parametrize("change", ["SeriesInstanceUID", "SOPInstanceUID"])
@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_a_node_that_gives_another_object(ct_slices: MakeSlices, tmp_path: Path, change: str) -> None:
    """An object of another series, or one named by a path, is an error, and nothing is written outside."""
    (dataset,) = ct_slices(1)
    entry = SeriesEntry(dataset.StudyInstanceUID, dataset.SeriesInstanceUID, "CT", 1)
    found = finds({"SOPInstanceUID": dataset.SOPInstanceUID, "SOPClassUID": dataset.SOPClassUID})
    setattr(dataset, change, "1.2.3" if change == "SeriesInstanceUID" else "../../escape")
    with node(found, gives(dataset)) as uri, pytest.raises(RetrieveError):
        DimseArchive(uri, SHORT).retrieve(entry, tmp_path / "a" / "into")
    assert list(tmp_path.rglob("*escape*")) == []


def test_a_port_that_another_program_has(ct_slices: MakeSlices, tmp_path: Path) -> None:
    """Where our port for C-MOVE stays taken, waiting ends with an error that names it."""
    (dataset,) = ct_slices(1)
    entry = SeriesEntry(dataset.StudyInstanceUID, dataset.SeriesInstanceUID, "CT", 1)
    found = finds({"SOPInstanceUID": dataset.SOPInstanceUID, "SOPClassUID": dataset.SOPClassUID})
    with socket.create_server(("127.0.0.1", 0)) as taken, node(found) as uri:
        port = taken.getsockname()[1]
        with pytest.raises(RetrieveError, match=f"cannot listen on 127.0.0.1:{port}") as caught:
            DimseArchive(f"{uri}?move={port}", SHORT).retrieve(entry, tmp_path)
    assert caught.value.retryable


@pytest.mark.orthanc
def test_two_readers_share_a_port(orthanc, ct_slices: MakeSlices, tmp_path: Path) -> None:
    """Two that read by C-MOVE to one port at the same time wait for each other, and both get their series."""
    uri = f"{orthanc.dimse_uri}?move={orthanc.callback_port}"
    made = [ct_slices(2), ct_slices(2)]
    for each in (dataset for slices in made for dataset in slices):
        open_archive(orthanc.dimse_uri).store(each)
    entries = [each for each in open_archive(uri).search() if isinstance(each, SeriesEntry)]

    def read(entry: SeriesEntry) -> int:
        return len(open_archive(uri).retrieve(entry, tmp_path / entry.series_instance_uid).instances)

    with ThreadPoolExecutor(2) as readers:
        assert list(readers.map(read, entries)) == [2, 2]


@pytest.mark.orthanc
def test_commitment_of_a_real_archive(orthanc, ct_slices: MakeSlices) -> None:
    """Orthanc reports on an association of its own that it keeps the object."""
    archive = open_archive(f"{orthanc.dimse_uri}?commit={orthanc.callback_port}")
    (dataset,) = ct_slices(1)
    assert archive.store(dataset).sha256 == dataset_digest(dataset)


@pytest.mark.orthanc
def test_commitment_that_cannot_be_had(dcmqrscp, ct_slices: MakeSlices) -> None:
    """Asking for commitment where the node has none is an error that says so."""
    archive = DimseArchive(f"{dcmqrscp.uri}?commit={dcmqrscp.callback_port}", SHORT)
    with pytest.raises(StoreRefused, match="presentation context"):
        archive.store(ct_slices(1)[0])


@pytest.mark.orthanc
def test_a_report_that_never_comes(orthanc, ct_slices: MakeSlices) -> None:
    """Where the node knows another port of ours than we listen on, waiting ends with an error."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        other = free.getsockname()[1]
    archive = DimseArchive(f"{orthanc.dimse_uri}?commit={other}", SHORT)
    with pytest.raises(StoreError, match="no report"):
        archive.store(ct_slices(1)[0])


@pytest.mark.orthanc
def test_dcmqrscp_by_c_move(dcmqrscp, ct_slices: MakeSlices, tmp_path: Path) -> None:
    """Dcmtk's archive sends by C-MOVE to our port what it was given."""
    archive: Archive = open_archive(f"{dcmqrscp.uri}?move=localhost:{dcmqrscp.callback_port}")
    slices = ct_slices(2)
    for each in slices:
        archive.store(each)
    (entry,) = archive.search()
    assert isinstance(entry, SeriesEntry)
    back = archive.retrieve(entry, tmp_path / "into").instances
    found = {each.sop_instance_uid: dataset_digest(pydicom.dcmread(each.path)) for each in back}
    assert found == {each.SOPInstanceUID: dataset_digest(each) for each in slices}


@pytest.mark.orthanc
def test_what_a_node_does_not_take_as_it_is(dcmqrscp, ct_slices: MakeSlices) -> None:
    """Deflated becomes plain, for the data set stays equal; RLE and big endian are refused, for it would not."""
    archive = open_archive(dcmqrscp.uri)
    (deflated,) = ct_slices(1)
    deflated.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    assert archive.store(deflated).sha256 == dataset_digest(deflated)
    rle = pydicom.dcmread(get_testdata_file("MR_small_RLE.dcm"))
    assert UID(rle.file_meta.TransferSyntaxUID).is_encapsulated
    with pytest.raises(StoreRefused, match="VOXFLEET calling NODE"):
        archive.store(rle)
