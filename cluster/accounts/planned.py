"""Planned: what a plan said of a run, beside what it took."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ... import Error
from .bill import Bill

MOST_NAMED = 4
"""Machines of a plan that an error names."""


class BadPlan(Error):
    """A file that is no plan, or a plan that says nothing of a run's machine; names the file."""

    code = "BAD_PLAN"

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(file, reason)

    def __str__(self) -> str:
        return f"{self.args[0]}: {self.args[1]}"


@dataclass(frozen=True, slots=True)
class Planned:
    """One figure: what was planned, with the ends of its 95 % interval, and what it became."""

    what: str
    low: float
    middle: float
    high: float
    actual: float

    @property
    def inside(self) -> bool:
        """Whether it became what the interval says."""
        return self.low <= self.actual <= self.high

    @property
    def relative(self) -> float | None:
        """How far it is off the middle, relatively; None where that is nothing."""
        return (self.actual - self.middle) / self.middle if self.middle else None


@dataclass(frozen=True, slots=True)
class PlanCheck:
    """A plan's figures beside a run's.

    Attributes
    ----------
    option : str
        The plan's option that the run is held against.
    series : int
        That were planned.
    """

    option: str
    series: int
    figures: tuple[Planned, ...]


def read_plan(path: Path) -> Mapping[str, Any]:
    """The document that ``voxfleet plan --json`` wrote.

    Raises
    ------
    BadPlan
        If it is none.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise BadPlan(str(path), f"cannot be read: {exc}") from exc
    if not isinstance(document, dict) or not isinstance(document.get("options"), list) or not document.get("series"):
        raise BadPlan(str(path), "is no plan; write one with `voxfleet plan ... --json > plan.json`")
    return document


def check_plan(plan: Mapping[str, Any], bill: Bill, name: str) -> PlanCheck:
    """The plan's option for the run's machine, with the number of nodes nearest to the run's, beside its bill.

    Dollars are those of machines, as in a plan. A run of fewer series than were planned shows so in
    its hours and dollars, and not in its cents a series.

    Raises
    ------
    BadPlan
        If the plan has no option for the machine, or lacks figures.
    """
    price = bill.price
    try:
        wanted = (price.machine, price.region, price.market)
        here = [each for each in plan["options"] if (each["machine"], each["region"], each["market"]) == wanted]
        if not here:
            planned = sorted({f"{each['machine']} {each['region']} {each['market']}" for each in plan["options"]})
            more = f" and {len(planned) - MOST_NAMED} more" if len(planned) > MOST_NAMED else ""
            raise BadPlan(name, f"says nothing of {price.where}, only of {', '.join(planned[:MOST_NAMED])}{more}")
        option = min(here, key=lambda each: (abs(each["nodes"] - bill.most_nodes), each["nodes"]))
        series, usd, hours = int(plan["series"]), option["usd"], option["hours"]
        cents = {end: usd[end] / series * 100 for end in ("low", "middle", "high")}
        actual_cents = float(bill.node_usd) / bill.completed * 100 if bill.completed else 0.0
        figures = (
            _figure("hours", hours, bill.hours),
            _figure("US$ of machines", usd, float(bill.node_usd)),
            _figure("cents a series", cents, actual_cents),
        )
    except (KeyError, TypeError, ValueError) as exc:
        raise BadPlan(name, f"lacks {exc}: was it written by another version?") from exc
    return PlanCheck(f"{option['nodes']} x {price.where}", series, figures)


def _figure(what: str, planned: Mapping[str, float], actual: float) -> Planned:
    return Planned(what, float(planned["low"]), float(planned["middle"]), float(planned["high"]), actual)
