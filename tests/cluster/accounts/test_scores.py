"""Dice per dollar: from a table of scores and a bill."""

from __future__ import annotations

import math
from datetime import date
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet
from voxfleet.cluster.accounts.bill import Bill, BillLine
from voxfleet.cluster.accounts.scores import BadScores, read_scores, scores_per_dollar
from voxfleet.cluster.accounts.traffic import Amounts
from voxfleet.cluster.prices.price import Price

DAY = date(2026, 11, 1)
TOY = Price("toy", "", "", "on-demand", Decimal(36), 2, "", 0, "paper", DAY)


def line(series: str, model: str, outcome: str, loaded: str) -> BillLine:
    """One line of a bill."""
    usd = Decimal(loaded)
    return BillLine("n", "toy", TOY, DAY, series, model, 1, outcome, "segment", "machine", usd, usd)


BILL = Bill(
    "r",
    TOY,
    (
        line("1", "fine 1.0", "failed", "0.01"),
        line("1", "fine 1.0", "completed", "0.03"),
        line("2", "fine 1.0", "completed", "0.02"),
        line("1", "fast 2.0", "completed", "0.001"),
        line("3", "fast 2.0", "failed", "5"),
    ),
    Decimal("5.061"),
    (),
    Amounts({}, {}),
    completed=2,
    hours=1,
    most_nodes=1,
    gpu_share=0,
)

ROWS = [
    {"series": "1", "model": "fine", "segment": "liver", "metric": "Dice", "value": 0.9},
    {"series": "1", "model": "fine", "segment": "spleen", "metric": "Dice", "value": 0.7},
    {"series": "2", "model": "fine 1.0", "segment": "liver", "metric": "Dice", "value": 1.0},
    {"series": "2", "model": "fine 1.0", "segment": "spleen", "metric": "Dice", "value": math.nan},
    {"series": "1", "model": "fast", "segment": "liver", "metric": "Dice", "value": 0.6},
    {"series": "3", "model": "fast", "segment": "liver", "metric": "Dice", "value": 0.1},
    {"series": "1", "model": "absent", "segment": "liver", "metric": "Dice", "value": 0.1},
    {"series": "1", "model": "fine", "segment": "liver", "metric": "HD95", "value": 3.0},
]


@pytest.fixture(params=["csv", "parquet"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The scores as a file of either kind."""
    file = tmp_path / f"scores.{request.param}"
    if request.param == "parquet":
        parquet.write_table(pa.Table.from_pylist(ROWS), file)
    else:
        text = [",".join(ROWS[0]), *(",".join(str(value) for value in row.values()) for row in ROWS)]
        file.write_text("\n".join(text))
    return file


def test_by_hand(table: Path) -> None:
    """The mean over series of the means over segments, over what these series cost with their failures."""
    # fine: (0.8 + 1.0) / 2 = 0.9 at (0.04 + 0.02) / 2 = 0.03 US$: 30 a dollar. fast: 0.6 at 0.001: 600 a dollar;
    # its series 3 has no result of this run.
    fast, fine = scores_per_dollar(read_scores(table, "dice"), BILL, "dice")
    assert (fast.model, fast.series, fast.mean) == ("fast 2.0", 1, pytest.approx(0.6))
    assert fast.per_dollar == pytest.approx(600)
    assert (fine.model, fine.series, fine.mean) == ("fine 1.0", 2, pytest.approx(0.9))
    assert (fine.usd_per_series, fine.per_dollar) == (Decimal("0.03"), pytest.approx(30))


def test_another_metric_is_named(table: Path) -> None:
    """What the table does not hold is refused, with what it holds."""
    with pytest.raises(BadScores, match="Dice, HD95"):
        read_scores(table, "nsd")


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", "series,model,metric,value\n1,m,dice,high\n"])
def test_what_is_no_table_of_scores_is_refused(tmp_path: Path, content: str) -> None:
    """Empty, other columns, a value that is no number."""
    file = tmp_path / "scores.csv"
    file.write_text(content)
    with pytest.raises(BadScores, match=r"scores\.csv"):
        read_scores(file, "dice")
    with pytest.raises(BadScores, match=r"nothing\.parquet"):
        read_scores(tmp_path / "nothing.parquet", "dice")
