"""The wire between a worker and its archive is taken away in mid-run: a real Orthanc in a network of its own."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from voxfleet.cluster.ledger import AttemptClass
from voxfleet.cluster.ledgers.sqlite import SqliteLedger
from voxfleet.enrich.phantom import CtIdentity, chest_phantom, write_ct_series

if TYPE_CHECKING:
    from conftest import Account, Wire

SERIES = 8
CUT_S = 6.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(480)]


def _voxfleet(wire: Wire, folder: Path, *words: object) -> subprocess.Popen[bytes]:
    with (folder / "log").open("ab") as log:
        command = [*wire.on_node, sys.executable, "-m", "voxfleet", *map(str, words)]
        return subprocess.Popen(command, stdout=log, stderr=log)


def _completed(run: Path) -> int:
    """Series of a run that are done; none where it has no ledger yet."""
    if not (run / "ledger.sqlite").is_file():
        return 0
    with closing(SqliteLedger(run / "ledger.sqlite")) as ledger:
        return ledger.counts().completed


@contextmanager
def _cut_in_mid_run(
    wire: Wire, folder: Path, target: str, number: int = 0
) -> Iterator[tuple[Path, subprocess.Popen[bytes], int]]:
    """A run whose wire was taken away before Orthanc had all of its results; how many Orthanc held before it."""
    source, run, held = folder / f"in-{number}", folder / f"run-{number}", wire.held()
    for seed in range(SERIES):
        phantom = chest_phantom(shape=(24, 64, 64), spacing_mm=(12.0, 5.6, 5.6), seed=seed)
        write_ct_series(phantom.volume, source / str(seed), identity=CtIdentity.named(f"cut-{number}-{seed}"))
    driver = _voxfleet(wire, folder, "enrich", source, "-m", "ct-threshold", "--to", target, "--run", run)
    try:
        deadline = time.monotonic() + 90
        while _completed(run) < 2:
            assert driver.poll() in {None, 0}, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.1)
        wire.cut()
        time.sleep(CUT_S / 2)
        if wire.held() - held < 2 * SERIES:
            yield run, driver, held
            return
        wire.mend()  # we stood still for as long as it took: once more
        assert driver.wait(120) == 0, (folder / "log").read_text()
    finally:
        driver.kill()
        driver.wait()
    assert number < 2, "no run lasted until its wire was cut"
    with _cut_in_mid_run(wire, folder, target, number + 1) as another:
        yield another


def test_network_cut_between_worker_and_store(wire: Wire, tmp_path: Path, account: Account) -> None:
    """Packets to Orthanc are lost for seconds: the run waits and goes on, each SEG and SR is there once."""
    target = wire.orthanc(tmp_path)
    with _cut_in_mid_run(wire, tmp_path, target) as (run, driver, held):
        ledger, before = SqliteLedger(run / "ledger.sqlite"), -1
        while ledger.counts().completed != before:  # what came back before the cut may yet be noted
            before = ledger.counts().completed
            time.sleep(CUT_S / 2)
        assert before < SERIES
        wire.mend()
        account.harmed()
        assert driver.wait(120) == 0, (tmp_path / "log").read_text()
        account.settle(ledger, held=wire.held() - held)
        assert ledger.counts().completed == SERIES
        assert Counter(each.outcome for each in ledger.attempts()) == {AttemptClass.COMPLETED: SERIES}
        assert len({each.object.sop_instance_uid for each in ledger.stored()}) == wire.held() - held == 2 * SERIES
        assert _voxfleet(wire, tmp_path, "ledger", "verify", run).wait(60) == 0, (tmp_path / "log").read_text()
