"""The budget governor: how much more may be begun so that the cap holds when all of it is paid.

Pure: amounts in, a decision out. What is not yet billed must be reserved, or the run overshoots
(by 2 to 8 % in simulation): what is in flight, the seconds until nodes that drain are gone,
and the seconds by which the meter lags.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from ... import Error

ALARMS = (Decimal("0.5"), Decimal("0.8"), Decimal("0.95"))
"""Shares of the budget at which a run says so."""

DRAIN_S = Decimal(60)
"""How long nodes live, and cost, after the last stage has ended."""

LAG_S = Decimal(60)
"""By how much the count of dollars may be behind."""


class BudgetError(Error):
    """A budget that cannot be kept: not positive, or smaller than one series."""

    code = "BAD_BUDGET"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)


class Mode(StrEnum):
    """What a driver does: lease more, or only finish what is in flight."""

    RUN = "run"
    DRAIN = "drain"


@dataclass(frozen=True, slots=True)
class Position:
    """Where a run stands with its money.

    Attributes
    ----------
    spent_usd : Decimal
        Paid so far, for all nodes.
    in_flight : int
        Workitems leased and not ended.
    item_usd : Decimal
        What one workitem is reckoned to cost: high, and not the mean.
    burn_usd_per_s : Decimal
        What all nodes that are up cost per second.
    longest_s : Decimal
        What one workitem may take: as long as it runs, nodes that are idle cost too.
    settle_s : Decimal
        How long nodes cost after the last stage, and by how much the count of dollars may be behind.
    """

    spent_usd: Decimal
    in_flight: int
    item_usd: Decimal
    burn_usd_per_s: Decimal = Decimal(0)
    longest_s: Decimal = Decimal(0)
    settle_s: Decimal = DRAIN_S + LAG_S

    def __post_init__(self) -> None:
        amounts = (self.spent_usd, self.item_usd, self.burn_usd_per_s, self.longest_s, self.settle_s)
        if min(amounts) < 0 or self.in_flight < 0:
            raise BudgetError(f"a position with negative amounts: {self.spent_usd}, {self.item_usd}, {self.in_flight}")

    def reserved_usd(self, more: int = 0) -> Decimal:
        """What will still have to be paid if `more` workitems are begun and then nothing."""
        flying = self.in_flight + more
        waiting_usd = self.longest_s * self.burn_usd_per_s if flying else Decimal(0)
        return max(flying * self.item_usd, waiting_usd) + self.settle_s * self.burn_usd_per_s


def check_budget(budget_usd: Decimal | None, item_usd: Decimal, settle_usd: Decimal = Decimal(0)) -> None:
    """Raise BudgetError unless at least one workitem, and its node until it is gone, can be paid from the budget."""
    if budget_usd is None:
        return
    if not budget_usd.is_finite() or budget_usd <= 0:
        raise BudgetError(f"{budget_usd} US$ is no budget")
    least_usd = item_usd + settle_usd
    # What a node costs before its first series comes on top of the least, and is not known.
    if budget_usd < item_usd or (settle_usd and budget_usd <= least_usd):
        parts = (
            f"{item_usd:.6f} US$, and {settle_usd:.6f} US$ until its node is gone"
            if settle_usd
            else f"{item_usd:.6f} US$"
        )
        reason = f"{budget_usd} US$ does not pay for one series, reckoned at {parts}"
        raise BudgetError(f"{reason}; give --budget more than {least_usd:.6f}")


def affordable(budget_usd: Decimal | None, position: Position, wanted: int) -> int:
    """How many of `wanted` further workitems may be begun; all of them without a budget."""
    if budget_usd is None:
        return wanted
    if position.spent_usd + position.reserved_usd(1) > budget_usd:
        return 0
    if position.item_usd == 0:
        return wanted
    left = budget_usd - position.spent_usd - position.settle_s * position.burn_usd_per_s
    return max(0, min(wanted, int(left / position.item_usd) - position.in_flight))


def mode(budget_usd: Decimal | None, position: Position) -> Mode:
    """RUN while one more workitem can be paid to its end."""
    return Mode.RUN if affordable(budget_usd, position, 1) == 1 else Mode.DRAIN


def alarms_passed(budget_usd: Decimal | None, before_usd: Decimal, after_usd: Decimal) -> tuple[Decimal, ...]:
    """Shares of the budget that spending passed between two readings."""
    if budget_usd is None:
        return ()
    return tuple(share for share in ALARMS if before_usd < share * budget_usd <= after_usd)
