"""Drivers that lease under one limit: however many ask at once, together they hold no more than may be."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from voxfleet.cluster.drivers.leasing import lease_some
from voxfleet.cluster.ledger import Ledger, Run
from voxfleet.cluster.ledgers.postgres import PostgresLedger
from voxfleet.cluster.ledgers.sqlite import SqliteLedger
from voxfleet.runners.workitem import Outcome, State, Workitem

MOST = 3
"""Workitems that may be in flight at once, as if the money were for no more."""

ITEMS = 120
DRIVERS = 6


def workitem(number: int) -> Workitem:
    """The workitem of series 1.NUMBER."""
    return Workitem("1", f"1.{number}", "CT", 1, "dir:a", "dir:b", "m", "1", "none")


@pytest.fixture(params=["postgres", "sqlite"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Ledger]:
    """Opens a connection of its own to one ledger with many workitems."""

    def connect() -> Ledger:
        if request.param == "postgres":
            return PostgresLedger(os.environ["VOXFLEET_TEST_POSTGRES"], tmp_path.name)
        return SqliteLedger(tmp_path / "ledger.sqlite")

    if request.param == "postgres":
        request.getfixturevalue("postgres")
    ledger = connect()
    ledger.create_run(Run("r", "dir:a", "dir:b", ("m 1",), {}, "0.1.0", "local", datetime.now(UTC)))
    ledger.add(workitem(n) for n in range(ITEMS))
    return connect


def test_together_they_hold_no_more_than_may_be(opened: Callable[[], Ledger]) -> None:
    """Six drivers with room for three workitems among them: never more than three are kept, and all are done.

    The first that they have they keep until there are three.
    """
    lock, full, kept, most = threading.Lock(), threading.Event(), 0, 0

    def drive(number: int) -> None:
        nonlocal kept, most
        ledger, chance = opened(), random.Random(number)
        while ledger.counts().open:
            for lease in lease_some(ledger, f"d{number}", 1, 0, 60.0, lambda flying: flying < MOST) or ():
                with lock:
                    kept += 1
                    most = max(most, kept)
                    if kept == MOST:
                        full.set()
                assert full.wait(50)
                time.sleep(chance.uniform(0, 0.004))
                with lock:
                    kept -= 1
                assert ledger.finish(lease, Outcome(lease.workitem.key, State.COMPLETED))
            time.sleep(chance.uniform(0, 0.004))
        ledger.close()

    with ThreadPoolExecutor(DRIVERS) as threads:
        list(threads.map(drive, range(DRIVERS)))
    assert most == MOST
    assert opened().counts().completed == ITEMS


def test_what_may_not_be_and_what_is_not_there_are_told_apart(opened: Callable[[], Ledger]) -> None:
    """None while nothing may be begun; empty where all is taken; what was given back has no attempt."""
    ledger = opened()
    assert lease_some(ledger, "a", 1, 0, 60.0, lambda flying: False) is None
    answers = iter([True, False])
    ledger.lease("b", 1)
    assert lease_some(ledger, "a", 1, 0, 60.0, lambda flying: next(answers)) == ()
    assert (ledger.counts().in_progress, len(ledger.attempts())) == (1, 1)
    ledger.lease("b", ITEMS)
    assert lease_some(ledger, "a", 1, 0, 60.0, lambda flying: True) == ()


def test_as_many_as_asked_for_or_one(opened: Callable[[], Ledger]) -> None:
    """Five at once where there is room for five; one where there is not; none of it where others came before."""
    ledger = opened()
    assert len(lease_some(ledger, "a", 5, 0, 60.0, lambda flying: flying < 5) or ()) == 5
    assert len(lease_some(ledger, "a", 5, 5, 60.0, lambda flying: flying < 8) or ()) == 1
    assert lease_some(ledger, "a", 5, 8, 60.0, lambda flying: flying < 8) is None
    answers = iter([True, False])
    assert lease_some(ledger, "b", 5, 0, 60.0, lambda flying: next(answers)) == ()
    assert ledger.counts().in_progress == 6
