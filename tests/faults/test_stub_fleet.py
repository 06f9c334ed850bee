"""Drivers stopped, warned, cut off, poor, poisoned, or with a wrong clock: real processes, stub stages."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import psutil
import pytest
from voxfleet.cluster.ledger import AttemptClass
from voxfleet.cluster.ledgers.run_record import NOTICE
from voxfleet.runners.workitem import State

if TYPE_CHECKING:
    from conftest import Account, Postgres, StubFleet, Wire

MakeFleet = Callable[..., "StubFleet"]
TTL_S = 5.0
"""Of drivers that are to be taken for dead: longer than a busy machine keeps one waiting."""
SLACK_S = 5.0
"""After the end of a dead driver's lease its workitems are leased again within this time."""

pytestmark = pytest.mark.slow


def test_driver_stopped_and_resumed_past_its_lease(stub_fleet: MakeFleet) -> None:
    """SIGSTOP until another has done its items, then SIGCONT: it finishes nothing twice, each output is one."""
    fleet = stub_fleet([{"seconds": "0.3"}] * 2 + [{"seconds": "0.3", "waits": "segment"}] * 10)
    zombie = fleet.start("zombie", "--lease-s", TTL_S)
    fleet.until(lambda: fleet.ledger.counts().completed == 2)
    held = fleet.freeze("zombie", 3)
    fleet.go()
    other = fleet.start("other")
    assert other.wait(60) == 0
    assert fleet.ledger.counts().completed == 12
    zombie.send_signal(signal.SIGCONT)
    assert zombie.wait(30) == 0
    assert fleet.check() == {AttemptClass.COMPLETED: 12, AttemptClass.LOST: 3}
    assert _lost(fleet) == {(each.key, each.fence) for each in held}
    assert fleet.segmented().total() <= 12 + 3
    # Taken for dead, its machine was no longer paid; back at work, it is again.
    assert sum(node.node == "zombie" for node in fleet.ledger.nodes()) == 2


def _lost(fleet: StubFleet) -> set[tuple[str, int]]:
    """Keys and fences of the attempts that were lost."""
    return {(each.key, each.fence) for each in fleet.ledger.attempts() if each.outcome is AttemptClass.LOST}


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_what_a_dead_driver_held_is_leased_again_in_time(stub_fleet: MakeFleet, how: signal.Signals) -> None:
    """Its workitems are with another driver within the time of a lease and five seconds."""
    fleet = stub_fleet([{"waits": "segment"}] * 3 + [{"seconds": "1"}] * 8)
    first = fleet.start("first", "--lease-s", TTL_S)
    fleet.until(lambda: len(fleet.held("first")) == 3)
    fleet.start("second")
    fleet.until(lambda: any(each.node == "second" for each in fleet.ledger.attempts()))
    held = fleet.freeze("first", 3)
    begun = fleet.ledger.now()
    first.send_signal(how)
    fleet.until(lambda: not fleet.held("first"))
    lost = {(a.key, a.fence): a for a in fleet.ledger.attempts() if a.outcome is AttemptClass.LOST}
    assert lost.keys() == {(each.key, each.fence) for each in held}
    for each in lost.values():
        assert each.ended is not None
        assert (each.ended - begun).total_seconds() < TTL_S + SLACK_S
    fleet.go()
    keys = {each.key for each in held}
    fleet.until(lambda: keys <= {each.key for each in fleet.ledger.attempts() if each.owner == "second"})


def test_preemption_notice(stub_fleet: MakeFleet) -> None:
    """SIGTERM with three long workitems in flight: gone in time, all free at once, at most one GPU item redone."""
    fleet = stub_fleet([{"seconds": "0.1"}] * 3 + [{"waits": "segment"}] * 4)
    driver = fleet.start("spot", "--drain", 2)
    fleet.until(lambda: fleet.ledger.counts().completed == 3 and len(fleet.waiting()) == 1)
    children = fleet.children("spot")
    fleet.harm("spot", signal.SIGTERM)
    begun = fleet.ledger.now()
    assert driver.wait(60) == 0
    (life,) = fleet.ledger.nodes()
    assert life.down is not None
    assert (life.down - begun).total_seconds() < 2 + SLACK_S
    assert not [each for each in children if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
    counts = fleet.ledger.counts()
    assert (counts.completed, counts.in_progress, counts.scheduled) == (3, 0, 4)
    lost = [attempt for attempt in fleet.ledger.attempts() if attempt.outcome is AttemptClass.LOST]
    assert lost
    assert all(attempt.preempted for attempt in lost)
    fleet.go()
    assert fleet.start("next").wait(60) == 0
    fleet.check()
    assert fleet.segmented().total() == 7 + 1


def test_a_notice_with_time_enough_redoes_nothing(stub_fleet: MakeFleet) -> None:
    """SIGTERM with short workitems in flight: they are finished, nothing more is begun, nothing done is lost."""
    fleet = stub_fleet([{"seconds": "0.3"}] * 2 + [{"seconds": "0.3", "waits": "segment"}] * 10)
    driver = fleet.start("spot")
    fleet.until(lambda: fleet.ledger.counts().completed == 2 and len(fleet.held("spot")) == 3)
    fleet.harm("spot", signal.SIGTERM)
    fleet.until(lambda: any(event.kind == NOTICE for event in fleet.ledger.events()))
    fleet.go()
    assert driver.wait(60) == 0
    counts = fleet.ledger.counts()
    assert (counts.in_progress, counts.completed) == (0, 2 + 3)
    assert fleet.start("next").wait(60) == 0
    assert fleet.check() == {AttemptClass.COMPLETED: 12}
    assert fleet.segmented().total() == 12


@pytest.mark.parametrize(
    ("signals", "preempted"),
    [((signal.SIGTERM, signal.SIGKILL), True), ((signal.SIGTERM, signal.SIGINT), True), ((signal.SIGINT,) * 2, False)],
)
def test_what_a_driver_leaves_at_once_is_lost_by_its_cause(
    stub_fleet: MakeFleet, signals: tuple[signal.Signals, ...], preempted: bool
) -> None:
    """A machine gone right after its notice, a user who will not wait: what flew is lost, the first preempted."""
    fleet = stub_fleet([{"waits": "segment"}] * 2)
    driver = fleet.start("a", "--lease-s", TTL_S)
    fleet.until(lambda: len(fleet.held("a")) == 2 and bool(fleet.waiting()))
    fleet.harm("a", signals[0])
    fleet.until(lambda: not preempted or any(event.kind == NOTICE for event in fleet.ledger.events()))
    # A signal that comes before the driver saw an earlier one of its kind is none.
    fleet.until(lambda: _ends(driver, signals[1]))
    fleet.until(lambda: bool(fleet.ledger.expire()) or fleet.ledger.counts().in_progress == 0)
    lost = fleet.ledger.attempts()
    assert {attempt.outcome for attempt in lost} == {AttemptClass.LOST}
    assert {attempt.preempted for attempt in lost} == {preempted}


def _ends(driver: subprocess.Popen[str], how: signal.Signals) -> bool:
    """Whether a driver ends for a signal, in a while."""
    driver.send_signal(how)
    with suppress(subprocess.TimeoutExpired):
        driver.wait(5)
    return driver.poll() is not None


def test_stages_that_raise_crash_hang_and_leak(stub_fleet: MakeFleet) -> None:
    """Each costs its own item, with stage and cause of every attempt; the others are done at the first."""
    faults = {"raise": ("MODEL_ERROR", 1), "segfault": ("CRASHED", 2), "hang": ("DEADLINE_EXCEEDED", 2)}
    faults["leak"] = ("OUT_OF_MEMORY", 1)
    fleet = stub_fleet([{"fault": fault} for fault in faults] + [{}] * 12)
    driver = fleet.start("a", "--deadline-s", 8, "--memory", 400 * 2**20)
    assert driver.communicate(timeout=90) == ("ended", None)
    fleet.check(quarantined=len(faults))
    told = Counter((each.failure.stage, each.failure.code) for each in fleet.ledger.attempts() if each.failure)
    assert told == {("segment", code): times for code, times in faults.values()}


def test_killed_children_cost_only_their_own_items(stub_fleet: MakeFleet) -> None:
    """SIGKILL of a node's children, of all three lanes: what they were at is lost, free at once and done."""
    busy = [{"waits": lane} for lane in ("deliver", "segment", "prepare")]
    fleet = stub_fleet([{"seconds": "0.5", "deliver": "0.5"}] * 2 + busy + [{"seconds": "0.1"}] * 7)
    driver = fleet.start("a")
    fleet.until(lambda: fleet.ledger.counts().completed == 2 and len(fleet.waiting()) == 3)
    # Those that were started last first: each stage, and then its keeper unless that has ended by then.
    for child in reversed(fleet.children("a")):
        with suppress(psutil.NoSuchProcess):
            fleet.harm("a", signal.SIGKILL, child)
    fleet.go()
    assert driver.wait(60) == 0
    assert fleet.check() == {AttemptClass.COMPLETED: 12, AttemptClass.LOST: 3}


def test_poison_storm(stub_fleet: MakeFleet) -> None:
    """Every workitem fails: the run pauses within two hundred of them, and says why."""
    fleet = stub_fleet([{"fault": "raise"}] * 300)
    driver = fleet.start("a")
    told, _ = driver.communicate(timeout=60)
    assert "series failed" in told
    assert 0 < fleet.ledger.counts().failed <= 200
    assert any(event.kind == "limit" for event in fleet.ledger.events())


def test_workers_keep_one_budget_together(stub_fleet: MakeFleet, postgres: Postgres) -> None:
    """Three drivers at ten cents a second on one ledger: all stop, something is done, and the budget is not passed."""
    fleet = stub_fleet([{"seconds": "0.5"}] * 200, postgres.url)
    # Together they keep back six seconds of each: to be gone in, however busy the machine is.
    fleet.start("a", "--budget", 5, "--settle-s", 4)
    # Until one is done each is reckoned at ten seconds: were all three up before that, they might begin none.
    fleet.until(lambda: fleet.ledger.counts().completed > 0)
    for node in ("b", "c"):
        fleet.start(node, "--budget", 5, "--settle-s", 4)
    for driver in fleet.drivers.values():
        assert driver.wait(120) == 0
    spent = sum(0.1 * (node.down - node.up).total_seconds() for node in fleet.ledger.nodes() if node.down is not None)
    assert 0 < spent <= 5
    counts = fleet.ledger.counts()
    assert counts.in_progress == 0
    assert 0 < counts.completed < 200
    assert all(node.down is not None for node in fleet.ledger.nodes())


@pytest.mark.parametrize("skew_s", [3600, -3600])
def test_clock_of_a_driver_is_wrong(stub_fleet: MakeFleet, postgres: Postgres, skew_s: int) -> None:
    """An hour off: leases, attempts and nodes go by the database's clock, so nothing is lost, doubled or dear."""
    fleet = stub_fleet([{"seconds": "0.2", "waits": "segment"}] * 20, postgres.url)
    wrong = fleet.start("wrong", "--lease-s", 10, before=["env", f"STUB_SKEW_S={skew_s}"])
    right = fleet.start("right", "--lease-s", 10)
    fleet.until(lambda: len(fleet.held("wrong")) == len(fleet.held("right")) == 3)
    fleet.go()
    assert (wrong.wait(60), right.wait(60)) == (0, 0)
    assert fleet.check() == {AttemptClass.COMPLETED: 20}
    attempts, nodes = fleet.ledger.attempts(), fleet.ledger.nodes()
    off = {each.node: each.consumption[0].started - each.started.timestamp() for each in attempts}
    assert abs(off["wrong"] - skew_s) < 60
    assert all(each.ended is not None and 0 <= (each.ended - each.started).total_seconds() < 60 for each in attempts)
    assert all(node.down is not None and 0 < (node.down - node.up).total_seconds() < 60 for node in nodes)


@pytest.mark.parametrize("shared", [False, True])
def test_what_runs_out_of_memory_goes_to_a_larger_node(
    stub_fleet: MakeFleet, request: pytest.FixtureRequest, shared: bool
) -> None:
    """A small node and a larger one: what does not fit on the small is tried there at most once, and done on the other.

    What fits on neither is quarantined once nothing else is left, with the next step; a node that is larger still,
    and --retry-failed, does it.
    """
    gib = 2**30
    items = [{"fault": f"needs-{need * gib}"} for need in (5, 5, 9)] + [{"seconds": "0.3", "waits": "segment"}] * 20
    fleet = stub_fleet(items, *([request.getfixturevalue("postgres").url] if shared else []))
    small = fleet.start("small", "--memory", 4 * gib)
    fleet.until(lambda: any(each.outcome is AttemptClass.FAILED for each in fleet.ledger.attempts()))
    large = fleet.start("large", "--memory", 8 * gib)
    fleet.until(lambda: len(fleet.held("small")) == len(fleet.held("large")) == 3)
    fleet.go()
    assert (small.wait(60), large.wait(60)) == (0, 0)
    assert fleet.check(quarantined=1)[AttemptClass.COMPLETED] == 22
    tried = Counter((each.key, each.memory.host_bytes) for each in fleet.ledger.attempts())
    assert set(tried.values()) == {1}
    (item,) = (each for each in fleet.ledger.items() if each.failure is not None and each.state is State.CANCELED)
    assert item.failure is not None
    assert item.failure.code == "OUT_OF_MEMORY"
    assert (
        "no node of this run has more than 8.0 GiB for a stage; run again with --retry-failed" in item.failure.message
    )
    assert fleet.ledger.retry_failed() == 1
    assert fleet.start("largest", "--memory", 16 * gib).wait(60) == 0
    fleet.check()


RELAY = """
import asyncio, sys

async def copy(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    writer.close()

async def serve(reader, writer):
    there, back = await asyncio.open_unix_connection(sys.argv[2])
    await asyncio.gather(copy(reader, back), copy(there, writer))

async def main():
    server = await asyncio.start_server(serve, sys.argv[1], 5432)
    print("ready", flush=True)
    await server.serve_forever()

asyncio.run(main())
"""


def test_network_cut_between_worker_and_ledger(
    stub_fleet: MakeFleet, postgres: Postgres, wire: Wire, account: Account
) -> None:
    """The wire to PostgreSQL is taken away past the lease: another does its items; mended, it doubles nothing."""
    socket = f"{postgres.folder}/.s.PGSQL.5432"
    relay = subprocess.Popen(
        [*wire.on_server, sys.executable, "-c", RELAY, wire.SERVER, socket], stdout=subprocess.PIPE, text=True
    )
    try:
        assert relay.stdout is not None
        assert relay.stdout.readline() == "ready\n"
        fleet = stub_fleet([{"seconds": "0.3"}] * 3 + [{"seconds": "0.3", "waits": "segment"}] * 37, postgres.url)
        # Ten seconds and not half a minute until a connection without answer is given up.
        url = f"postgresql://postgres@{wire.SERVER}/postgres?tcp_user_timeout=3000"
        far = fleet.start("far", "--lease-s", TTL_S, before=wire.on_node, ledger=url)
        fleet.until(lambda: fleet.ledger.counts().completed == 3 and len(fleet.held("far")) == 3)
        account.harmed("far")
        wire.cut()
        held = fleet.held("far")
        fleet.go()
        near = fleet.start("near")
        fleet.until(lambda: any(event.kind == "owner_silent" for event in fleet.ledger.events()), TTL_S + 20)
        wire.mend()
        assert near.wait(90) == 0
        assert far.wait(90) == 0
        ended = fleet.check()
        assert ended[AttemptClass.COMPLETED] == 40
        assert _lost(fleet) == {(each.key, each.fence) for each in held}
        assert len(held) == 3
        assert ended[AttemptClass.FAILED] == 0
    finally:
        relay.kill()
        relay.communicate()


def test_children_die_with_a_killed_driver(stub_fleet: MakeFleet) -> None:
    """SIGKILL of a driver with busy children: no orphan is left after a moment (5 s are allowed)."""
    fleet = stub_fleet([{"seconds": "30"}] * 3)
    driver = fleet.start("a")
    fleet.until(lambda: bool(fleet.segmented()))
    children = fleet.children("a")
    assert children
    fleet.harm("a", signal.SIGKILL)
    driver.wait()
    _, alive = psutil.wait_procs(children, timeout=5)
    assert not alive
