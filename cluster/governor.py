"""Whether one more workitem may be leased: not after a stop, not past the budget."""

from __future__ import annotations

import logging
from decimal import Decimal
from threading import Event

from .budget import Mode, Position, alarms_passed, check_budget, mode
from .cost import spent_on_nodes
from .ledger import Ledger
from .price import Price

FIRST_ITEM_S = Decimal(10)
"""What a workitem is reckoned to take before any has ended."""

MARGIN = Decimal(2)
"""A workitem may take this many times the mean of those that ended."""

_LOG = logging.getLogger(__name__)


class Governor:
    """Asked before each lease by whatever drives a run.

    Parameters
    ----------
    stop : threading.Event
        Set by the user's Ctrl-C.

    Raises
    ------
    BudgetError
        If the budget does not pay for one workitem.
    """

    def __init__(self, ledger: Ledger, price: Price, budget_usd: Decimal | None, stop: Event) -> None:
        self._ledger, self._price, self._budget_usd = ledger, price, budget_usd
        self.stop = stop
        self._spent_usd = Decimal(0)
        self.out_of_budget = False
        check_budget(budget_usd, self._item_usd())

    @property
    def spent_usd(self) -> Decimal:
        """Paid so far, for all nodes of the run; alarms are raised as it passes shares of the budget."""
        spent = spent_on_nodes(self._ledger.nodes(), self._price)
        for share in alarms_passed(self._budget_usd, self._spent_usd, spent):
            text = f"{share:.0%} of the budget of {self._budget_usd} US$ is spent"
            self._ledger.event("warning", "budget_alarm", text)
            _LOG.warning("%s", text)
        self._spent_usd = spent
        return spent

    def may_lease(self, in_flight: int) -> bool:
        """Whether one more workitem may be begun with `in_flight` already on their way."""
        if self.stop.is_set():
            return False
        if self._budget_usd is None:
            return True
        position = Position(self.spent_usd, in_flight, self._item_usd())
        self.out_of_budget = mode(self._budget_usd, position) is Mode.DRAIN
        return not self.out_of_budget

    def _item_usd(self) -> Decimal:
        usage = self._ledger.usage()
        attempts, wall_s = sum(each.attempts for each in usage), sum(each.wall_s for each in usage)
        seconds = MARGIN * Decimal(wall_s) / attempts if attempts else FIRST_ITEM_S
        return seconds * self._price.usd_per_s
