"""A Ray cluster of two nodes with networks of their own, a real Orthanc, and one node that is removed."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from voxfleet.cluster.ledger import AttemptClass
from voxfleet.cluster.ledgers.sqlite import SqliteLedger

if TYPE_CHECKING:
    from conftest import Account, Wire

pytest.importorskip("ray")

SERIES = 12
SECOND = "voxfleet-node-2"
"""Its name, as `Wire` gives it."""
DEPTH = 3
"""Workitems that a node has in flight at most."""

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(600)]


class Cluster:
    """A head and a second node, each of one core and in a network of its own."""

    def __init__(self, wire: Wire, folder: Path) -> None:
        self.wire, self.folder = wire, folder
        # Sockets of Ray have long names, and a name of a socket has 107 bytes at most.
        self.ray = Path(tempfile.mkdtemp(prefix="ray"))
        (folder / "token").write_text(secrets.token_hex(32))
        self.environment = {
            **os.environ,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
            "RAY_USAGE_STATS_ENABLED": "0",
            # A node that does not answer is dead after five seconds, and not after a minute.
            "RAY_health_check_period_ms": "1000",
            "RAY_health_check_timeout_ms": "2000",
            "RAY_health_check_failure_threshold": "3",
            "RAY_ADDRESS": f"{wire.SERVER}:6379",
        }
        self.processes: list[subprocess.Popen[bytes]] = []
        common = ["--block", "--num-cpus=1", "--num-gpus=0", f"--object-store-memory={80 * 2**20}"]
        head = ["--head", "--port=6379", f"--node-ip-address={wire.SERVER}", "--include-dashboard=false"]
        self.begin(wire.on_server, "ray", "start", *head, f"--temp-dir={self.ray}", *common)
        self.until(lambda: b"Ray runtime started" in self.log())
        second = [f"--address={wire.SERVER}:6379", f"--node-ip-address={wire.NODE}"]
        self.second = self.begin(wire.on_node, "ray", "start", *second, *common)
        self.until(lambda: self.log().count(b"Ray runtime started") == 2)

    def begin(self, where: list[str], *words: object) -> subprocess.Popen[bytes]:
        """Start a program in one of the networks."""
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [*where, *map(str, words)], stdout=log, stderr=log, env=self.environment, start_new_session=True
            )
        self.processes.append(process)
        return process

    def voxfleet(self, *words: object) -> subprocess.CompletedProcess[str]:
        """A command beside the head, to its end."""
        command = [*self.wire.on_server, sys.executable, "-m", "voxfleet", *map(str, words)]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False, timeout=300)

    def log(self) -> bytes:
        """What all programs said."""
        return (self.folder / "log").read_bytes()

    def until(self, what: object, most_s: float = 120.0) -> None:
        """Wait for something to be so."""
        deadline = time.monotonic() + most_s
        assert callable(what)
        while not what():
            assert time.monotonic() < deadline, self.log()[-3000:].decode()
            time.sleep(0.1)

    def second_family(self) -> list[psutil.Process]:
        """All processes of the second node that are there now."""
        first = psutil.Process(self.second.pid)
        return [first, *first.children(recursive=True)]

    def remove_second(self) -> None:
        """Take a node away as a cloud does: its wire is cut, and all of its processes are gone."""
        self.wire.cut()
        _end(self.second)

    def close(self) -> None:
        """Leave no process behind."""
        for process in reversed(self.processes):
            _end(process)
        shutil.rmtree(self.ray, ignore_errors=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    family = []
    with suppress(psutil.NoSuchProcess):
        family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    for each in family:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    process.wait()


@pytest.fixture
def cluster(wire: Wire, tmp_path: Path) -> Iterator[Cluster]:
    """Two nodes that are up."""
    made = object.__new__(Cluster)
    made.processes = []
    try:
        made.__init__(wire, tmp_path)
        yield made
    finally:
        made.close()


def test_one_of_two_nodes_is_removed(
    cluster: Cluster, chest_copies: Callable[[int], Path], tmp_path: Path, account: Account
) -> None:
    """Real CTs into a real Orthanc, one node gone in the midst: each SEG and SR is there once, lost is what flew."""
    source, target = chest_copies(SERIES), cluster.wire.orthanc(tmp_path)
    run = tmp_path / "run"
    words = ("enrich", source, "-m", "ct-threshold", "--to", target, "--run", run, "--on", "ray", "--workers", 2)
    driver = cluster.begin(cluster.wire.on_server, sys.executable, "-m", "voxfleet", *words)
    cluster.until((run / "ledger.sqlite").is_file)
    ledger = SqliteLedger(run / "ledger.sqlite")

    def done_on() -> Mapping[str, int]:
        ended = [each.node for each in ledger.attempts() if each.outcome is AttemptClass.COMPLETED]
        return Counter(ended)

    cluster.until(lambda: ledger.counts().total == SERIES)
    # Kept until both nodes are up, and the last ones until one is gone: it does not end before.
    kept = list(ledger.lease("elsewhere", SERIES, 600.0))
    cluster.until(lambda: len({life.node for life in ledger.nodes()}) == 2)
    ledger.give_back(kept[4:])
    del kept[4:]

    def both_worked() -> bool:
        return len(done_on()) == 2 or more()

    def more() -> bool:
        """Give one of the kept back where nothing else is left."""
        counts = ledger.counts()
        if kept and (counts.scheduled, counts.in_progress) == (0, len(kept)):
            ledger.give_back([kept.pop()])
        return False

    def stands_at_work() -> bool:
        """Whether the second node stands still now, with something in flight."""
        for process in cluster.second_family():
            process.suspend()
        if any(each.node == SECOND and each.outcome in (None, AttemptClass.LOST) for each in ledger.attempts()):
            return True
        for process in cluster.second_family():
            process.resume()
        return more()

    cluster.until(both_worked)
    cluster.until(stands_at_work)
    account.harmed()
    cluster.remove_second()
    ledger.give_back(kept)
    assert driver.wait(300) == 0, cluster.log()[-3000:].decode()
    account.settle(ledger, held=cluster.wire.held())
    counts = ledger.counts()
    assert (counts.completed, counts.open) == (SERIES, 0)
    outcomes = Counter(each.outcome for each in ledger.attempts())
    assert outcomes[AttemptClass.COMPLETED] == SERIES
    assert 0 < outcomes[AttemptClass.LOST] <= DEPTH
    assert outcomes[AttemptClass.FAILED] == 0
    lives = ledger.nodes()
    assert {life.node for life in lives} == {*done_on()}
    assert all(life.down is not None for life in lives)
    again = cluster.voxfleet("ledger", "verify", run)
    assert again.returncode == 0, again.stdout + again.stderr
    stored = [each.object for each in ledger.stored()]
    assert len({each.sop_instance_uid for each in stored}) == len(stored) == cluster.wire.held() == 2 * SERIES
