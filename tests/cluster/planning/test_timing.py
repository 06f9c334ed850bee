"""What is learnt from measured series: lines known beforehand, and what cannot be learnt."""

from __future__ import annotations

import math
import time
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from voxfleet.cluster.ledger import Run
from voxfleet.cluster.ledgers.sqlite import SqliteLedger
from voxfleet.cluster.planning.fleet import draw_seconds
from voxfleet.cluster.planning.timing import NotMeasured, fit, timing_of, told
from voxfleet.cluster.prices.price import Price
from voxfleet.runners.consumption import Consumption
from voxfleet.runners.workitem import Outcome, State, Workitem


def test_a_line_is_found_again() -> None:
    """Seconds that are 20 + 0.5 per slice to the digit give these two and no scatter."""
    slices = np.array([50.0, 100.0, 200.0, 400.0])
    found = fit(slices, 20 + 0.5 * slices, "paper")
    assert (found.fixed_s, found.per_slice_s) == pytest.approx((20, 0.5))
    assert found.sigma == pytest.approx(0, abs=1e-9)
    assert found.freedom == 2


def test_the_scatter_is_found_again() -> None:
    """Of 2,000 series drawn about a line, line and scatter come back within a few per cent."""
    rng = np.random.default_rng(5)
    slices = rng.uniform(60, 400, 2000)
    found = fit(slices, draw_seconds(60 + 0.7 * slices, 0.3, 0.0, rng), "drawn")
    assert found.per_slice_s == pytest.approx(0.7, rel=0.05)
    assert found.sigma == pytest.approx(0.3, rel=0.05)


def test_two_series_give_a_line_through_the_origin() -> None:
    """Ratios 1 and 3 have the mean 2 where each counts relatively, and one degree of freedom."""
    # Weighted by 1/x²: slope = mean of y/x = (1 + 3) / 2.
    found = fit([100.0, 200.0], [100.0, 600.0], "paper")
    assert (found.fixed_s, found.freedom) == (0, 1)
    assert found.per_slice_s == pytest.approx(2)


def test_a_line_never_begins_below_zero() -> None:
    """Where the best line would have small series take less than nothing, it starts at the origin."""
    found = fit([100.0, 200.0, 300.0, 400.0], [10.0, 110.0, 210.0, 310.0], "paper")
    assert found.fixed_s == 0
    assert found.per_slice_s > 0


def test_more_series_make_it_surer() -> None:
    """A hundred measured series leave a smaller error than ten of the same kind."""
    rng = np.random.default_rng(2)
    slices = rng.uniform(60, 400, 1000)
    seconds = draw_seconds(60 + 0.7 * slices, 0.3, 0.0, rng)
    few, many = fit(slices[:10], seconds[:10], "few"), fit(slices[:100], seconds[:100], "many")
    assert many.relative_error(slices) < few.relative_error(slices)


@pytest.mark.parametrize(
    ("slices", "seconds"), [([100.0], [5.0]), ([100.0, 0.0], [5.0, 5.0]), ([1.0, 2.0], [5.0, 0.0])]
)
def test_too_little_is_refused(slices: list[float], seconds: list[float]) -> None:
    """One series tells nothing of the scatter; one without slices or seconds was not measured."""
    with pytest.raises(NotMeasured):
        fit(slices, seconds, "pilot")


@pytest.mark.parametrize("mean_s", [0.0, -1.0, math.inf, math.nan])
def test_a_told_figure_must_be_a_duration(mean_s: float) -> None:
    """Nothing, less than nothing and for ever are refused."""
    with pytest.raises(NotMeasured):
        told(mean_s, np.array([100.0]), 0.0)


def test_a_faster_gpu_takes_only_the_gpu_seconds_down() -> None:
    """Of 10 s, 6 on the GPU: at three times the speed 4 + 2 = 6 s, a third of them on the GPU."""
    slices = np.array([100.0])
    faster = told(10.0, slices, 0.6).faster(3.0)
    assert faster.expected_s(slices)[0] == pytest.approx(6)
    assert faster.gpu_share == pytest.approx(1 / 3)


def test_seconds_of_a_node_with_a_price_of_its_own_are_seconds(tmp_path: Path) -> None:
    """Two series of ten slices that took 20 ms each on a dear node take 2 ms a slice, whatever it costs."""
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    ledger.create_run(Run("r", "dir:/s", "dir:/t", ("m 1",), {}, "0", "toy", datetime.now(UTC)))
    ledger.add(Workitem("1", f"1.{n}", "CT", 10, "dir:/s", "dir:/t", "m", "1", "none") for n in range(2))
    dear = Price("dear", "", "", "on-demand", Decimal(900), 2, "", 0, "paper", date(2026, 11, 1))
    ledger.node_up("n", "dear", "o", "", dear)
    for lease in ledger.lease("o", 2):
        ledger.start(lease, "n")
        used = (Consumption("read", datetime.now(UTC).timestamp(), 0.02, 0.02),)
        time.sleep(0.03)
        ledger.finish(lease, Outcome(lease.workitem.key, State.COMPLETED, used), "n")
    ledger.node_down("n", "o")
    assert timing_of(ledger, "m", "a run").per_slice_s == pytest.approx(0.002)
