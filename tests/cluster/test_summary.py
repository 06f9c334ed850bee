"""The figures of a run: counted by hand on a small one, quick on a large one."""

from __future__ import annotations

import json
import time
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from pyarrow import parquet
from voxfleet.cluster.ledger import Lease, Run
from voxfleet.cluster.ledgers.sqlite import SqliteLedger
from voxfleet.cluster.prices.price import Price
from voxfleet.cluster.status.progress import standing
from voxfleet.cluster.status.summary import summarise, to_json, to_parquet
from voxfleet.enrich.archives.archive import StoredObject
from voxfleet.runners.consumption import Consumption
from voxfleet.runners.workitem import Failure, Outcome, State, Workitem

PRICE = Price("m", "", "", "on-demand", Decimal("0.36"), 2, "", 0, "paper", date(2025, 1, 1))
"""A hundredth of a cent a second, and old."""


def workitem(number: int, model: str = "ct-threshold") -> Workitem:
    """The workitem of series 1.NUMBER."""
    return Workitem("1", f"1.{number}", "CT", 100, "dir:a", "dir:b", model, "1.0", "none", bytes=1000 - number)


def outcome(lease: Lease, failure: Failure | None, began: float, wall_s: float) -> Outcome:
    """An outcome after one stage."""
    used = (Consumption("segment", began, wall_s, 2 * wall_s, wall_s / 2, 5, 6, 7),)
    if failure is not None:
        return Outcome(lease.workitem.key, State.CANCELED, used, failure=failure)
    stored = StoredObject("1.2", f"2.25.{lease.workitem.series_instance_uid}", "2.25.9", "dir:b/x", "0" * 64, 7)
    return Outcome(lease.workitem.key, State.COMPLETED, used, (stored,), repairs=("tilt removed",))


@pytest.fixture
def ledger(tmp_path: Path) -> SqliteLedger:
    """Six workitems of two models: three completed, one refused, one failed, one waiting; one object refused."""
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    ledger.create_run(Run("r", "dir:a", "dir:b", ("ct-threshold 1.0",), {}, "0.1.0", "m", datetime.now(UTC)))
    ledger.add([*(workitem(n) for n in range(5)), workitem(5, "covid-opacity-hu")])
    ledger.refuse("a/report.pdf", "NOT_DICOM", "no DICM at byte 128")
    ledger.node_up("n", "m", "o")
    began = time.time()
    for failure in (
        None,
        None,
        None,
        Failure("read", "GANTRY_TILT", "tilted by 12 degrees", refused=True),
        Failure("segment", "MODEL_ERROR", "no lung found"),
    ):
        (lease,) = ledger.lease("o", 1)
        ledger.start(lease, "n")
        time.sleep(0.02)
        ledger.finish(lease, outcome(lease, failure, time.time() - 0.02, 0.02), "n")
    assert time.time() - began < 60
    ledger.node_down("n", "o")
    return ledger


def test_counted_by_hand(ledger: SqliteLedger) -> None:
    """Results, reasons and models are those of the fixture."""
    summary = summarise(ledger, PRICE)
    assert [row.result for row in summary.series] == [*["completed"] * 3, "refused", "failed", "waiting"]
    assert [(row.result, row.stage, row.code, row.count) for row in summary.failures] == [
        ("refused", "read", "GANTRY_TILT", 1),
        ("failed", "segment", "MODEL_ERROR", 1),
        ("refused", "search", "NOT_DICOM", 1),
    ]
    assert [(m.model, m.completed, m.refused, m.failed, m.waiting) for m in summary.models] == [
        ("covid-opacity-hu 1.0", 0, 0, 0, 1),
        ("ct-threshold 1.0", 3, 1, 1, 0),
    ]
    (stage,) = summary.stages
    assert (stage.stage, stage.attempts) == ("segment", 5)
    assert (stage.wall_s, stage.cpu_s, stage.gpu_s) == pytest.approx((0.1, 0.2, 0.05))
    first = summary.series[0]
    assert (first.attempts, first.stored, first.repairs, first.node) == (1, ("2.25.1.0",), ("tilt removed",), "n")
    assert (summary.attempts, summary.lost) == (5, 0)


def test_money_adds_up(ledger: SqliteLedger) -> None:
    """The parts are the whole, and the whole is the price of the node's life; loaded costs add up to it too."""
    summary = summarise(ledger, PRICE)
    money = summary.money
    parts = money.useful + money.wasted + money.refused + money.in_flight + money.overhead
    assert float(parts) == pytest.approx(float(money.total), rel=1e-6)
    (node,) = ledger.nodes()
    assert node.down is not None
    assert float(money.total) == pytest.approx((node.down - node.up).total_seconds() * 0.0001, rel=1e-6)
    assert 0 < money.wasted < money.useful < money.total
    # Six rows, each rounded to 1e-10 dollars, of a total of some 1e-5.
    assert float(sum(row.usd_loaded for row in summary.series)) == pytest.approx(float(money.total), abs=6e-10)
    assert money.per_completed == money.total / 3
    assert summary.progress.usd == money.total
    assert "days old" in summary.warnings[0]


def test_eta(ledger: SqliteLedger) -> None:
    """What is left over the rate of the last minutes: one of six, at five in the time since the first."""
    now = standing(ledger, ledger.run(), PRICE).progress
    assert now.counts.open == 1
    assert now.eta_s == pytest.approx(1 / now.per_s)
    assert 0 < now.eta_s < 10


def test_before_anything_ran(tmp_path: Path) -> None:
    """A run that has not begun has no ETA and costs nothing."""
    ledger = SqliteLedger(tmp_path / "l.sqlite")
    ledger.create_run(Run("r", "dir:a", "dir:b", (), {}, "0.1.0", "m", datetime.now(UTC)))
    ledger.add([workitem(1)])
    summary = summarise(ledger, PRICE)
    assert (summary.progress.eta_s, summary.money.total, summary.money.per_completed) == (None, 0, None)
    json.loads(to_json(summary))


def test_json(ledger: SqliteLedger) -> None:
    """The JSON document has every figure; amounts keep all their digits."""
    summary = summarise(ledger, PRICE)
    document = json.loads(to_json(summary))
    assert Decimal(document["money"]["total"]) == summary.money.total
    assert document["progress"]["counts"]["completed"] == 3
    assert [row["code"] for row in document["series"]][3:5] == ["GANTRY_TILT", "MODEL_ERROR"]
    assert document["price"]["dated"] == "2025-01-01"
    assert document["run"]["name"] == "r"


def test_parquet(ledger: SqliteLedger, tmp_path: Path) -> None:
    """The table has a row per series with exact amounts, and no temporary file is left."""
    summary = summarise(ledger, PRICE)
    to_parquet(summary, tmp_path / "series.parquet")
    table = parquet.read_table(tmp_path / "series.parquet")
    assert table.num_rows == 6
    assert table["usd"].to_pylist() == [row.usd for row in summary.series]
    assert table["stored"].to_pylist()[0] == ["2.25.1.0"]
    assert table["ended"].to_pylist()[0] == summary.series[0].ended
    assert table["bytes"].to_pylist()[0] == 1000
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.slow
def test_status_of_all_of_nlst(tmp_path: Path) -> None:
    """Taking in 126,068 series and asking where the run stands take no time that grows with their square."""
    ledger = SqliteLedger(tmp_path / "l.sqlite")
    ledger.create_run(Run("r", "dir:a", "dir:b", (), {}, "0.1.0", "m", datetime.now(UTC)))
    began = time.perf_counter()
    assert ledger.add(workitem(n) for n in range(126_068)) == 126_068
    assert time.perf_counter() - began < 120
    ledger.lease("o", 100)
    best = min(_seconds(ledger) for _ in range(3))
    assert best < 2


def _seconds(ledger: SqliteLedger) -> float:
    began = time.perf_counter()
    standing(ledger, ledger.run(), PRICE)
    return time.perf_counter() - began
