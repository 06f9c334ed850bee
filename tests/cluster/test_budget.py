"""The governor: what may be begun so that the cap holds when all is paid."""

from __future__ import annotations

import random
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from voxfleet.cluster.budgets.budget import BudgetError, Mode, Position, affordable, alarms_passed, check_budget, mode

DOLLARS = st.decimals(0, 1000, places=4)


@pytest.mark.parametrize(
    ("spent", "in_flight", "item", "burn", "wanted", "expected"),
    [
        ("0", 0, "1", "0", 5, 5),  # 10 left, 5 cost 5
        ("6", 0, "1", "0", 5, 4),  # 4 left
        ("6", 3, "1", "0", 5, 1),  # 4 left, 3 of them are taken
        ("6", 4, "1", "0", 5, 0),  # all taken
        ("6", 0, "1", "0.02", 5, 1),  # 4 left, 120 s of 0.02 to drain and to learn of it: 1.60 left
        ("12", 0, "1", "0", 5, 0),  # over already
        ("0", 0, "0", "0", 5, 5),  # work that costs nothing
    ],
)
def test_by_hand(spent: str, in_flight: int, item: str, burn: str, wanted: int, expected: int) -> None:
    """Of a budget of 10 dollars, as many more as can be paid to their end."""
    position = Position(Decimal(spent), in_flight, Decimal(item), Decimal(burn))
    assert affordable(Decimal(10), position, wanted) == expected


def test_no_budget() -> None:
    """Without a budget all may be begun."""
    assert affordable(None, Position(Decimal(9999), 9, Decimal(5)), 7) == 7
    assert mode(None, Position(Decimal(9999), 9, Decimal(5))) is Mode.RUN


@given(budget=DOLLARS, spent=DOLLARS, in_flight=st.integers(0, 50), item=DOLLARS, wanted=st.integers(0, 99))
def test_never_promises_what_it_cannot_pay(
    budget: Decimal, spent: Decimal, in_flight: int, item: Decimal, wanted: int
) -> None:
    """What is spent, reserved and newly begun is never above the budget."""
    begun = affordable(budget, Position(spent, in_flight, item), wanted)
    assert 0 <= begun <= wanted
    if begun:
        assert spent + (in_flight + begun) * item <= budget


@pytest.mark.parametrize("seed", range(200))
def test_never_over_the_cap(seed: int) -> None:
    """A simulated run on many nodes that asks before each lease ends below its cap, and uses most of it."""
    chance = random.Random(seed)
    nodes, burn, cap = chance.randint(1, 40), Decimal("0.0002"), Decimal(chance.randint(20, 60))
    longest = Decimal(600)
    busy = [Decimal(0)] * nodes
    spent = Decimal(0)
    while True:
        for i in range(nodes):
            flying = sum(left > 0 for left in busy)
            position = Position(spent, flying, longest * burn, nodes * burn, longest)
            if busy[i] <= 0 and affordable(cap, position, 1):
                busy[i] = Decimal(chance.randint(100, 600))
        if not any(left > 0 for left in busy):
            break
        spent += 10 * nodes * burn
        busy = [left - 10 for left in busy]
    spent += 60 * nodes * burn  # the nodes are gone a minute later
    assert spent <= cap
    assert spent > cap * Decimal("0.5")


@pytest.mark.parametrize("budget", ["0", "-3", "nan", "0.001"])
def test_budgets_that_cannot_be_kept(budget: str) -> None:
    """Nothing, less than nothing, or less than one series costs: refused before anything is begun."""
    with pytest.raises(BudgetError):
        check_budget(Decimal(budget), Decimal("0.01"))


@pytest.mark.parametrize("budget", ["1.1", "1.2"])
def test_a_budget_that_begins_nothing_is_refused_with_the_least(budget: str) -> None:
    """A dollar for the series and 20 cents until the node is gone: 1.20 leave nothing for a node's start."""
    with pytest.raises(BudgetError, match=r"more than 1\.200000"):
        check_budget(Decimal(budget), Decimal(1), Decimal("0.2"))
    check_budget(Decimal("1.21"), Decimal(1), Decimal("0.2"))


def test_alarms() -> None:
    """Each share of the budget raises one alarm, when it is passed."""
    assert alarms_passed(Decimal(100), Decimal(40), Decimal(81)) == (Decimal("0.5"), Decimal("0.8"))
    assert alarms_passed(Decimal(100), Decimal(81), Decimal(94)) == ()
    assert alarms_passed(None, Decimal(0), Decimal(94)) == ()


def test_negative_positions_are_refused() -> None:
    """A position with negative amounts cannot be."""
    with pytest.raises(BudgetError):
        Position(Decimal(-1), 0, Decimal(1))
