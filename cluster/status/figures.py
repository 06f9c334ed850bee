"""Records of a run's figures: what `summary` makes, and status, report and tables show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from ...runners.run_report import Reason, StageTotal
from ..accounts.spent import PricedNodes
from ..ledger import Counts, Event, Refusal, Run
from ..prices.price import Price
from .progress import Progress


@dataclass(frozen=True, slots=True)
class SeriesRow:
    """One series with one model: where it stands, why, and what it took over all its attempts.

    Attributes
    ----------
    state : str
        ``SCHEDULED``, ``IN PROGRESS``, ``COMPLETED`` or ``CANCELED``.
    result : str
        ``waiting``, ``in flight``, ``completed``, ``refused`` or ``failed``.
    stage, code, reason : str
        Of the last failure; empty for none.
    usd : Decimal
        Direct: the seconds of nodes that its stages had.
    usd_loaded : Decimal
        With its part of start-up, idle and drain.
    """

    key: str
    study_instance_uid: str
    series_instance_uid: str
    modality: str
    instances: int
    bytes: int | None
    model: str
    model_version: str
    state: str
    result: str
    stage: str
    code: str
    reason: str
    attempts: int
    fails: int
    losses: int
    node: str
    ended: datetime | None
    wall_s: float
    cpu_s: float
    gpu_s: float
    peak_bytes: int
    bytes_in: int
    bytes_out: int
    usd: Decimal
    usd_loaded: Decimal
    stored: tuple[str, ...]
    repairs: tuple[str, ...]
    failed_features: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One model's part of a run."""

    model: str
    completed: int
    refused: int
    failed: int
    waiting: int
    wall_s: float
    cpu_s: float
    gpu_s: float
    usd: Decimal


@dataclass(frozen=True, slots=True)
class Money:
    """A run's dollars: ``total = useful + wasted + refused + in_flight + overhead``.

    Attributes
    ----------
    wasted : Decimal
        On attempts that failed or were lost.
    refused : Decimal
        On finding out that a series breaks a rule.
    overhead : Decimal
        Start-up, idle and drain.
    per_completed : Decimal or None
        Total over completed series; None while there is none.
    """

    total: Decimal
    useful: Decimal
    wasted: Decimal
    refused: Decimal
    in_flight: Decimal
    overhead: Decimal
    per_completed: Decimal | None


@dataclass(frozen=True, slots=True)
class RunSummary:
    """All figures of a run.

    Attributes
    ----------
    price : Price
        The run's; nodes may have others.
    nodes : tuple of PricedNodes
        All nodes by their prices.
    prices : mapping of str to tuple of Price
        By key of a workitem, those of the nodes that its attempts were on, where they are not the run's alone.
    """

    run: Run
    at: datetime
    progress: Progress
    attempts: int
    lost: int
    money: Money
    price: Price
    nodes: tuple[PricedNodes, ...]
    prices: Mapping[str, tuple[Price, ...]]
    warnings: tuple[str, ...]
    models: tuple[ModelRow, ...]
    stages: tuple[StageTotal, ...]
    failures: tuple[Reason, ...]
    series: tuple[SeriesRow, ...]
    refusals: tuple[Refusal, ...]
    events: tuple[Event, ...]

    @property
    def counts(self) -> Counts:
        """How many workitems stand where."""
        return self.progress.counts
