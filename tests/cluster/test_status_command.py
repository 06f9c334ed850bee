"""``voxfleet status`` tells sums, quickly; the sums are those of the full summary."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from voxfleet.cluster.ledgers.attempt import AttemptClass
from voxfleet.cluster.ledgers.run_record import Run
from voxfleet.cluster.ledgers.sqlite import SqliteLedger
from voxfleet.cluster.prices.price import Price
from voxfleet.cluster.run_folder import RunFolder
from voxfleet.cluster.status.progress import standing
from voxfleet.cluster.status.summary import summarise
from voxfleet.enrich.archives.archive import StoredObject
from voxfleet.runners.consumption import Consumption
from voxfleet.runners.workitem import Failure, Outcome, State, Workitem

PRICE = Price("m", "", "", "on-demand", Decimal("0.36"), 2, "", 0, "paper", date(2025, 1, 1))
HEAVY = {"pydicom", "highdicom", "numpy", "scipy", "pandas", "pyarrow", "jinja2", "torch", "ray", "typer", "pydantic"}
FAILURES = (
    None,
    None,
    Failure("read", "GANTRY_TILT", "tilted by 12 degrees", refused=True),
    Failure("segment", "MODEL_ERROR", "no lung found"),
)
SECONDS = (1.0, 2.0, 0.5, 0.5)


@pytest.fixture
def place(tmp_path: Path) -> RunFolder:
    """Five workitems: two completed, one refused, one failed, one in flight; one object refused; one attempt lost."""
    place = RunFolder(f"{tmp_path}/nightly")
    place.path.mkdir()
    ledger = SqliteLedger(place.ledger)
    ledger.create_run(Run("nightly", "dir:a", "dir:b", ("m 1.0",), {}, "0.1.0", "m", datetime.now(UTC), price=PRICE))
    ledger.add(Workitem("1", f"1.{n}", "CT", 100, "dir:a", "dir:b", "m", "1.0", "none") for n in range(5))
    ledger.refuse("a/report.pdf", "NOT_DICOM", "no DICM at byte 128")
    ledger.node_up("n", "m", "o")
    (killed,) = ledger.lease("o", 1)
    ledger.start(killed, "n")
    ledger.lose([killed], "killed")
    for failure, wall_s in zip(FAILURES, SECONDS, strict=True):
        (lease,) = ledger.lease("o", 1)
        ledger.start(lease, "n")
        used = (Consumption("segment", time.time() - 9, wall_s, wall_s),)
        stored = (StoredObject("1.2", f"2.25.{lease.workitem.key}", "2.25.9", "dir:b/x", "0" * 64, 7),)
        state, left = (State.CANCELED, ()) if failure else (State.COMPLETED, stored)
        ledger.finish(lease, Outcome(lease.workitem.key, state, used, left, failure), "n")
    ledger.start(*ledger.lease("o", 1), "n")
    ledger.node_down("n", "o")
    ledger.close()
    return place


def test_the_sums_are_those_of_the_rows(place: RunFolder) -> None:
    """Counts, attempts, losses, dollars and reasons are what reading every row gives."""
    ledger = SqliteLedger(place.ledger)
    now, rows = standing(ledger, ledger.run(), PRICE), summarise(ledger, PRICE)
    assert now.progress.counts == rows.counts
    assert (now.attempts, now.lost) == (rows.attempts, rows.lost) == (6, 1)
    # The sums are of the clock's own digits, rows of microseconds: of 20 ms or so.
    assert now.progress.usd == pytest.approx(rows.money.total, rel=Decimal("1e-3"))
    assert now.progress.usd_per_completed == pytest.approx(rows.money.per_completed, rel=Decimal("1e-3"))
    assert [(each.code, each.stage, each.count, each.example) for each in now.troubles] == [
        (each.code, each.stage, each.count, each.message) for each in rows.failures
    ]
    assert now.warnings == rows.warnings
    assert (now.stage_s(AttemptClass.COMPLETED), now.stage_s(*AttemptClass)) == (3.0, 4.0)
    ledger.close()


def test_eta(place: RunFolder) -> None:
    """What is left over the rate of the last minutes."""
    ledger = SqliteLedger(place.ledger)
    now = standing(ledger, ledger.run(), PRICE).progress
    assert now.counts.open == 1
    assert now.eta_s == pytest.approx(1 / now.per_s)
    ledger.close()


def test_what_is_printed(place: RunFolder) -> None:
    """Counts, reasons, dollars, what the stages' seconds gave; no DICOM, Ray, tables or parser is imported."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "voxfleet", "status", str(place.path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "2 completed, 1 refused, 1 failed, 1 open" in done.stdout
    assert "6 attempts, 1 of them lost" in done.stdout
    # 3 of 4 seconds, 0.5 of 4, 0.5 of 4.
    assert "of 4 s of stages 75.0% gave results, 12.5% refusals, 12.5% failures and losses" in done.stdout
    assert "1 failed MODEL_ERROR (segment), for example: no lung found" in done.stdout
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert not imported & HEAVY


def test_a_run_that_is_not_there(tmp_path: Path) -> None:
    """An error in one line, and its exit code."""
    command = [sys.executable, "-m", "voxfleet", "status", str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error RUN_FOLDER: ")
    assert len(done.stderr.splitlines()) == 1
