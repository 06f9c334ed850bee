"""The governor itself over simulated runs: whatever workitems take, what is paid in the end is below the cap."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from threading import Event
from typing import Any

import pytest
from voxfleet.cluster.accounts.spent import spent_on_lives
from voxfleet.cluster.budgets.governor import BudgetSpent, Governor
from voxfleet.cluster.budgets.limits import Limits
from voxfleet.cluster.commands import observer
from voxfleet.cluster.ledger import AttemptClass, Counts, Lived, Usage
from voxfleet.cluster.prices.price import Price

BEGIN = datetime(2026, 11, 1, tzinfo=UTC)


@dataclass
class PaperLedger:
    """What the governor reads of a ledger, by a clock of its own."""

    now_s: float = 0.0
    ups: list[float] = field(default_factory=list)
    prices: list[Price | None] = field(default_factory=list)
    downs: dict[int, float] = field(default_factory=dict)
    ended: int = 0
    wall_s: float = 0.0

    def at(self, seconds: float) -> datetime:
        """A moment of the run."""
        return BEGIN + timedelta(seconds=seconds)

    def now(self) -> datetime:
        """What its clock shows."""
        return self.at(self.now_s)

    def lived(self) -> tuple[Lived, ...]:
        """All nodes so far, each by itself."""
        prices = self.prices or [None] * len(self.ups)
        ends = [self.downs.get(i, self.now_s) for i in range(len(self.ups))]
        return tuple(
            Lived(price, 1, int(i not in self.downs), end - up)
            for i, (up, end, price) in enumerate(zip(self.ups, ends, prices, strict=False))
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


def simulate(seed: int, *dearer: Decimal) -> tuple[Decimal, Decimal, bool]:
    """Dollars paid for all nodes, budget, and whether work had to be killed; some nodes are so many times dearer."""
    chance = random.Random(seed)
    number, mean_s, scatter = chance.randint(1, 8), chance.uniform(10, 60), chance.choice([0.0, 0.3, 1.2])
    price = Price("toy", "", "", "spot", Decimal(repr(chance.uniform(1, 30))), 1, "", 0, "paper", date(2026, 11, 1))
    settle_s = chance.choice([2, 20, 60])
    seconds = chance.uniform(2, 8) * mean_s + 2 * settle_s + 60
    own = [replace(price, usd_per_hour=price.usd_per_hour * times) for times in dearer]
    prices = [chance.choice([None, *own]) if own else None for _ in range(number)]
    budget = Decimal(repr(seconds)) * sum((each or price).usd_per_s for each in prices)
    ledger = PaperLedger(prices=prices)
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
    return spent_on_lives(ledger.lived(), price), budget, killed


def test_never_over_the_cap_in_two_hundred_runs() -> None:
    """Nodes that come late, items that take ten times the mean, nodes that linger: the cap holds in each run.

    Most of the budget is used, and both ways to stop are met: drained, and killed.
    """
    runs = [simulate(seed) for seed in range(200)]
    assert all(paid <= budget for paid, budget, _ in runs)
    assert sum(paid for paid, _, _ in runs) > sum(budget for _, budget, _ in runs) / 2
    assert {killed for _, _, killed in runs} == {True, False}


def test_never_over_the_cap_with_nodes_of_other_prices() -> None:
    """A third of the nodes cost three times the run's price, a third a quarter of it: the cap holds in each run."""
    runs = [simulate(seed, Decimal(3), Decimal("0.25")) for seed in range(60)]
    assert all(paid <= budget for paid, budget, _ in runs)
    assert sum(paid for paid, _, _ in runs) > sum(budget for _, budget, _ in runs) / 2
    assert {killed for _, _, killed in runs} == {True, False}


def test_each_node_that_lingers_is_paid_at_its_own_price() -> None:
    """Two nodes up for 10 s at 0.01 and 0.03 a second: 0.40 spent; 60 s and 2 s to go cost 2.48, in all 2.88.

    Another item of 20 s is 0.60 at the dearest price, and 0.80 with both nodes up. At the run's price it were 1.84.
    """
    price = Price("toy", "", "", "spot", Decimal(36), 1, "", 0, "paper", date(2026, 11, 1))
    dear = replace(price, usd_per_hour=Decimal(108))
    for cap, kills, leases in (
        ("2.87", True, False),
        ("2.89", False, False),
        ("3.67", False, False),
        ("3.69", False, True),
    ):
        ledger = PaperLedger(now_s=10, ups=[0.0, 0.0], prices=[None, dear], ended=1, wall_s=10.0)
        governor = Governor(ledger, price, Decimal(cap), Event(), Limits(settle_s=Decimal(60)))  # type: ignore[arg-type]
        assert governor.spent_usd == Decimal("0.4")
        assert governor.may_lease(0) is leases
        if kills:
            with pytest.raises(BudgetSpent):
                governor.check()
        else:
            governor.check()


def test_the_budget_is_looked_at_each_second_also_where_a_look_took_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process stands still for half a minute as it looks; a second later it looks again: the budget is spent."""
    now = [1000.0]
    monkeypatch.setattr("voxfleet.cluster.commands.monotonic", lambda: now[0])

    class StoodStill(PaperLedger):
        """A ledger whose answer is read late."""

        def counts(self) -> Counts:
            """As on paper."""
            now[0] += 30
            return super().counts()

    ledger = StoodStill(now_s=10, ups=[0.0])
    price = Price("toy", "", "", "spot", Decimal(360), 1, "", 0, "paper", date(2026, 11, 1))
    governor = Governor(ledger, price, Decimal("11.30"), Event(), Limits(settle_s=Decimal(60)))  # type: ignore[arg-type]
    observe = observer(ledger, governor, lambda **_: None)  # type: ignore[arg-type]
    ledger.now_s, now[0] = 52, now[0] + 1
    with pytest.raises(BudgetSpent):
        observe()


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


@pytest.mark.parametrize("unseen_s", [40, 42])
def test_what_is_spent_while_the_ledger_is_away_is_reckoned(unseen_s: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dollar known after 10 s, ten cents a second since: with 6.20 to go 11.20 after 40 s, and 11.40 after 42 s."""
    now = [1000.0]
    monkeypatch.setattr("voxfleet.cluster.budgets.governor.monotonic", lambda: now[0])
    ledger = PaperLedger(now_s=10, ups=[0.0])
    price = Price("toy", "", "", "spot", Decimal(360), 1, "", 0, "paper", date(2026, 11, 1))
    governor = Governor(ledger, price, Decimal("11.30"), Event(), Limits(settle_s=Decimal(60)))  # type: ignore[arg-type]
    governor.check()
    now[0] += unseen_s
    if unseen_s == 40:
        governor.check_unseen()
        Governor(ledger, price, None, Event()).check_unseen()  # type: ignore[arg-type]
    else:
        with pytest.raises(BudgetSpent, match=r"5.200000 of 11.30 US\$ are spent, reckoned for 42 s"):
            governor.check_unseen()
        assert governor.out_of_budget


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
