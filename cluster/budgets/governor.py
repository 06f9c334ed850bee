"""Whether one more workitem may be leased: not after a stop, not past the budget or another limit."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from threading import Event
from time import monotonic

from ... import Error
from ..accounts.spent import burn_usd_per_s, dearest_usd_per_s, spent_on_lives
from ..ledger import Counts, Ledger, Lived
from ..prices.price import Price
from .budget import Mode, Position, alarms_passed, check_budget, mode
from .limits import Limits, Settled, pause_reason, thinned

FIRST_ITEM_S = Decimal(10)
"""What a workitem is reckoned to take before any has ended."""

READ_FACTOR = 10.0
"""Limits are looked at again after so many times as long as the last look took: a tenth of the time at most."""

LOOK_S = 0.01
"""What a look costs at first. One that took twice as long as the last, and as this, counts for no more: meanwhile the
process may have stood still, and is not to be blind for ten times as long."""

MARGIN = Decimal(2)
"""A workitem may take this many times the mean of those that ended."""

KILL_S = Decimal(2)
"""Within this time somebody looks, and what is in flight is killed: so much of the budget is kept back for it."""

_LOG = logging.getLogger(__name__)


class BudgetSpent(Error):
    """The last of the budget is being spent: what is in flight is given up, to be done again another time."""

    code = "BUDGET_SPENT"

    def __init__(self, spent_usd: Decimal, budget_usd: Decimal, known: str = "") -> None:
        super().__init__(spent_usd, budget_usd, known)

    def __str__(self) -> str:
        return f"{self.args[0]:.6f} of {self.args[1]} US$ are spent{self.args[2]}"


class Governor:
    """Asked before each lease by whatever drives a run.

    Parameters
    ----------
    stop : threading.Event
        Set by the user's Ctrl-C.
    limits : Limits
        On hours, on dollars of a series, on failures, and on nodes.
    alarm : callable
        Told of each alarm, as strings by name, beside ledger and log.

    Raises
    ------
    BudgetError
        If the budget does not pay for one workitem; in a run that is yet to begin, also for its node until it is gone.
    """

    def __init__(
        self,
        ledger: Ledger,
        price: Price,
        budget_usd: Decimal | None,
        stop: Event,
        limits: Limits | None = None,
        alarm: Callable[[Mapping[str, str]], None] | None = None,
    ) -> None:
        self._ledger, self._price, self._budget_usd = ledger, price, budget_usd
        self._limits = limits or Limits()
        self._alarm = alarm
        self.stop = stop
        # What an earlier command of this run spent raises no alarm again.
        lived = ledger.lived()
        self._spent_usd = spent_on_lives(lived, price)
        self._burn_usd_per_s, self._known = burn_usd_per_s(lived, price), monotonic()
        self.out_of_budget = False
        self.paused = ""
        self._crowded = False
        self._latest = ledger.now()
        first_usd_per_s = Decimal(0) if lived else price.usd_per_s
        check_budget(budget_usd, self._item_s() * dearest_usd_per_s(lived, price), self._settle_s * first_usd_per_s)
        self._begun = self._look_again = monotonic()
        self._look_s = LOOK_S
        self._readings = [self._settled(ledger.counts())]

    @property
    def spent_usd(self) -> Decimal:
        """Paid so far, for all nodes of the run; alarms are raised as it passes shares of the budget."""
        return self._paid(self._ledger.lived())

    def _paid(self, lived: Sequence[Lived]) -> Decimal:
        spent = spent_on_lives(lived, self._price)
        for share in alarms_passed(self._budget_usd, self._spent_usd, spent):
            self._raise_alarm("budget_alarm", f"{share:.0%} of the budget of {self._budget_usd} US$ is spent", spent)
        self._spent_usd = spent
        self._burn_usd_per_s, self._known = burn_usd_per_s(lived, self._price), monotonic()
        return spent

    @property
    def left_s(self) -> float | None:
        """Seconds until this command's deadline; None: it has none."""
        return None if self._limits.wall_s is None else self._limits.wall_s - (monotonic() - self._begun)

    def may_lease(self, in_flight: int) -> bool:
        """Whether one more workitem may be begun with `in_flight` already on their way."""
        if self.stop.is_set() or self._pauses():
            return False
        if self._budget_usd is None:
            return True
        if self._clock_went_back():
            return False
        item_s, lived = self._item_s(), self._ledger.lived()
        position = Position(
            spent_usd=self._paid(lived),
            in_flight=in_flight,
            item_usd=item_s * dearest_usd_per_s(lived, self._price),
            burn_usd_per_s=burn_usd_per_s(lived, self._price),
            longest_s=item_s,
            settle_s=self._settle_s,
        )
        self.out_of_budget = mode(self._budget_usd, position) is Mode.DRAIN
        return not self.out_of_budget

    def check(self) -> None:
        """Raise BudgetSpent if what is in flight would pass the budget before it is killed and its nodes are gone.

        Reserves see to it that this does not happen, as long as workitems take what they were reckoned to.
        """
        if self._budget_usd is None:
            return
        spent_usd, lingering_usd = self.spent_usd, self._settle_s * self._burn_usd_per_s
        if lingering_usd and spent_usd + lingering_usd >= self._budget_usd:
            self.out_of_budget = True
            raise BudgetSpent(spent_usd, self._budget_usd)

    def check_unseen(self) -> None:
        """As `check`, while the ledger does not answer: by what was last known of the nodes, and the time since."""
        unseen_s = Decimal(repr(monotonic() - self._known))
        spent_usd = self._spent_usd + unseen_s * self._burn_usd_per_s
        lingering_usd = self._settle_s * self._burn_usd_per_s
        if self._budget_usd is not None and lingering_usd and spent_usd + lingering_usd >= self._budget_usd:
            self.out_of_budget = True
            raise BudgetSpent(spent_usd, self._budget_usd, f", reckoned for {unseen_s:.0f} s without the ledger")

    def _clock_went_back(self) -> bool:
        """Whether the ledger's clock, by which nodes are paid, went back by more than the reserves cover.

        What was spent then counts for less, and the cap would not hold: this command begins nothing more.
        """
        now = self._ledger.now()
        back_s = (self._latest - now).total_seconds()
        self._latest = max(self._latest, now)
        if back_s <= self._settle_s:
            return False
        self.paused = f"the ledger's clock went back by {back_s:.0f} s, and what is spent counts for less; set it right"
        self._raise_alarm("limit", self.paused, self._spent_usd)
        return True

    def _pauses(self) -> bool:
        """Whether a limit is passed; then this command begins nothing more, or not while there are too many nodes."""
        if self.paused and not self._crowded:
            return True
        now = monotonic()
        if now < self._look_again:
            return bool(self.paused)
        counts = self._ledger.counts()
        reading = self._settled(counts)
        if reading.series != self._readings[-1].series:
            self._readings = thinned([*self._readings, reading])
        else:
            self._readings[-1] = replace(self._readings[-1], nodes=reading.nodes)
        item_s = 0.0 if self._limits.wall_s is None else float(self._item_s())
        reason = pause_reason(self._limits, self._readings, now - self._begun, item_s)
        ended = monotonic()
        self._look_s = min(ended - now, 2 * max(self._look_s, LOOK_S))
        self._look_again = ended + (READ_FACTOR - 1) * self._look_s
        self._crowded = self._limits.nodes is not None and reading.nodes > self._limits.nodes
        if reason and counts.open and not self.paused:
            self._raise_alarm("limit", reason, self._spent_usd)
        self.paused = reason if counts.open else ""
        return bool(self.paused)

    def _settled(self, counts: Counts) -> Settled:
        spent = Decimal(0) if self._limits.usd_per_series is None else self.spent_usd
        nodes = 0 if self._limits.nodes is None else sum(each.up - each.heads for each in self._ledger.lived())
        # What no node has the memory for will fail, and is to stop a storm of it as failures do.
        return Settled(counts.total - counts.open + counts.outgrown, counts.failed + counts.outgrown, spent, nodes)

    def _raise_alarm(self, kind: str, text: str, spent_usd: Decimal) -> None:
        """Say it to the ledger, to the log, and to whoever asked to be told."""
        self._ledger.event("warning", kind, text)
        _LOG.warning("%s", text)
        if self._alarm is not None:
            at = datetime.now(UTC).isoformat(timespec="seconds")
            amounts = {"spent_usd": f"{spent_usd:.6f}", "budget_usd": str(self._budget_usd or "")}
            self._alarm({"run": self._ledger.run().name, "kind": kind, "text": text, "at": at} | amounts)

    @property
    def _settle_s(self) -> Decimal:
        """From the last look until nodes are gone."""
        return KILL_S + self._limits.settle_s

    def _item_s(self) -> Decimal:
        usage = self._ledger.usage()
        attempts, wall_s = sum(each.attempts for each in usage), sum(each.wall_s for each in usage)
        return MARGIN * Decimal(wall_s) / attempts if attempts else FIRST_ITEM_S
