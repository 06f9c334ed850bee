"""The HTML page of one run: how far it is, what it cost, what went wrong, every series."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from ..enrich.prov_json import without_secrets
from .page import Link, bar, render

MOST_ROWS = 2000
"""Series listed on the page, those in trouble first; all of them are in the table beside it."""

ORDER = ("failed", "refused", "in flight", "waiting", "completed")
"""Results in the order in which people want to see them."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Series by where they stand; `unusable` are source objects that never became work."""

    completed: int = 0
    refused: int = 0
    failed: int = 0
    in_flight: int = 0
    waiting: int = 0
    unusable: int = 0

    @property
    def all(self) -> int:
        """Series with a model to run, refused ones included, unusable objects not."""
        return self.completed + self.refused + self.failed + self.in_flight + self.waiting

    @property
    def settled(self) -> int:
        """Series for which nothing is left to do."""
        return self.completed + self.refused + self.failed


@dataclass(frozen=True, slots=True)
class Spending:
    """Dollars of a run: ``total = useful + wasted + refused + in_flight + overhead``.

    Attributes
    ----------
    per_completed : Decimal or None
        Total over completed series; None while there is none.
    budget : Decimal or None
        Cap of the run; None for none.
    price : str
        In words: what an hour of which machine costs; of several, each.
    price_source : str
        Where the price was read.
    price_dated : date
        When that source was made; the oldest of several.
    """

    total: Decimal
    useful: Decimal
    wasted: Decimal
    refused: Decimal
    in_flight: Decimal
    overhead: Decimal
    per_completed: Decimal | None
    budget: Decimal | None
    price: str
    price_source: str
    price_dated: date


@dataclass(frozen=True, slots=True)
class StageTotal:
    """One stage over all attempts."""

    stage: str
    attempts: int
    wall_s: float
    cpu_s: float
    gpu_s: float
    usd: Decimal


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason for which series were refused or failed, with an example."""

    result: str
    stage: str
    code: str
    count: int
    example: str
    message: str


@dataclass(frozen=True, slots=True)
class SeriesLine:
    """One series with one model.

    Attributes
    ----------
    result : str
        ``completed``, ``refused``, ``failed``, ``in flight`` or ``waiting``.
    stage, code, message : str
        Of its failure; empty for none.
    page : str
        Path of its page relative to the run's, with ``/``; empty for none.
    """

    series_instance_uid: str
    modality: str
    model: str
    instances: int
    result: str
    stage: str
    code: str
    message: str
    attempts: int
    wall_s: float
    usd: Decimal
    page: str = ""


@dataclass(frozen=True, slots=True)
class RunPage:
    """All that the page of a run says.

    Attributes
    ----------
    models : tuple of str
        ``name version``.
    created, at : datetime
        When the run was begun, and when these figures were true; aware.
    per_s : float
        Series settled per second of late; 0 where nothing moves.
    eta_s : float or None
        Seconds until nothing is left; None if nothing moves.
    lost : int
        Of the attempts, those that ended with their worker or machine.
    """

    name: str
    source: str
    target: str
    models: tuple[str, ...]
    created: datetime
    at: datetime
    totals: Totals
    attempts: int
    lost: int
    per_s: float
    eta_s: float | None
    spending: Spending
    stages: tuple[StageTotal, ...]
    reasons: tuple[Reason, ...]
    series: tuple[SeriesLine, ...]
    warnings: tuple[str, ...] = ()
    files: tuple[Link, ...] = ()


def run_report(page: RunPage) -> str:
    """One self-contained HTML document; nothing is fetched, and no attribute of a patient is in it."""
    listed = sorted(page.series, key=_urgency)[:MOST_ROWS]
    totals, spent = page.totals, page.spending
    shares = (
        ("completed", "Completed", totals.completed),
        ("refused", "Refused", totals.refused),
        ("failed", "Failed", totals.failed),
        ("flight", "In flight", totals.in_flight),
        ("waiting", "Waiting", totals.waiting),
    )
    money = (
        ("Useful", "attempts that completed", spent.useful),
        ("Wasted", "attempts that failed or were lost", spent.wasted),
        ("Refused", "finding out that a series breaks a rule", spent.refused),
        ("In flight", "not yet decided", spent.in_flight),
        ("Start-up and idle", "nodes with nothing to do", spent.overhead),
    )
    return render(
        "run.html",
        page=page,
        totals=totals,
        spending=spent,
        source=without_secrets(page.source),
        target=without_secrets(page.target),
        shares=shares,
        money=money,
        stage_bar=bar((stage.stage, stage.wall_s) for stage in page.stages),
        listed=listed,
        left_out=len(page.series) - len(listed),
        several_models=len({line.model for line in page.series}) > 1,
    )


def _urgency(line: SeriesLine) -> tuple[int, str, str, str]:
    place = ORDER.index(line.result) if line.result in ORDER else len(ORDER)
    return place, line.code, line.series_instance_uid, line.model
