"""Workers and drivers killed at random: at the end every series is in the archive exactly once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pydicom
import pytest
from voxfleet.cluster.ledger import AttemptClass
from voxfleet.cluster.ledgers.sqlite import SqliteLedger

if TYPE_CHECKING:
    from conftest import Account

SERIES = 40
KILLS = 10
IN_FLIGHT = 3
"""Workitems that a local node has in flight at most: one a lane."""


def _start(collection: Path, target: Path, run: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "voxfleet", "enrich", str(collection), "--model", "ct-threshold"]
    return subprocess.Popen(
        [*command, "--to", f"dir:{target}", "--run", str(run)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


KEPT = "elsewhere"
"""Holds series until the others are done: however slow this test is, the run has not ended before its kills."""


def _is_at_work(ledger: SqliteLedger, since: datetime) -> bool:
    """Whether a driver that was begun then has something in flight."""
    mine = [each for each in ledger.attempts() if each.owner != KEPT]
    return any(each.ended is None and each.started > since for each in mine)


def _kill_something(driver: subprocess.Popen[bytes], choice: random.Random, account: Account) -> str:
    """SIGKILL the driver or one of its workers; which."""
    workers = psutil.Process(driver.pid).children(recursive=True)
    account.harmed()
    if workers and choice.random() < 0.6:
        with suppress(psutil.NoSuchProcess):
            choice.choice(workers).kill()
        return "worker"
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    return "driver"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ten_random_kills_lose_nothing_and_double_nothing(
    chest_copies: Callable[[int], Path], tmp_path: Path, account: Account
) -> None:
    """40 real CTs, ten kills of workers and drivers: 40 SEG and 40 SR, each once; only what was in flight is redone."""
    target, run, choice = tmp_path / "enriched", tmp_path / "run", random.Random(2026)
    collection = chest_copies(SERIES)
    killed: Counter[str] = Counter()
    driver, since = _start(collection, target, run), datetime.now(UTC)
    while not (run / "ledger.sqlite").is_file():
        assert driver.poll() is None
        time.sleep(0.1)
    ledger = SqliteLedger(run / "ledger.sqlite")
    while ledger.counts().total < SERIES:
        assert driver.poll() is None
        time.sleep(0.1)
    kept = list(ledger.lease(KEPT, SERIES // 2, 600.0))
    while killed.total() < KILLS and driver.poll() is None:
        if not _is_at_work(ledger, since):
            counts = ledger.counts()
            if kept and (counts.scheduled, counts.in_progress) == (0, len(kept)):
                ledger.give_back([kept.pop()])
            time.sleep(0.1)
            continue
        time.sleep(choice.uniform(0.1, 1.0))
        driver.send_signal(signal.SIGSTOP)
        if _is_at_work(ledger, since):
            killed[_kill_something(driver, choice, account)] += 1
        driver.send_signal(signal.SIGCONT)
        if driver.poll() is not None:
            driver, since = _start(collection, target, run), datetime.now(UTC)
    ledger.give_back(kept)
    driver.wait(timeout=400)
    final = _start(collection, target, run)
    assert final.wait(timeout=200) == 0

    assert killed.total() == KILLS, "it had ended before"
    counts = ledger.counts()
    files = [pydicom.dcmread(path, stop_before_pixels=True) for path in target.rglob("*.dcm")]
    account.settle(ledger, held=len(files))
    assert (counts.completed, counts.total) == (SERIES, SERIES)
    assert Counter(file.Modality for file in files) == {"SEG": SERIES, "SR": SERIES}
    uids = Counter(file.SOPInstanceUID for file in files)
    assert set(uids.values()) == {1}
    assert {each.object.sop_instance_uid for each in ledger.stored()} == set(uids)
    outcomes = Counter(attempt.outcome for attempt in ledger.attempts())
    assert outcomes[AttemptClass.COMPLETED] == SERIES
    assert 0 < outcomes[AttemptClass.LOST] <= killed["worker"] + IN_FLIGHT * killed["driver"]
    assert outcomes[AttemptClass.FAILED] == 0
    assert not [path for path in run.glob("scratch/*") if path.is_dir()]
