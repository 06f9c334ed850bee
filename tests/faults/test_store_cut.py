"""The wire between a worker and its archive is taken away in mid-run: a real Orthanc in a network of its own."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
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

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


def _voxfleet(wire: Wire, folder: Path, *words: object) -> subprocess.Popen[bytes]:
    with (folder / "log").open("ab") as log:
        command = [*wire.on_node, sys.executable, "-m", "voxfleet", *map(str, words)]
        return subprocess.Popen(command, stdout=log, stderr=log)


def test_network_cut_between_worker_and_store(wire: Wire, tmp_path: Path, account: Account) -> None:
    """Packets to Orthanc are lost for seconds: the run waits and goes on, each SEG and SR is there once."""
    for seed in range(SERIES):
        phantom = chest_phantom(shape=(24, 64, 64), spacing_mm=(12.0, 5.6, 5.6), seed=seed)
        write_ct_series(phantom.volume, tmp_path / "in" / str(seed), identity=CtIdentity.named(f"cut-{seed}"))
    target, run = wire.orthanc(tmp_path), tmp_path / "run"
    driver = _voxfleet(wire, tmp_path, "enrich", tmp_path / "in", "-m", "ct-threshold", "--to", target, "--run", run)
    try:
        deadline = time.monotonic() + 90
        while not ((run / "ledger.sqlite").is_file() and SqliteLedger(run / "ledger.sqlite").counts().completed >= 2):
            assert driver.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        ledger = SqliteLedger(run / "ledger.sqlite")
        wire.cut()
        time.sleep(CUT_S / 2)
        before = ledger.counts().completed
        time.sleep(CUT_S / 2)
        assert ledger.counts().completed == before < SERIES
        wire.mend()
        account.harmed()
        assert driver.wait(120) == 0, (tmp_path / "log").read_text()
        account.settle(ledger, held=wire.held())
        assert ledger.counts().completed == SERIES
        assert Counter(each.outcome for each in ledger.attempts()) == {AttemptClass.COMPLETED: SERIES}
        assert len({each.object.sop_instance_uid for each in ledger.stored()}) == wire.held() == 2 * SERIES
        assert _voxfleet(wire, tmp_path, "ledger", "verify", run).wait(60) == 0, (tmp_path / "log").read_text()
    finally:
        driver.kill()
        driver.wait()
