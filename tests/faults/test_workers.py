"""Workers on one ledger in PostgreSQL: stopped, killed, cut off from it; every series is done once all the same."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pydicom
import pytest
from voxfleet.cluster.ledger import Attempt, AttemptClass, Lease, Ledger
from voxfleet.cluster.ledgers.postgres import PostgresLedger
from voxfleet.cluster.results.verify import verify
from voxfleet.cluster.run_folder import RunFolder
from voxfleet.enrich.archives.opening import open_archive
from voxfleet.enrich.phantom import CtIdentity, chest_phantom, write_ct_series

if TYPE_CHECKING:
    from conftest import Account, Postgres

SERIES = 12

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dozen small chest phantoms."""
    folder = tmp_path_factory.mktemp("collection")
    for seed in range(SERIES):
        phantom = chest_phantom(shape=(24, 64, 64), spacing_mm=(12.0, 5.6, 5.6), seed=seed)
        write_ct_series(phantom.volume, folder / str(seed), identity=CtIdentity.named(f"worker-{seed}"))
    return folder


class Fleet:
    """A run registered in PostgreSQL, and workers on it that are processes of their own."""

    def __init__(self, server: Postgres, collection: Path, folder: Path, account: Account) -> None:
        self.server, self.folder, self.run = server, folder, folder.name.replace("_", "-")
        self.target, self.account = folder / "enriched", account
        self._workers: list[subprocess.Popen[bytes]] = []
        done = self.voxfleet(
            *("enrich", collection, "-m", "ct-threshold", "--to", f"dir:{self.target}"),
            *("--run", folder / self.run, "--ledger", server.url, "--on", "workers"),
        )
        assert done.wait(120) == 4
        self.ledger: Ledger = PostgresLedger(server.url, self.run)

    def start(self, name: str, *options: object) -> subprocess.Popen[bytes]:
        """Begin a worker."""
        words = ("worker", self.run, "--ledger", self.server.url, "--node", name, "--folder", self.folder / "w")
        self._workers.append(self.voxfleet(*words, *options))
        return self._workers[-1]

    def keep(self, number: int) -> tuple[Lease, ...]:
        """Let so many series wait until they are given back: whatever is slow, the run has not ended before."""
        return self.ledger.lease("elsewhere", number, 300.0)

    def held(self, node: str) -> list[Attempt]:
        """What a worker has begun and not ended."""
        return [attempt for attempt in self.ledger.attempts() if attempt.node == node and attempt.ended is None]

    def until(self, what: Callable[[], bool]) -> None:
        """Wait for something to be so."""
        deadline = time.monotonic() + 100
        while not what():
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def check(self) -> Counter[AttemptClass | None]:
        """Every series is in the archive once and as the ledger says; how the attempts ended."""
        assert self.ledger.counts().completed == SERIES
        files = [pydicom.dcmread(path, stop_before_pixels=True) for path in self.target.rglob("*.dcm")]
        assert Counter(file.Modality for file in files) == {"SEG": SERIES, "SR": SERIES}
        assert len({file.SOPInstanceUID for file in files}) == 2 * SERIES
        assert verify(self.ledger, open_archive(f"dir:{self.target}")).sound
        return Counter(attempt.outcome for attempt in self.ledger.attempts())

    def told(self) -> dict[str, Any]:
        """The document of the one worker that was to write one."""
        (text,) = re.findall(r"^\{$.*?^\}$", (self.folder / "log").read_text(), re.MULTILINE | re.DOTALL)
        document: dict[str, Any] = json.loads(text)
        return document

    def close(self) -> None:
        """Tell what became of the run; leave no process behind."""
        self.account.settle(self.ledger, held=len([*self.target.rglob("*.dcm")]))
        for each in self._workers:
            if each.poll() is None:
                each.kill()
                each.wait()

    def voxfleet(self, *words: object) -> subprocess.Popen[bytes]:
        """Begin a command."""
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen([sys.executable, "-m", "voxfleet", *map(str, words)], stdout=log, stderr=log)


@pytest.fixture
def fleet(postgres: Postgres, collection: Path, tmp_path: Path, account: Account) -> Iterator[Fleet]:
    """A fleet without workers."""
    made = Fleet(postgres, collection, tmp_path, account)
    yield made
    made.close()


def test_two_share_the_work_and_one_is_told_to_stop(fleet: Fleet) -> None:
    """SIGTERM with no time to drain: what it had in flight is lost, at once free for the other, and done once."""
    kept = fleet.keep(6)
    first = fleet.start("a", "--drain", 0, "--json")
    fleet.until(lambda: bool(fleet.held("a")))
    # It stands still while the other begins, with three series that it cannot have.
    first.send_signal(signal.SIGSTOP)
    second = fleet.start("b")
    fleet.ledger.give_back(kept[:3])
    fleet.until(lambda: any(attempt.node == "b" for attempt in fleet.ledger.attempts()))
    fleet.account.harmed("a")
    first.send_signal(signal.SIGTERM)
    first.send_signal(signal.SIGCONT)
    assert first.wait(60) == 143
    fleet.ledger.give_back(kept[3:])
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(fleet.folder / "w" / "a") in str(p.info["cmdline"])]
    assert second.wait(100) == 0
    outcomes = fleet.check()
    assert outcomes[AttemptClass.FAILED] == 0
    assert outcomes[AttemptClass.LOST] <= 3
    lost = [attempt for attempt in fleet.ledger.attempts() if attempt.outcome is AttemptClass.LOST]
    assert all(attempt.preempted and attempt.node == "a" for attempt in lost), "by a machine that had given notice"
    lives = {node.node: node for node in fleet.ledger.nodes()}
    assert lives["a"].down is not None
    assert lives["b"].down is not None
    assert lives["a"].down < lives["b"].down
    told = fleet.told()
    ended = Counter(attempt.outcome for attempt in fleet.ledger.attempts() if attempt.node == "a")
    assert (told["node"], told["outcome"], told["exit_code"]) == ("a", "preempted", 143)
    assert told["attempts"] == {kind.value: ended[kind] for kind in AttemptClass}
    assert 0 < told["left"] <= SERIES


def test_limits_are_a_workers_own(fleet: Fleet) -> None:
    """A worker whose deadline leaves no time for a series begins none, and says why; another one does them all.

    Nor does one with --idle stay for what others hold. Where the run is registered nobody works: limits given there
    would be dropped, and are refused.
    """
    held = fleet.ledger.lease("elsewhere", SERIES, 300.0)
    assert fleet.start("idle", "--idle", "1s").wait(120) == 4
    assert fleet.ledger.give_back(held) == SERIES
    assert fleet.start("late", "--deadline", "1s").wait(120) == 4
    assert "the deadline of 1 s leaves no time" in (fleet.folder / "log").read_text()
    assert fleet.ledger.attempts() == ()
    limits = ("--max-cost-per-series", "1", "--max-nodes", 3, "--stage-deadline", "segment=5m")
    assert fleet.start("a", "--deadline", "1h", *limits).wait(100) == 0
    assert fleet.check() == {AttemptClass.COMPLETED: SERIES}
    words = ("enrich", "in", "-m", "ct-threshold", "--to", f"dir:{fleet.target}", "--run", fleet.folder / "other")
    refused = fleet.voxfleet(*words, "--ledger", fleet.server.url, "--on", "workers", "--deadline", "8h")
    assert refused.wait(120) == 2
    assert "limits do not reach workers" in " ".join((fleet.folder / "log").read_text().replace("│", " ").split())


def test_killed_one_goes_on_with_what_it_had(fleet: Fleet) -> None:
    """SIGKILL, begun again under its name: what it had leased is free at once, and nothing is doubled."""
    kept = fleet.keep(6)
    first = fleet.start("a")
    fleet.until(lambda: fleet.ledger.counts().completed >= 2)
    fleet.account.harmed("a")
    first.kill()
    assert first.wait() == -signal.SIGKILL
    fleet.ledger.give_back(kept)
    again = fleet.start("a")
    assert again.wait(100) == 0
    outcomes = fleet.check()
    assert outcomes[AttemptClass.COMPLETED] == SERIES
    assert outcomes[AttemptClass.LOST] <= 3
    assert [node.down is not None for node in fleet.ledger.nodes()] == [True, True]


def test_database_is_killed_and_started_again(fleet: Fleet) -> None:
    """PostgreSQL gone for two seconds, as if killed: the worker waits, and goes on; nothing is lost or doubled."""
    kept = fleet.keep(6)
    worker = fleet.start("a")
    fleet.until(lambda: fleet.ledger.counts().completed >= 2)
    fleet.server.stop("immediate")
    try:
        time.sleep(2)
        assert worker.poll() is None
    finally:
        fleet.server.start()
    fleet.account.harmed()
    fleet.ledger = PostgresLedger(fleet.server.url, fleet.run)
    fleet.ledger.give_back(kept)
    assert worker.wait(100) == 0
    assert fleet.check()[AttemptClass.COMPLETED] == SERIES


def test_status_and_a_second_run_of_the_name(fleet: Fleet) -> None:
    """The run's folder knows where its ledger is; nothing of the URL's secrets could be in it."""
    folder = RunFolder(str(fleet.folder / fleet.run)).must_exist()
    assert folder.ledger_url.read_text() == f"{fleet.server.url}\n"
    assert not folder.ledger.exists()
