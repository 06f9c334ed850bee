"""A plan beside what became of it."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from voxfleet.cluster.accounts.bill import Bill
from voxfleet.cluster.accounts.planned import BadPlan, check_plan, read_plan
from voxfleet.cluster.accounts.traffic import Amounts
from voxfleet.cluster.prices.price import Price

TOY = Price("toy", "", "here", "on-demand", Decimal(36), 2, "", 0, "paper", date(2026, 11, 1))
BILL = Bill("r", TOY, (), Decimal("0.60"), (), Amounts({}, {}), completed=30, hours=0.5, most_nodes=3, gpu_share=0.0)


def option(nodes: int, machine: str = "toy", **figures: dict[str, float]) -> dict[str, object]:
    """One option as `voxfleet plan --json` writes it."""
    ends = {"hours": {"low": 0.4, "middle": 0.45, "high": 0.6}, "usd": {"low": 0.7, "middle": 0.8, "high": 0.9}}
    return {"machine": machine, "region": "here", "market": "on-demand", "nodes": nodes, **ends, **figures}


def plan(*options: dict[str, object]) -> dict[str, object]:
    """A plan of 40 series."""
    return {"series": 40, "options": list(options)}


def test_each_figure_by_hand() -> None:
    """Half an hour is inside; 60 cents for 30 of 40 series are too few, and 2 cents each are as planned."""
    # Planned: 0.8 US$ / 40 = 2 cents each, between 1.75 and 2.25. Actual: 0.60 / 30 = 2 cents each.
    check = check_plan(plan(option(1, hours={"low": 9, "middle": 9, "high": 9}), option(4)), BILL, "p.json")
    assert check.option == "4 x toy here on-demand"
    hours, usd, cents = check.figures
    assert (hours.actual, hours.inside) == (0.5, True)
    assert (usd.actual, usd.inside, usd.relative) == (0.6, False, pytest.approx(-0.25))
    assert (cents.low, cents.middle, cents.high) == pytest.approx((1.75, 2.0, 2.25))
    assert (cents.actual, cents.inside) == (pytest.approx(2.0), True)


def test_a_plan_of_other_machines_says_nothing() -> None:
    """The error names what the plan is of."""
    with pytest.raises(BadPlan, match="g4dn"):
        check_plan(plan(option(1, "g4dn.xlarge")), BILL, "p.json")
    with pytest.raises(BadPlan, match=r"m0 here on-demand, .* and 26 more$"):
        check_plan(plan(*(option(1, f"m{number}") for number in range(30))), BILL, "p.json")


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", '{"series": 0, "options": []}', json.dumps(plan({"machine": "toy"}))]
)
def test_what_is_no_plan_is_refused(tmp_path: Path, content: str) -> None:
    """Broken JSON, another document, an option without figures."""
    file = tmp_path / "plan.json"
    file.write_text(content)
    with pytest.raises(BadPlan, match=r"plan\.json"):
        check_plan(read_plan(file), BILL, str(file))
