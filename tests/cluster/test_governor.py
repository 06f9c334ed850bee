"""The governor itself over simulated runs: whatever workitems take, what is paid in the end is below the cap."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from threading import Event
from typing import Any

import pytest
from voxfleet.cluster.budgets import governor as governor_module
from voxfleet.cluster.budgets.governor import BudgetSpent, Governor
from voxfleet.cluster.budgets.limits import Limits
from voxfleet.cluster.ledger import AttemptClass, Counts, Node, Usage
from voxfleet.cluster.prices.price import Price

BEGIN = datetime(2026, 11, 1, tzinfo=UTC)


@dataclass
class PaperLedger:
    """What the governor reads of a ledger, by a clock of its own."""

    now_s: float = 0.0
    ups: list[float] = field(default_factory=list)
    downs: dict[int, float] = field(default_factory=dict)
    ended: int = 0
    wall_s: float = 0.0

    def at(self, seconds: float) -> datetime:
        """A moment of the run."""
        return BEGIN + timedelta(seconds=seconds)

    def now(self) -> datetime:
        """What its clock shows."""
        return self.at(self.now_s)

    def nodes(self) -> tuple[Node, ...]:
        """All nodes so far."""
        lives = [(self.ups[i], self.downs.get(i)) for i in range(len(self.ups))]
        return tuple(
            Node(f"n{i}", "toy", self.at(up), None if down is None else self.at(down), self.at(down or self.now_s))
            for i, (up, down) in enumerate(lives)
        )

    def usage(self) -> tuple[Usage, ...]:
        """What the ended attempts used."""
        one = Usage("m", AttemptClass.COMPLETED, self.ended, self.wall_s, 0.0, 0.0, 0, 0)
        return (one,) if self.ended else ()

    def counts(self) -> Counts:
        """There is always more to do."""
        return Counts(scheduled=10_000, in_progress=0, completed=self.ended, refused=0, failed=0)

    def run(self) -> Any:
        """The run, which has a name."""
        return type("Run", (), {"name": "paper"})

    def event(self, *_: str) -> None:
        """Nobody reads them."""


def simulate(seed: int) -> tuple[Decimal, Decimal, bool]:
    """Dollars paid for all nodes, budget, and whether work had to be killed."""
    chance = random.Random(seed)
    number, mean_s, scatter = chance.randint(1, 8), chance.uniform(10, 60), chance.choice([0.0, 0.3, 1.2])
    price = Price("toy", "", "", "spot", Decimal(repr(chance.uniform(1, 30))), 1, "", 0, "paper", date(2026, 11, 1))
    settle_s = chance.choice([2, 20, 60])
    seconds = chance.uniform(2, 8) * mean_s + 2 * settle_s + 60
    budget = number * Decimal(repr(seconds)) * price.usd_per_s
    ledger = PaperLedger()
    governor = Governor(ledger, price, budget, Event(), Limits(settle_s=Decimal(settle_s)))  # type: ignore[arg-type]
    starts = sorted(chance.uniform(0, 40) for _ in range(number))
    busy: dict[int, tuple[float, float]] = {}
    killed = False
    while True:
        ledger.now_s += 1
        while len(ledger.ups) < number and starts[len(ledger.ups)] <= ledger.now_s:
            ledger.ups.append(starts[len(ledger.ups)])
        for node, (begun, until) in list(busy.items()):
            if until <= ledger.now_s:
                ledger.ended, ledger.wall_s = ledger.ended + 1, ledger.wall_s + until - begun
                del busy[node]
        try:
            governor.check()
        except BudgetSpent:
            killed = True
            break
        for node in range(len(ledger.ups)):
            if node not in busy and governor.may_lease(len(busy)):
                takes = mean_s * chance.lognormvariate(-scatter * scatter / 2, scatter)
                busy[node] = (ledger.now_s, ledger.now_s + takes)
        if governor.out_of_budget and not busy:
            break
    for node in range(len(ledger.ups)):
        ledger.downs[node] = ledger.now_s + chance.uniform(0, settle_s)
    return governor_module.spent_on_nodes(ledger.nodes(), price), budget, killed


def test_never_over_the_cap_in_two_hundred_runs() -> None:
    """Nodes that come late, items that take ten times the mean, nodes that linger: the cap holds in each run.

    Most of the budget is used, and both ways to stop are met: drained, and killed.
    """
    runs = [simulate(seed) for seed in range(200)]
    assert all(paid <= budget for paid, budget, _ in runs)
    assert sum(paid for paid, _, _ in runs) > sum(budget for _, budget, _ in runs) / 2
    assert {killed for _, _, killed in runs} == {True, False}


@pytest.mark.parametrize("at_s", [50, 52])
def test_what_lingers_is_paid_before_the_cap(at_s: int) -> None:
    """A dollar in ten seconds, a cap of 11.30, 60 s for the node to go: at 50 s all goes on, at 52 s it is late."""
    ledger = PaperLedger(now_s=at_s, ups=[0.0])
    price = Price("toy", "", "", "spot", Decimal(360), 1, "", 0, "paper", date(2026, 11, 1))
    governor = Governor(ledger, price, Decimal("11.30"), Event(), Limits(settle_s=Decimal(60)))  # type: ignore[arg-type]
    if at_s == 50:
        governor.check()
    else:
        with pytest.raises(BudgetSpent):
            governor.check()


@pytest.mark.parametrize(("back_s", "goes_on"), [(61, True), (63, False)])
def test_a_clock_that_goes_back_ends_a_run_with_a_budget(back_s: int, goes_on: bool) -> None:
    """60 s are kept back for nodes to go and 2 s to kill: what counts for less by more than that holds no cap."""
    ledger = PaperLedger(now_s=600, ups=[0.0])
    price = Price("toy", "", "", "spot", Decimal(36), 1, "", 0, "paper", date(2026, 11, 1))
    governor = Governor(ledger, price, Decimal(100), Event(), Limits(settle_s=Decimal(60)))  # type: ignore[arg-type]
    assert governor.may_lease(0)
    ledger.now_s -= back_s
    assert governor.may_lease(0) is goes_on
    assert ("clock went back" in governor.paused) is not goes_on
    ledger.now_s += 30
    assert governor.may_lease(0) is goes_on, "this command begins nothing more"
