"""Fixtures of the faults' tests: drivers with stub stages, and networks that can be cut."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pydicom
import pytest
import voxfleet.cluster
from pydicom.uid import generate_uid
from voxfleet.cluster.ledger import Attempt, AttemptClass, Ledger, Run
from voxfleet.cluster.ledgers.postgres import PostgresLedger
from voxfleet.cluster.ledgers.sqlite import SqliteLedger
from voxfleet.runners.workitem import Workitem

if TYPE_CHECKING:
    from conftest import Account

ORTHANC = Path("/usr/sbin/Orthanc")
DICOMWEB_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
STUB_NODE = Path(__file__).parent / "stub_node.py"


class StubFleet:
    """A run of stub workitems, and drivers on it that are processes of their own."""

    def __init__(self, ledger: str, folder: Path, items: Iterable[Mapping[str, str]], account: Account) -> None:
        self.where, self.folder, self._account = ledger, folder, account
        for name in ("segmented", "stored", "waiting"):
            (folder / name).mkdir()
        (folder / "log").touch()
        shared = ledger.startswith("postgresql:")
        self.ledger: Ledger = PostgresLedger(ledger, folder.name) if shared else SqliteLedger(Path(ledger))
        self.ledger.create_run(Run("stub", "dir:/in", "dir:/out", ("stub 1",), {}, "0", "toy", datetime.now(UTC)))
        work = [
            Workitem("1", f"1.{n}", "CT", 1, "dir:/in", "dir:/out", "stub", "1", "none", tuple(sorted(each.items())))
            for n, each in enumerate(items)
        ]
        self.items = self.ledger.add(work)
        self.drivers: dict[str, subprocess.Popen[str]] = {}

    def start(self, node: str, *options: object, before: Iterable[str] = (), ledger: str = "") -> subprocess.Popen[str]:
        """Begin a driver; `before` is put before its command."""
        words = [STUB_NODE, ledger or self.where, self.folder, node, "--run", self.folder.name, *options]
        with (self.folder / "log").open("ab") as log:
            driver = subprocess.Popen(
                [*before, sys.executable, *map(str, words)], stdout=subprocess.PIPE, stderr=log, text=True
            )
        self.drivers[node] = driver
        return driver

    def harm(self, node: str, how: signal.Signals, child: psutil.Process | None = None) -> None:
        """Send a driver, or a child of it, a signal, and note when."""
        self._account.harmed(node)
        (child or self.drivers[node]).send_signal(how)

    def freeze(self, node: str, holding: int) -> list[Attempt]:
        """Stop a driver (SIGSTOP) at a moment at which it holds so many workitems; these."""
        held: list[Attempt] = []

        def is_frozen() -> bool:
            held[:] = self.frozen(node, holding)
            return bool(held)

        self.until(is_frozen)
        return held

    def frozen(self, node: str, holding: int) -> list[Attempt]:
        """What a driver holds, stopped now; it goes on, and none, if that is less, or it has the ledger locked."""
        driver = self.drivers[node]
        if driver.poll() is not None:
            return []
        driver.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, driver.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        held = self.held(node)
        if len(held) >= max(holding, 1) and self._may_be_written():
            self._account.harmed(node)
            return held
        driver.send_signal(signal.SIGCONT)
        return []

    def held(self, node: str) -> list[Attempt]:
        """Attempts that a driver has begun, or is about to begin."""
        return [each for each in self.ledger.attempts() if each.owner == node and each.ended is None]

    def _may_be_written(self) -> bool:
        """Whether nobody keeps the ledger locked: of PostgreSQL nobody does it for long."""
        if self.where.startswith("postgresql:"):
            return True
        with closing(sqlite3.connect(self.where, isolation_level=None, timeout=1.0)) as sql:
            try:
                sql.execute("BEGIN IMMEDIATE")
                sql.execute("ROLLBACK")
            except sqlite3.OperationalError:
                return False
        return True

    def go(self) -> None:
        """Let what waits in a stage go on, and what would wait later."""
        (self.folder / "go").touch()

    def waiting(self) -> set[str]:
        """Series that wait, or have waited, in a stage."""
        return {path.name for path in (self.folder / "waiting").iterdir()}

    def until(self, what: Callable[[], bool], most_s: float = 60.0) -> float:
        """Wait for something to be so; the seconds that it took."""
        begun = time.monotonic()
        while not what():
            assert time.monotonic() - begun < most_s, (self.folder / "log").read_text()[-2000:]
            time.sleep(0.02)
        return time.monotonic() - begun

    def children(self, node: str) -> list[psutil.Process]:
        """What a driver started and lives now: its stages, and the keeper of each."""
        try:
            return psutil.Process(self.drivers[node].pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def stored(self) -> set[str]:
        """Series that left a file."""
        return {path.name for path in (self.folder / "stored").iterdir()}

    def segmented(self) -> Counter[str]:
        """How often each series' segmentation was begun."""
        paths = (self.folder / "segmented").iterdir()
        return Counter({path.name: len(path.read_text().splitlines()) for path in paths})

    def check(self, quarantined: int = 0) -> Counter[AttemptClass | None]:
        """Every item is done or quarantined, what is done is stored and nothing else, each once; how attempts ended."""
        counts = self.ledger.counts()
        assert (counts.completed, counts.failed, counts.open) == (self.items - quarantined, quarantined, 0)
        done = [each.object.series_instance_uid for each in self.ledger.stored()]
        assert len(done) == len(set(done)) == counts.completed
        assert self.stored() == set(done)
        attempts = self.ledger.attempts()
        completed = [each.key for each in attempts if each.outcome is AttemptClass.COMPLETED]
        assert len(completed) == len(set(completed)) == counts.completed
        return Counter(each.outcome for each in attempts)

    def close(self) -> None:
        """Tell what became of the run; leave no process behind."""
        self._account.settle(self.ledger, self.folder / "segmented", len(self.stored()))
        for driver in self.drivers.values():
            if driver.poll() is None:
                driver.send_signal(signal.SIGCONT)
                driver.kill()
            driver.wait()
            if driver.stdout is not None:
                driver.stdout.close()
        self.ledger.close()


@pytest.fixture
def stub_fleet(tmp_path: Path, account: Account) -> Iterator[Callable[..., StubFleet]]:
    """Makes a run of stub workitems in SQLite, or in the ledger at a URL."""
    made: list[StubFleet] = []

    def make(items: Iterable[Mapping[str, str]], url: str = "") -> StubFleet:
        made.append(StubFleet(url or str(tmp_path / "ledger.sqlite"), tmp_path, items, account))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def chest_copies(tmp_path: Path) -> Callable[[int], Path]:
    """Makes a folder of a real small chest CT, the demo's, several times as another patient's."""

    def make(number: int) -> Path:
        with zipfile.ZipFile(Path(voxfleet.cluster.__path__[0]) / "demo_data" / "cip-chest-ct.zip") as pack:
            pack.extractall(tmp_path / "one")
        slices = [pydicom.dcmread(path) for path in sorted((tmp_path / "one").rglob("*.dcm"))]
        for copy in range(number):
            study, series, frame = generate_uid(), generate_uid(), generate_uid()
            place = tmp_path / "in" / str(copy)
            place.mkdir(parents=True)
            for position, each in enumerate(slices):
                each.PatientID = f"chest-{copy}"
                each.StudyInstanceUID, each.SeriesInstanceUID, each.FrameOfReferenceUID = study, series, frame
                each.SOPInstanceUID = each.file_meta.MediaStorageSOPInstanceUID = generate_uid()
                each.save_as(place / f"{position}.dcm")
        return tmp_path / "in"

    return make


class Wire:
    """Two network namespaces, ``server`` (10.77.0.1) and ``node`` (10.77.0.2), with one wire between them."""

    SERVER, NODE = "10.77.0.1", "10.77.0.2"

    def __init__(self) -> None:
        mapped = [] if os.geteuid() == 0 else ["--map-root-user"]
        self._holders = [self._hold(["unshare", *mapped, "--net"])]
        self._holders.append(self._hold([*self.on_server, "unshare", "--net", "--uts"]))
        node = str(self._holders[1].pid)
        self._ip(self.on_server, "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", node)
        for where, address in ((self.on_server, self.SERVER), (self.on_node, self.NODE)):
            self._ip(where, "link", "set", "lo", "up")
            self._ip(where, "address", "add", f"{address}/24", "dev", "wire")
            self._ip(where, "link", "set", "wire", "up")
        subprocess.run([*self.on_node, "hostname", "voxfleet-node-2"], check=True)

    @property
    def on_server(self) -> list[str]:
        """Put before a command: it runs in the server's network."""
        return self._enter(self._holders[0].pid)

    @property
    def on_node(self) -> list[str]:
        """Put before a command: it runs in the node's network, under a host name of its own."""
        return [*self._enter(self._holders[1].pid), "--uts"]

    def orthanc(self, folder: Path) -> str:
        """URI of an empty Orthanc that is begun in the server's network, and reached from the node's."""
        if not (ORTHANC.is_file() and DICOMWEB_PLUGIN.is_file()):
            pytest.skip("apt-get install orthanc orthanc-dicomweb")
        configuration = {
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "HttpPort": 8042,
            "DicomServerEnabled": False,
            "RemoteAccessAllowed": True,
            "AuthenticationEnabled": False,
            "Plugins": [str(DICOMWEB_PLUGIN)],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }
        (folder / "orthanc.json").write_text(json.dumps(configuration))
        said = folder / "orthanc.log"
        with said.open("wb") as log:
            command = [*self.on_server, ORTHANC, folder / "orthanc.json"]
            self._holders.append(subprocess.Popen(command, stdout=log, stderr=log))
        deadline = time.monotonic() + 60
        while b"Orthanc has started" not in said.read_bytes():
            assert time.monotonic() < deadline, said.read_text()[-2000:]
            time.sleep(0.05)
        return f"dicomweb+http://{self.SERVER}:8042/dicom-web"

    def held(self) -> int:
        """How many instances Orthanc holds."""
        ask = f"import urllib.request as u; print(u.urlopen('http://{self.SERVER}:8042/statistics').read().decode())"
        told = subprocess.run([*self.on_server, sys.executable, "-c", ask], check=True, capture_output=True, text=True)
        return int(json.loads(told.stdout)["CountInstances"])

    def cut(self) -> None:
        """Take the wire away: packets are lost, and nobody is told."""
        self._ip(self.on_server, "link", "set", "wire", "down")

    def mend(self) -> None:
        """Put it back."""
        self._ip(self.on_server, "link", "set", "wire", "up")

    def close(self) -> None:
        """End both networks."""
        for holder in reversed(self._holders):
            holder.kill()
            holder.wait()

    @staticmethod
    def _enter(pid: int) -> list[str]:
        user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        return ["nsenter", "--target", str(pid), *user, "--net"]

    @staticmethod
    def _hold(command: list[str]) -> subprocess.Popen[bytes]:
        ready = 'echo && exec sleep "$1"'
        holder = subprocess.Popen([*command, "sh", "-c", ready, "sh", "3600"], stdout=subprocess.PIPE)
        assert holder.stdout is not None
        if holder.stdout.readline() != b"\n":
            holder.wait()
            pytest.skip("needs network namespaces of its own (unshare)")
        holder.stdout.close()
        return holder

    @staticmethod
    def _ip(where: list[str], *words: str) -> None:
        subprocess.run([*where, "ip", *words], check=True)


@pytest.fixture
def wire() -> Iterator[Wire]:
    """Two networks with one wire between them; nothing else is reached from them, nor reaches them."""
    if not all(shutil.which(each) for each in ("unshare", "nsenter", "ip")):
        pytest.skip("needs util-linux and iproute2")
    made = Wire()
    yield made
    made.close()
