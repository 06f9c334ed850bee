"""Limits of a run: worked out on paper, and asked of a governor over a real ledger."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from threading import Event

import pytest
import typer
from voxfleet.cluster.budgets.budget import BudgetError
from voxfleet.cluster.budgets.governor import READ_FACTOR, Governor
from voxfleet.cluster.budgets.limits import Limits, Settled, pause_reason, thinned
from voxfleet.cluster.duration import named_seconds
from voxfleet.cluster.ledger import Counts, Run
from voxfleet.cluster.ledgers.sqlite import SqliteLedger
from voxfleet.cluster.prices.price import Price
from voxfleet.runners.node_memory import NodeMemory
from voxfleet.runners.workitem import Failure, Outcome, State, Workitem

TOY = Price("toy", "", "", "on-demand", Decimal(360), 2, "", 0, "paper", date(2026, 11, 1))


def at(series: int, failed: int, usd: int = 0) -> Settled:
    """One reading."""
    return Settled(series, failed, Decimal(usd))


@pytest.mark.parametrize(
    ("readings", "paused"),
    [
        ([at(0, 0), at(19, 19)], False),  # all fail, but of fewer than 20
        ([at(0, 0), at(20, 1)], False),  # 1 of 20 is 5 %, and not more
        ([at(0, 0), at(20, 2)], True),  # 2 of 20
        ([at(0, 0), at(1000, 50)], False),  # 50 of 1000 are 5 %
        ([at(0, 0), at(800, 0), at(1000, 11)], True),  # 11 of the last 200
        ([at(0, 0), at(800, 40), at(1000, 50)], False),  # 10 of the last 200
        ([at(100, 100), at(120, 101)], False),  # what failed before this command does not count
    ],
)
def test_failures_by_hand(readings: list[Settled], paused: bool) -> None:
    """More than 5 % of the last 200 series, and of 20 at least."""
    assert bool(pause_reason(Limits(), readings, 0, 0)) is paused


def test_failures_can_be_let_pass() -> None:
    """A share of 1 never pauses."""
    assert pause_reason(Limits(failure_share=1), [at(0, 0), at(300, 300)], 0, 0) == ""


@pytest.mark.parametrize(("usd", "paused"), [(20, False), (21, True)])
def test_dollars_of_a_series(usd: int, paused: bool) -> None:
    """Twenty series for 20 dollars keep a limit of one dollar; for 21 they do not."""
    reason = pause_reason(Limits(usd_per_series=Decimal(1)), [at(0, 0), at(20, 0, usd)], 0, 0)
    assert bool(reason) is paused


@pytest.mark.parametrize(("elapsed_s", "paused"), [(49, False), (51, True)])
def test_nothing_is_begun_that_would_end_after_the_deadline(elapsed_s: float, paused: bool) -> None:
    """With 50 s a series, the last one of 100 s begins before the 50th."""
    assert bool(pause_reason(Limits(wall_s=100), [at(0, 0)], elapsed_s, 50)) is paused


def test_thinned_readings_give_the_same_answer() -> None:
    """Readings of 3,000 series, dropped as one goes, pause at the same series as all of them do."""
    every = [at(number, number // 15) for number in range(3000)]
    kept = [every[0]]
    for number, reading in enumerate(every[1:], start=2):
        kept = thinned([*kept, reading])
        assert pause_reason(Limits(), kept, 0, 0) == pause_reason(
            Limits(), every[max(0, number - 400) : number], 0, 0
        ) or (number < 400)
    assert len(kept) < 210


@pytest.mark.parametrize(
    "wrong",
    [
        {"usd_per_series": Decimal(0)},
        {"usd_per_series": Decimal("NaN")},
        {"wall_s": 0.0},
        {"failure_share": 2.0},
        {"nodes": 0},
    ],
)
def test_limits_that_cannot_be_kept_are_refused(wrong: dict) -> None:
    """Nothing a series, no number, no time, more than all, no node."""
    with pytest.raises(BudgetError):
        Limits(**wrong)


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SqliteLedger:
    """A run of 60 series, whose governor looks each time that it is asked."""
    monkeypatch.setattr("voxfleet.cluster.budgets.governor.READ_FACTOR", 0.0)
    found = SqliteLedger(tmp_path / "ledger.sqlite")
    found.create_run(Run("r", "dir:/s", "dir:/t", ("m 1",), {}, "0", "toy", datetime.now(UTC)))
    found.add(Workitem("1.2", f"1.2.{n}", "CT", 10, "dir:/s", "dir:/t", "m", "1", "none", bytes=9) for n in range(60))
    return found


def settle(ledger: SqliteLedger, number: int, *, good: bool, code: str = "BROKEN") -> None:
    """Settle so many series, one way or the other."""
    broken = Failure("segment", code, "no", retryable=False)
    for lease in ledger.lease("o", number):
        key = lease.workitem.key
        ledger.start(lease, "n")
        ledger.finish(
            lease, Outcome(key, State.COMPLETED) if good else Outcome(key, State.CANCELED, failure=broken), "n"
        )


def test_a_poisoned_run_pauses_and_says_why(ledger: SqliteLedger) -> None:
    """Eighteen good series and two broken ones: nothing more is begun, and the ledger has the reason."""
    governor = Governor(ledger, TOY, None, Event())
    settle(ledger, 18, good=True)
    assert governor.may_lease(0)
    settle(ledger, 2, good=False)
    assert not governor.may_lease(0)
    assert "2 of the last 20" in governor.paused
    assert ledger.events()[-1].kind == "limit"


def test_a_look_that_took_long_does_not_hide_a_poisoned_run(
    ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process stood still while it looked: the next look is not put off until hundreds of series have failed."""
    now = [1000.0]
    monkeypatch.setattr("voxfleet.cluster.budgets.governor.READ_FACTOR", READ_FACTOR)
    monkeypatch.setattr("voxfleet.cluster.budgets.governor.monotonic", lambda: now[0])
    governor, counts = Governor(ledger, TOY, None, Event()), ledger.counts

    def late() -> Counts:
        now[0] += 30
        return counts()

    with monkeypatch.context() as stood_still:
        stood_still.setattr(ledger, "counts", late)
        assert governor.may_lease(0)
    settle(ledger, 20, good=False)
    now[0] += 0.25
    assert not governor.may_lease(0)
    assert "20 of the last 20" in governor.paused


def test_what_no_node_has_the_memory_for_pauses_the_run_as_failures_do(ledger: SqliteLedger) -> None:
    """They still wait for larger nodes; where there is one, they pause nothing."""
    governor = Governor(ledger, TOY, None, Event())
    settle(ledger, 18, good=True)
    settle(ledger, 2, good=False, code="OUT_OF_MEMORY")
    assert not governor.may_lease(0)
    assert "2 of the last 20" in governor.paused
    assert ledger.counts().failed == 0
    large = NodeMemory(2**36)
    ledger.lease("large", 1, 60, large)
    assert Governor(ledger, TOY, None, Event()).may_lease(0)
    settle(ledger, 30, good=True)
    assert ledger.counts().outgrown == 0


def test_the_same_command_goes_on_after_a_pause(ledger: SqliteLedger) -> None:
    """A new governor counts from where it begins."""
    settle(ledger, 20, good=False)
    assert Governor(ledger, TOY, None, Event()).may_lease(0)


def test_a_deadline_that_is_too_short_begins_nothing(ledger: SqliteLedger) -> None:
    """One second for series that are reckoned at ten."""
    governor = Governor(ledger, TOY, None, Event(), Limits(wall_s=1))
    assert not governor.may_lease(0)
    assert "deadline" in governor.paused


def test_more_nodes_than_may_be_pause_the_run(ledger: SqliteLedger) -> None:
    """Two nodes where one may be: nothing is begun, said once; the same command goes on when one has left."""
    ledger.node_up("a", "toy", "o")
    ledger.head_up("h", "toy", "o")
    assert Governor(ledger, TOY, None, Event(), Limits(nodes=1)).may_lease(0), "the head of a cell takes no work"
    ledger.node_up("b", "toy", "o")
    governor = Governor(ledger, TOY, None, Event(), Limits(nodes=1))
    assert not governor.may_lease(0)
    assert "2 nodes are up, and 1 may be" in governor.paused
    assert not governor.may_lease(0)
    assert [event.kind for event in ledger.events()] == ["limit"]
    ledger.node_down("b", "o")
    assert governor.may_lease(0)
    assert not governor.paused


def test_a_run_that_is_to_begin_pays_for_a_series_and_its_node(ledger: SqliteLedger) -> None:
    """Ten cents a second: 10 s of a series, 2 s to look, no time to settle are 1.20; a run with a node needs 1.00."""
    limits = Limits(settle_s=Decimal(0))
    with pytest.raises(BudgetError, match=r"more than 1\.200000"):
        Governor(ledger, TOY, Decimal("1.1"), Event(), limits)
    assert Governor(ledger, TOY, Decimal("1.3"), Event(), limits).may_lease(0)
    ledger.node_up("a", "toy", "o")
    assert not Governor(ledger, TOY, Decimal("1.1"), Event(), limits).may_lease(0)


@pytest.mark.parametrize(("nodes", "settle_s", "leased"), [(1, 1, True), (1, 120, False), (9, 1, True), (9, 2, False)])
def test_seconds_in_which_nodes_drain_are_kept_back(
    ledger: SqliteLedger, nodes: int, settle_s: int, leased: bool
) -> None:
    """Ten cents a second and node, a budget of 12 dollars, ten seconds for the first item, as all nodes wait for it."""
    # Two seconds more to see that it must end. 1 node: 1.00 + 0.30 fit, 1.00 + 12.20 do not.
    # 9 nodes: 9.00 + 2.70 fit, 9.00 + 3.60 do not.
    for number in range(nodes):
        ledger.node_up(f"n{number}", "toy", "o")
    governor = Governor(ledger, TOY, Decimal(12), Event(), Limits(settle_s=Decimal(settle_s)))
    assert governor.may_lease(0) is leased


@pytest.mark.parametrize(("budget", "leased"), [("3.91", True), ("3.89", False)])
def test_the_head_of_a_cell_is_paid_from_the_budget(ledger: SqliteLedger, budget: str, leased: bool) -> None:
    """A node at ten cents a second and a head at twenty: as long as the node has a series, both cost."""
    # The first series is reckoned at 10 s, 3.00 of both; until they are gone 3 s more are 0.90.
    ledger.heartbeat("o", 0.0)
    ledger.node_up("n", "toy", "o")
    ledger.head_up("h", "head", "o", "", replace(TOY, machine="head", usd_per_hour=Decimal(720)))
    governor = Governor(ledger, TOY, Decimal(budget), Event(), Limits(settle_s=Decimal(1)))
    assert governor.may_lease(0) is leased
    ledger.head_up("h2", "head", "p", "", replace(TOY, machine="head", usd_per_hour=Decimal(720)))
    ledger.heartbeat("p", 60.0)
    before = governor.spent_usd
    time.sleep(0.02)
    assert governor.spent_usd >= before + Decimal("0.003")


@pytest.mark.parametrize(
    ("texts", "seconds"),
    [([], ()), (["segment=45m", "deliver=90s"], (("segment", 2700), ("deliver", 90)))],
)
def test_seconds_of_stages(texts: list[str], seconds: tuple) -> None:
    """What people write for the deadline of a stage."""
    assert named_seconds(texts, ("prepare", "segment", "deliver")) == seconds


@pytest.mark.parametrize("text", ["segment", "cook=5m", "segment=5", "=5m"])
def test_stages_that_are_none_are_refused(text: str) -> None:
    """No duration, no such stage, no unit."""
    with pytest.raises(typer.BadParameter):
        named_seconds([text], ("prepare", "segment", "deliver"))
