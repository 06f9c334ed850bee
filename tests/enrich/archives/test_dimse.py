"""A DICOM node as an archive: what only DIMSE has, against Orthanc, dcmtk's dcmqrscp and nodes that misbehave."""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Queue
from types import SimpleNamespace

import pydicom
import pytest
from pydicom import Dataset
from pydicom.data import get_testdata_file
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian
from pynetdicom import AE, build_context, evt, transport
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_primitives import C_FIND, N_EVENT_REPORT
from pynetdicom.pdu import A_ASSOCIATE_AC, P_DATA_TF
from pynetdicom.sop_class import (
    CTImageStorage,
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)
from voxfleet.benchmarks.performance.ports import free_port
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
from voxfleet.enrich.archives.dimse import association as associations
from voxfleet.enrich.archives.dimse import query, send
from voxfleet.enrich.archives.dimse.address import Listener, parse_address
from voxfleet.enrich.archives.dimse.archive import DimseArchive
from voxfleet.enrich.archives.dimse.association import _keep_order, associate, listen
from voxfleet.enrich.archives.dimse.connection import Traffic
from voxfleet.enrich.archives.dimse.errors import DimseFault, FaultKind, check_status
from voxfleet.enrich.archives.dimse.send import commit
from voxfleet.enrich.archives.http_session import Patience
from voxfleet.enrich.archives.opening import open_archive
from voxfleet.enrich.archives.uids import ObjectUids, object_uids
from voxfleet.enrich.digest import dataset_digest

MakeSlices = Callable[..., list[Dataset]]
SHORT = Patience(connect_s=2.0, read_s=1.0, retries=0)
PATIENT = Patience(connect_s=60.0, read_s=60.0, retries=0)
SILENT = Patience(connect_s=60.0, read_s=1.0, retries=0)
"""Where the node answers at first, and is silent afterwards."""
CLASSES = (
    Verification,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    CTImageStorage,
    StorageCommitmentPushModel,
)
COMMITMENT = (StorageCommitmentPushModel, StorageCommitmentPushModelInstance)


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


@pytest.mark.parametrize(("host", "told"), [("127.0.0.1", "refuses it"), ("no-node.invalid", "has no address here")])
def test_no_node_there(host: str, told: str) -> None:
    """Nobody listening, or a name that nobody has (RFC 6761), is an error that may pass, and says which it is."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # without listening: nobody else gets the port meanwhile
        with pytest.raises(SearchUnanswered, match=told):
            DimseArchive(f"dimse://NODE@{host}:{taken.getsockname()[1]}", PATIENT).probe()


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
        DimseArchive(uri, PATIENT).probe()


@pytest.mark.parametrize(
    ("answer", "error", "told"),
    [
        (b"\x03\0\0\0\0\4\0\1\1\7", AccessDenied, "Called AE title not recognised"),  # permanent (PS3.8 9.3.4)
        (b"\x07\0\0\0\0\4\0\0\0\0", SearchUnanswered, "aborted our request"),  # PS3.8 9.3.8
        (b"", SearchUnanswered, "closed the connection"),
    ],
)
def test_an_answer_quicker_than_we_look(
    monkeypatch: pytest.MonkeyPatch, answer: bytes, error: type[Exception], told: str
) -> None:
    """A connection that its answer closed before we looked whether it was made is told as that answer."""

    class Late(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            done = super().wait(timeout)
            time.sleep(0.3)
            return done

    monkeypatch.setattr(transport, "threading", SimpleNamespace(Event=Late))
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as other:

        def reply() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(answer)

        other.submit(reply)
        uri = f"dimse://NODE@127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(error, match=told):
            DimseArchive(uri, PATIENT).probe()


def aborts_what_it_accepted(stands: threading.Event) -> tuple[evt.EventType, Callable]:
    """Abort every association after it was told that it is accepted, and once `stands` is set."""

    def abort(event: evt.Event) -> None:
        if isinstance(event.pdu, A_ASSOCIATE_AC):
            stands.wait(100)
            event.assoc.abort()

    return evt.EVT_PDU_SENT, abort


def ended(association: Association, stands: threading.Event) -> Association:
    """Let the node abort, and wait until an association's own thread has seen its end."""
    stands.set()
    association.join(60)
    assert not association.is_established
    return association


def test_a_node_that_breaks_off_what_it_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether we look before or after, it may pass: the node did take our presentation contexts."""
    with node(aborts_what_it_accepted(stands := threading.Event())) as uri:
        address, contexts = parse_address(uri), [build_context(Verification)]
        with pytest.raises(DimseFault, match="broke off") as late, associate(address, PATIENT, contexts) as association:
            ended(association, stands).send_c_echo()
        begin = AE.associate
        monkeypatch.setattr(AE, "associate", lambda *args, **options: ended(begin(*args, **options), stands))
        with pytest.raises(DimseFault, match="broke it off") as early, associate(address, PATIENT, contexts):
            pytest.fail("it stands")
    assert (late.value.kind, early.value.kind) == (FaultKind.PASSING, FaultKind.PASSING)


def test_a_release_of_what_has_ended() -> None:
    """Whoever releases as the association's own thread takes the node's abort does not wait for an answer."""
    with (
        node(aborts_what_it_accepted(stands := threading.Event())) as uri,
        associate(parse_address(uri), PATIENT, [build_context(Verification)]) as association,
    ):
        ended(association, stands)
        begun_s = time.monotonic()
        association.acse.negotiate_release()
        assert time.monotonic() - begun_s < PATIENT.connect_s


def test_a_node_that_falls_silent_within_a_pdu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a PDU and then nothing is given up after the time-out, though a thread of pynetdicom reads on."""
    over, make = threading.Event(), associations._entity

    def made(title: str, patience: Patience) -> AE:
        entity = make(title, patience)
        entity.network_timeout = PATIENT.read_s  # else nothing may come for a second before we ask, too
        return entity

    monkeypatch.setattr(associations, "_entity", made)

    def halve(event: evt.Event) -> int:
        event.assoc.dul.socket.socket.sendall(b"\x04\0\0\0\1\0half")
        over.wait(100)
        return 0

    with node((evt.EVT_C_ECHO, halve)) as uri:
        try:
            with pytest.raises(SearchUnanswered, match="no answer within 1 s"):
                DimseArchive(uri, SILENT).probe()
        finally:
            over.set()


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
        DimseArchive(uri, PATIENT).store(ct_slices(1)[0])
    assert caught.value.retryable == (status == 0x0110)


@pytest.mark.parametrize(("verb", "kind"), [("C-MOVE", FaultKind.PASSING), ("C-FIND", FaultKind.LASTING)])
def test_a_retrieval_that_a_node_cannot_process(verb: str, kind: FaultKind) -> None:
    """That an object did not reach us is no word against it: Orthanc says C000H where we were slow to take it."""
    status = Dataset()
    status.Status = 0xC000
    with pytest.raises(DimseFault, match="C000H") as caught:
        check_status(status, verb, "silence")
    assert caught.value.kind is kind


def test_a_node_that_drops_what_it_took(ct_slices: MakeSlices) -> None:
    """Success for an object that is not there afterwards is an error."""
    with (
        node(finds(), (evt.EVT_C_STORE, lambda event: 0)) as uri,
        pytest.raises(StoreError, match="does not hold it"),
    ):
        DimseArchive(uri, PATIENT).store(ct_slices(1)[0])


def test_a_node_that_breaks_off_a_store(ct_slices: MakeSlices) -> None:
    """An association aborted in the middle of a store is an error that may pass."""

    def abort(event: evt.Event) -> int:
        event.assoc.abort()
        return 0

    with (
        node(finds(), (evt.EVT_C_STORE, abort)) as uri,
        pytest.raises(StoreError, match="association broke") as caught,
    ):
        DimseArchive(uri, PATIENT).store(ct_slices(1)[0])
    assert caught.value.retryable


def test_a_search_that_fails() -> None:
    """A C-FIND that the node refuses is an error with its status."""

    def refuse(event: evt.Event) -> Iterator[tuple[int, None]]:
        yield 0xA900, None

    with node((evt.EVT_C_FIND, refuse)) as uri, pytest.raises(SearchError, match="A900H"):
        list(DimseArchive(uri, PATIENT).search())


def test_a_response_waits_for_who_asked() -> None:
    """The association's own thread, which looks for requests every millisecond, leaves all else in the queue."""
    response = C_FIND()
    response.MessageIDBeingRespondedTo, response.Status = 1, 0xFF00
    looked = threading.Event()

    class Meanwhile(deque):
        """Gets the response as soon as that thread has seen that it is empty."""

        def __len__(self) -> int:
            count = super().__len__()
            if threading.current_thread() is association and not looked.is_set():
                self.append((1, response))
                looked.set()
            return count

    find = build_context(StudyRootQueryRetrieveInformationModelFind)
    with node() as uri, associate(parse_address(uri), PATIENT, [find]) as association:
        association.dimse.msg_queue.queue = Meanwhile()
        assert looked.wait(60)
        association.dimse.msg_queue.put((None, None))  # pynetdicom's word for an end
        time.sleep(0.1)
        assert list(association.dimse.msg_queue.queue) == [(1, response), (None, None)]
        assert association.dimse.get_msg(block=False) == (1, response)


def test_a_report_is_answered_before_we_release(monkeypatch: pytest.MonkeyPatch, ct_slices: MakeSlices) -> None:
    """A node that reports on our own association gets its answer, however late that is sent."""
    send_msg, asked, answers = DIMSEServiceProvider.send_msg, Queue[Dataset](), Queue[Dataset]()

    def late(provider: DIMSEServiceProvider, primitive: object, context_id: int) -> None:
        if isinstance(primitive, N_EVENT_REPORT) and provider.assoc.is_requestor:  # ours
            time.sleep(0.3)
        send_msg(provider, primitive, context_id)

    def report(association: Association) -> None:
        _keep_order(association, Traffic(), PATIENT)
        answers.put(association.send_n_event_report(asked.get(), 1, *COMMITMENT)[0])

    def act(event: evt.Event) -> tuple[int, None]:
        asked.put(event.action_information)
        return 0, None

    def go_on(event: evt.Event) -> None:
        if isinstance(event.pdu, P_DATA_TF) and not asked.empty():
            threading.Thread(target=report, args=(event.assoc,)).start()

    monkeypatch.setattr(DIMSEServiceProvider, "send_msg", late)
    uids = object_uids(ct_slices(1)[0])
    assert isinstance(uids, ObjectUids)
    handlers = ((evt.EVT_N_ACTION, act), (evt.EVT_PDU_SENT, go_on))
    with node(*handlers) as uri:
        commit(parse_address(f"{uri}?commit={free_port()}"), PATIENT, uids)
        assert answers.get(timeout=60).Status == 0


def test_nothing_is_written_after_a_conversation_that_failed(ct_slices: MakeSlices) -> None:
    """What a node sends to our port is dealt with before an error leaves the block that listens."""
    begun, kept = threading.Event(), list[str]()

    def keep(event: evt.Event) -> int:
        begun.set()
        time.sleep(0.3)
        kept.append(event.request.AffectedSOPInstanceUID)
        return 0

    (dataset,) = ct_slices(1)
    address, contexts = parse_address("dimse://NODE@127.0.0.1:104"), [build_context(CTImageStorage)]
    sender, port = AE("NODE"), free_port()
    with ThreadPoolExecutor(1) as other:
        listening = listen(address, Listener("127.0.0.1", port), PATIENT, contexts, [(evt.EVT_C_STORE, keep)])
        with suppress(KeyError), listening:
            association = sender.associate("127.0.0.1", port, contexts, "VOXFLEET")
            sent = other.submit(association.send_c_store, dataset)
            assert begun.wait(60)
            raise KeyError(port)
        assert kept == [dataset.SOPInstanceUID]
        assert "Status" not in sent.result(60)


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_series_without_usable_uid() -> None:
    """A series whose UID is a path is reported and not given as an entry."""
    match = {"StudyInstanceUID": "1.2", "SeriesInstanceUID": "../escape", "Modality": "CT"}
    with node(finds(match)) as uri:
        (found,) = DimseArchive(uri, PATIENT).search()
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
        DimseArchive(uri, PATIENT).retrieve(entry, tmp_path / "a" / "into")
    assert list(tmp_path.rglob("*escape*")) == []


def test_a_port_that_another_program_has(
    ct_slices: MakeSlices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where our port for C-MOVE stays taken, waiting ends with an error that names it."""
    monkeypatch.setattr(query, "listen", lambda address, at, _, *rest: listen(address, at, SHORT, *rest))
    (dataset,) = ct_slices(1)
    entry = SeriesEntry(dataset.StudyInstanceUID, dataset.SeriesInstanceUID, "CT", 1)
    found = finds({"SOPInstanceUID": dataset.SOPInstanceUID, "SOPClassUID": dataset.SOPClassUID})
    with socket.create_server(("127.0.0.1", 0)) as taken, node(found) as uri:
        port = taken.getsockname()[1]
        with pytest.raises(RetrieveError, match=f"cannot listen on 127.0.0.1:{port}") as caught:
            DimseArchive(f"{uri}?move={port}", PATIENT).retrieve(entry, tmp_path)
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
    archive = DimseArchive(f"{dcmqrscp.uri}?commit={dcmqrscp.callback_port}", PATIENT)
    with pytest.raises(StoreRefused, match="presentation context"):
        archive.store(ct_slices(1)[0])


@pytest.mark.orthanc
def test_a_report_that_never_comes(orthanc, ct_slices: MakeSlices, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the node knows another port of ours than we listen on, waiting ends with an error."""
    await_report = send._await_report
    monkeypatch.setattr(send, "_await_report", lambda *args: await_report(*args[:-1], SHORT))
    archive = DimseArchive(f"{orthanc.dimse_uri}?commit={free_port()}", PATIENT)
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
