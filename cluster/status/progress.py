"""Where a run stands, from the ledger's indexes and sums alone: quick also where there are 126,068 workitems."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from ..accounts.spent import PricedNodes, priced_nodes
from ..ledger import Ledger
from ..ledgers.attempt import AttemptClass
from ..ledgers.run_record import Run
from ..ledgers.standing import Counts, Recent, Trouble, Usage
from ..prices.price import Price, stale_note

RATE_WINDOW_S = 300.0
"""The rate that the ETA goes by is of the last five minutes."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is.

    Attributes
    ----------
    eta_s : float or None
        Seconds until nothing is left at the rate of the last minutes; None if nothing moves.
    usd : Decimal
        What the nodes cost so far.
    """

    counts: Counts
    per_s: float
    eta_s: float | None
    usd: Decimal

    @property
    def usd_per_completed(self) -> Decimal | None:
        """Dollars so far over completed series; None while there is none."""
        return self.usd / self.counts.completed if self.counts.completed else None


@dataclass(frozen=True, slots=True)
class Standing:
    """What `voxfleet status` tells without reading the run's items.

    Attributes
    ----------
    usage : tuple of Usage
        What ended attempts used.
    troubles : tuple of Trouble
        Why series were refused or failed, the most frequent first.
    price : Price
        The run's; nodes may have others.
    nodes : tuple of PricedNodes
        All nodes by their prices.
    warnings : tuple of str
        Of the prices.
    """

    run: Run
    progress: Progress
    usage: tuple[Usage, ...]
    troubles: tuple[Trouble, ...]
    price: Price
    nodes: tuple[PricedNodes, ...]
    warnings: tuple[str, ...]

    @property
    def attempts(self) -> int:
        """Attempts that ended, and those in flight."""
        return sum(each.attempts for each in self.usage) + self.progress.counts.in_progress

    @property
    def lost(self) -> int:
        """Attempts that were lost to killed workers or machines."""
        return sum(each.attempts for each in self.usage if each.outcome is AttemptClass.LOST)

    def stage_s(self, *kinds: AttemptClass) -> float:
        """Wall seconds of the stages of attempts that ended so."""
        return sum(each.wall_s for each in self.usage if each.outcome in kinds)


def progress_of(counts: Counts, recent: Recent, usd: Decimal) -> Progress:
    """How far a run is, by its counts, its rate and its dollars."""
    eta_s = counts.open / recent.per_s if recent.per_s else (0.0 if counts.open == 0 else None)
    return Progress(counts, recent.per_s, eta_s, usd)


def standing(ledger: Ledger, run: Run, price: Price) -> Standing:
    """Where `run`, which is the ledger's, stands now."""
    nodes = priced_nodes((each.price or price, each.lives, each.seconds) for each in ledger.lived())
    usd = sum((each.usd for each in nodes), Decimal(0))
    warning = stale_note([price, *(each.price for each in nodes)], ledger.now().date())
    return Standing(
        run=run,
        progress=progress_of(ledger.counts(), ledger.recent(RATE_WINDOW_S), usd),
        usage=ledger.usage(),
        troubles=ledger.troubles(),
        price=price,
        nodes=nodes,
        warnings=(warning,) if warning else (),
    )
