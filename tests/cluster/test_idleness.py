"""When a driver with nothing to lease leaves: by a real ledger, and a clock that the test sets."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from voxfleet.cluster.drivers.idleness import Idleness
from voxfleet.cluster.ledger import Lease, Run
from voxfleet.cluster.ledgers.sqlite import SqliteLedger
from voxfleet.runners.node_memory import NodeMemory
from voxfleet.runners.workitem import Failure, Outcome, State, Workitem

MEMORY = NodeMemory(2**33)
NODE, TO_COME = (MEMORY, ()), (None, ())


class Clock:
    """Seconds that pass when the test says so."""

    now = 1000.0

    def __call__(self) -> float:
        """What it shows."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock by which drivers idle."""
    made = Clock()
    monkeypatch.setattr("voxfleet.cluster.drivers.idleness.monotonic", made)
    return made


@pytest.fixture
def ledger(tmp_path: Path) -> SqliteLedger:
    """A run of one workitem."""
    made = SqliteLedger(tmp_path / "ledger.sqlite")
    made.create_run(Run("r", "dir:/a", "dir:/b", ("m 1",), {}, "0.1.0", "toy", datetime.now(UTC)))
    made.add([Workitem("1", "1.1", "CT", 1, "dir:/a", "dir:/b", "m", "1", "none")])
    return made


def ended_by(ledger: SqliteLedger, lease: Lease, failure: Failure) -> None:
    """The attempt failed so."""
    ledger.finish(lease, Outcome(lease.workitem.key, State.CANCELED, failure=failure))


@pytest.mark.parametrize(("idle_s", "stays_s"), [(None, 120), (300.0, 300)])
def test_a_driver_leaves_what_others_hold(
    ledger: SqliteLedger, clock: Clock, idle_s: float | None, stays_s: int
) -> None:
    """After twice the time of a lease, or as told; what it did meanwhile counts from anew."""
    ledger.lease("other", 1)
    idleness = Idleness(ledger, 60.0, idle_s)
    clock.now += 50
    idleness.ends()
    clock.now += stays_s
    assert not idleness.is_over([NODE])
    clock.now += 1
    assert idleness.is_over([NODE])


@pytest.mark.parametrize("comes_back", [False, True])
def test_a_pause_after_an_outage_is_waited_for_by_whom_nobody_begins_again(
    ledger: SqliteLedger, clock: Clock, comes_back: bool
) -> None:
    """The item may be tried again in 15 s, or in 16 min: who is begun again then leaves, and any other stays."""
    (lease,) = ledger.lease("other", 1)
    ended_by(ledger, lease, Failure("store", "ARCHIVE_UNAVAILABLE", "503", retryable=True, lost=True, outage=True))
    idleness = Idleness(ledger, 60.0, 120.0 if comes_back else None)
    clock.now += 121
    assert idleness.is_over([NODE]) is comes_back
    clock.now += 119
    assert not idleness.is_over([NODE]), "asked again when as much time has passed"


def test_machines_that_are_yet_to_come_are_waited_for(ledger: SqliteLedger, clock: Clock) -> None:
    """Something waits for them; where others have taken it, they are not needed."""
    drivers = [Idleness(ledger, 60.0, idle_s) for idle_s in (None, 120.0)]
    clock.now += 121
    assert [each.is_over([TO_COME]) for each in drivers] == [False, False]
    ledger.lease("other", 1)
    clock.now += 121
    assert [each.is_over([TO_COME]) for each in drivers] == [True, True]


def test_what_its_nodes_are_too_small_for_is_not_waited_for(ledger: SqliteLedger, clock: Clock) -> None:
    """It ran out of memory on nodes as large; a driver with larger ones, or with some that are to come, stays."""
    (lease,) = ledger.lease("other", 1, 60, MEMORY)
    ended_by(ledger, lease, Failure("segment", "OUT_OF_MEMORY", "9.1 GiB passed the cap"))
    drivers = [Idleness(ledger, 60.0, None) for _ in range(3)]
    clock.now += 121
    found = [
        each.is_over(nodes) for each, nodes in zip(drivers, ([NODE], [(NodeMemory(2**35), ())], [TO_COME]), strict=True)
    ]
    assert found == [True, False, False]
