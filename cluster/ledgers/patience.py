"""A ledger that waits for its database: a restart, a cut network or a full disk pauses a run and does not end it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, cast

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from ..ledger import Ledger, LedgerUnavailable

WAIT_S = 600.0
"""For how long a driver waits for its ledger."""

LONGEST_PAUSE_S = 5.0
"""Between two tries: short enough that a run goes on soon after its database does."""

_LOG = logging.getLogger(__name__)


def patient(ledger: Ledger, wait_s: float = WAIT_S) -> Ledger:
    """`ledger`, each call of which is tried again for `wait_s` seconds while LedgerUnavailable is raised.

    A call that broke off while its transaction was committed may have been carried out: `finish`
    then answers False as for a lease that is no longer held, and what `lease` took without the
    driver's knowledge is given back with its other leases when it ends.
    """
    return cast("Ledger", _Patient(ledger, wait_s))


class _Patient:
    def __init__(self, ledger: Ledger, wait_s: float) -> None:
        self._ledger = ledger
        self._retry = Retrying(
            retry=retry_if_exception_type(LedgerUnavailable),
            stop=stop_after_delay(wait_s),
            wait=wait_random_exponential(multiplier=0.1, max=LONGEST_PAUSE_S),
            before_sleep=_told,
            reraise=True,
        )

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._ledger, name)
        return lambda *args, **kwargs: self._retry(method, *args, **kwargs)


def _told(state: RetryCallState) -> None:
    if state.outcome is not None and state.attempt_number == 1:
        _LOG.warning("waiting for the ledger: %s", state.outcome.exception())
