"""A ledger that waits for its database: a restart, a cut network or a full disk pauses a run and does not end it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any, cast

from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_random_exponential

from ..ledger import Ledger, LedgerUnavailable

WAIT_S = 600.0
"""For how long a driver waits for its ledger."""

LONGEST_PAUSE_S = 5.0
"""Between two tries: short enough that a run goes on soon after its database does."""

_LOG = logging.getLogger(__name__)


def nobody_minds() -> None:
    """Let a ledger be waited for."""


@dataclass(slots=True)
class Patience:
    """For how long a ledger is waited for.

    Attributes
    ----------
    wait_s : float
        From its first call that got no answer; once that is over, each call is tried once until one is answered.
    minds : callable
        Called before each wait: what it raises ends the waiting.
    """

    wait_s: float = WAIT_S
    minds: Callable[[], None] = nobody_minds


def patient(ledger: Ledger, patience: Patience | None = None) -> Ledger:
    """`ledger`, each call of which is tried again, as long as there is patience, while LedgerUnavailable is raised.

    A call that broke off while its transaction was committed may have been carried out: `finish`
    then answers False as for a lease that is no longer held, and what `lease` took without the
    driver's knowledge is given back with its other leases when it ends.
    """
    return cast("Ledger", _Patient(ledger, patience or Patience()))


class _Patient:
    def __init__(self, ledger: Ledger, patience: Patience) -> None:
        self._ledger, self._patience = ledger, patience
        self._away_since: float | None = None
        self._retry = Retrying(
            retry=retry_if_exception_type(LedgerUnavailable),
            stop=self._has_waited,
            wait=wait_random_exponential(multiplier=0.1, max=LONGEST_PAUSE_S),
            before_sleep=self._waits,
            reraise=True,
        )

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._ledger, name)

        def call(*words: Any, **options: Any) -> Any:
            answer = self._retry(method, *words, **options)
            self._away_since = None
            return answer

        return call

    def _has_waited(self, _: RetryCallState) -> bool:
        """Whether the ledger is away for longer than it is waited for, in this call and in those before it."""
        now = monotonic()
        if self._away_since is None:
            self._away_since = now
        return now - self._away_since > self._patience.wait_s

    def _waits(self, state: RetryCallState) -> None:
        if state.outcome is not None and state.attempt_number == 1:
            _LOG.warning("waiting for the ledger: %s", state.outcome.exception())
        self._patience.minds()
