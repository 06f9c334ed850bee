"""A cell on a real Ray cluster on this machine, with processes that are really killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import psutil
import pytest

pytest.importorskip("ray")

import ray
from ray.cluster_utils import Cluster
from voxfleet.cluster.budgets.governor import Governor
from voxfleet.cluster.budgets.limits import Limits
from voxfleet.cluster.drivers import ray_cell
from voxfleet.cluster.drivers.agent import CellEvent, CellFailed, CellSettings
from voxfleet.cluster.drivers.idleness import Idleness
from voxfleet.cluster.drivers.kinds import CPU_RESOURCE, Choice, Kind
from voxfleet.cluster.drivers.ray_cell import run_on_ray
from voxfleet.cluster.kubernetes.cell import GROUP_VARIABLE
from voxfleet.cluster.ledger import AttemptClass, Lease, LedgerUnavailable, Run
from voxfleet.cluster.ledgers.run_record import LEFT
from voxfleet.cluster.ledgers.sqlite import SqliteLedger
from voxfleet.cluster.prices.price import Price
from voxfleet.runners.node_memory import NodeMemory
from voxfleet.runners.workitem import State, Workitem

if TYPE_CHECKING:
    from conftest import Account

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def workitem(number: int, model: str = "stand-in") -> Workitem:
    """A workitem of series 1.2.3.NUMBER; 13 fails, 666 kills its process, 28 finds the disk full once.

    From 1000 on they are under way until there is a file ``work/go``.
    """
    return Workitem("1.2.3", f"1.2.3.{number}", "CT", 10, "dir:/in", "dir:/out", model, "1", "none")


def ledger_of(folder: Path, numbers: list[int]) -> SqliteLedger:
    """A ledger with these workitems."""
    ledger = SqliteLedger(folder / "ledger.sqlite")
    run = Run("r", "dir:/in", "dir:/out", ("stand-in 1",), {}, "0.1.0", "local", datetime.now(UTC))
    ledger.create_run(run)
    ledger.add(workitem(n) for n in numbers)
    return ledger


def settings_of(folder: Path, seconds: float = 0.2, **changes: object) -> CellSettings:
    """Two agents of depth two, on the stand-in; leases hold however long this machine stands still."""
    settings = {"folder": str(folder / "work"), "seconds": str(seconds)}
    kind = {"number": 2, "depth": 2, "settings": settings, "cpus": 0.5}
    common: dict[str, object] = {
        "factory": "stand_in_pipeline:StandIn",
        "lease_s": 60.0,
        "environment": {"PYTHONPATH": str(Path(__file__).parent)},
    }
    kind |= {name: changes.pop(name) for name in kind if name in changes}
    return CellSettings(**({"kinds": (Kind(**kind),)} | common | changes))  # type: ignore[arg-type]


def run(
    ledger: SqliteLedger, settings: CellSettings, act: object = None, stop: threading.Event | None = None
) -> list[CellEvent]:
    """Run a cell to its end; `act` is called with each event."""
    seen: list[CellEvent] = []

    def on_event(event: CellEvent) -> None:
        seen.append(event)
        if callable(act):
            act(event, seen)

    run_on_ray(ledger, settings, may_lease=lambda _: True, on_event=on_event, stop=stop or threading.Event())
    return seen


def number_of(kind: str, seen: list[CellEvent]) -> int:
    """How many events of a kind there were."""
    return sum(event.kind == kind for event in seen)


def first_up(seen: list[CellEvent]) -> int:
    """Process of the agent that came up first."""
    detail = next(event.detail for event in seen if event.kind == "agent_up")
    return int(detail.split(" is process ")[1].split()[0])


def lives(pid: int) -> bool:
    """Whether there is such a process, and it has not ended."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def name_of(process: psutil.Process) -> str:
    """Of its program; empty where it has ended."""
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return ""


def until_gone(pids: list[int], seconds: float = 60.0) -> None:
    """Wait until these processes have ended."""
    deadline = time.monotonic() + seconds
    while left := [pid for pid in pids if lives(pid)]:
        assert time.monotonic() < deadline, f"{left} outlived it"
        time.sleep(0.05)


def outcomes(ledger: SqliteLedger) -> Counter[str]:
    """How many attempts ended how."""
    return Counter(attempt.outcome.value if attempt.outcome else "open" for attempt in ledger.attempts())


@pytest.fixture
def harm(account: Account, tmp_path: Path) -> Iterator[Account]:
    """Marks when a cell is harmed; what it cost is told in the end."""
    yield account
    ledger, work = SqliteLedger(tmp_path / "ledger.sqlite"), tmp_path / "work"
    account.settle(ledger, work / "begun", len(list(work.glob("stored/*"))))
    ledger.close()


def test_all_workitems_once(tmp_path: Path) -> None:
    """Every workitem is completed by one attempt; an item's own failure is recorded and stops nothing."""
    ledger = ledger_of(tmp_path, [*range(12), 13])
    run(ledger, settings_of(tmp_path))
    counts = ledger.counts()
    assert (counts.completed, counts.failed, counts.open) == (12, 1, 0)
    assert outcomes(ledger) == {"completed": 12, "failed": 1}
    assert len(list((tmp_path / "work" / "stored").iterdir())) == 12
    (node,) = ledger.nodes()
    assert node.down is not None


class LosesAnAnswer(SqliteLedger):
    """A ledger whose first answer to `lease` is lost on its way after it was carried out, and the call tried again."""

    lost = 0

    def lease(self, *words: object, **options: object) -> tuple[Lease, ...]:
        """See Ledger."""
        if not self.lost:
            self.lost = len(super().lease(*words, **options))  # type: ignore[arg-type]
        return super().lease(*words, **options)  # type: ignore[arg-type]


def test_what_was_leased_in_a_lost_answer_is_done(tmp_path: Path, harm: Account) -> None:
    """A cell that knows nothing of leases it holds gives them back once it has nothing else, and ends."""
    ledger_of(tmp_path, list(range(20, 26))).close()
    ledger = LosesAnAnswer(tmp_path / "ledger.sqlite")
    run(ledger, settings_of(tmp_path, 0.05))
    assert ledger.lost
    assert ledger.counts().completed == 6
    assert [attempt.outcome for attempt in ledger.attempts()] == [AttemptClass.COMPLETED] * 6


def test_a_cell_without_machines_keeps_to_its_limits(tmp_path: Path) -> None:
    """No agent ever comes up; the cell ends all the same once nothing more may be begun."""
    ledger = ledger_of(tmp_path, [20])
    settings = settings_of(tmp_path, cpus=1000.0)
    run_on_ray(ledger, settings, may_lease=lambda _: False, on_event=lambda _: None, stop=threading.Event())
    assert ledger.counts().scheduled == 1


def test_a_cell_leaves_the_last_to_those_who_hold_it(tmp_path: Path) -> None:
    """Its agents have nothing to do, and another driver has the last workitem: it says so, and leaves with its node."""
    ledger = ledger_of(tmp_path, [20, 21])
    ledger.lease("other", 1, 600.0)
    seen = run(ledger, settings_of(tmp_path, 0.05, lease_s=3.0, label="c0"))
    assert (ledger.counts().completed, ledger.counts().in_progress) == (1, 1)
    assert [event.detail for event in ledger.events() if event.kind == LEFT] == ["c0: nothing to lease for 6 s"]
    assert [event.detail for event in seen if event.kind == LEFT] == ["c0: nothing to lease for 6 s"]
    assert all(node.down for node in ledger.nodes())


def test_a_cell_whose_budget_is_out_drains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody tells it: of a dollar 97.5 cents are spent after four items, its node takes two to go, an item takes one.

    It begins none that it cannot pay for, ends what it has, and leaves the rest.
    """
    price = Price("local", "", "", "on-demand", Decimal(36), 1, "", 0, "paper", date(2026, 11, 1))
    ledger, spent = ledger_of(tmp_path, list(range(100, 120))), [Decimal(0)]
    monkeypatch.setattr("voxfleet.cluster.budgets.governor.spent_on_lives", lambda lived, price: spent[0])
    governor = Governor(ledger, price, Decimal(1), threading.Event(), Limits(settle_s=Decimal(0)))

    def observe(_: CellEvent) -> None:
        spent[0] = Decimal("0.975") if ledger.counts().completed >= 4 else Decimal(0)
        governor.check()

    settings = settings_of(tmp_path, 0.5)
    run_on_ray(ledger, settings, may_lease=governor.may_lease, on_event=observe, stop=governor.stop)
    assert governor.out_of_budget
    assert ledger.counts().in_progress == 0
    assert 4 <= ledger.counts().completed <= 8
    assert set(outcomes(ledger)) == {"completed"}


class GoesAway(SqliteLedger):
    """A ledger that does not answer any more once a workitem has ended."""

    def finish_all(self, *_: object) -> tuple[bool, ...]:
        """See Ledger."""
        raise LedgerUnavailable("ledger", "no route to host")

    def lose(self, *_: object, **__: object) -> int:
        """See Ledger."""
        raise LedgerUnavailable("ledger", "no route to host")


def test_agents_end_also_while_the_ledger_is_away(tmp_path: Path) -> None:
    """A driver that gives up cannot say what it loses: its agents let go of their GPUs all the same, on any cluster."""
    ledger_of(tmp_path, [20, 21]).close()
    ledger = GoesAway(tmp_path / "ledger.sqlite")
    ray.init("local", num_cpus=2, include_dashboard=False, object_store_memory=80 * 2**20, log_to_driver=False)
    try:
        with pytest.raises(LedgerUnavailable):
            run(ledger, settings_of(tmp_path))
        until_gone([int(path.name) for path in (tmp_path / "work" / "pids").iterdir()])
    finally:
        ray.shutdown()


def test_killed_agent_loses_only_what_it_held(tmp_path: Path, harm: Account) -> None:
    """Kill -9 of an agent's process: the two attempts that it is at are lost, a new agent comes, all is done once."""
    ledger = ledger_of(tmp_path, list(range(1000, 1016)))
    killed: list[int] = []

    def kill_one(event: CellEvent, seen: list[CellEvent]) -> None:
        if not killed and number_of("agent_up", seen) == 2 and number_of("begun", seen) == 4:
            harm.harmed()
            killed.append(first_up(seen))
            os.kill(killed[0], signal.SIGKILL)
        if number_of("agent_up", seen) == 3:
            (tmp_path / "work" / "go").touch()

    seen = run(ledger, settings_of(tmp_path, seconds=0.05), kill_one)
    counts = ledger.counts()
    assert (counts.completed, counts.open, counts.failed) == (16, 0, 0)
    ended = outcomes(ledger)
    assert ended == {"completed": 16, "lost": 2}
    assert len(list((tmp_path / "work" / "stored").iterdir())) == 16
    assert (number_of("agent_down", seen), number_of("agent_up", seen)) == (1, 3)


def test_item_that_kills_its_agent_is_given_up(tmp_path: Path, harm: Account) -> None:
    """A workitem at which the agent dies is tried five times, last of all, then CANCELED; the others are done."""
    ledger = ledger_of(tmp_path, [666, 1, 2, 3])
    run(ledger, settings_of(tmp_path, seconds=0.05, number=1, depth=1))
    counts = ledger.counts()
    assert (counts.completed, counts.failed, counts.open) == (3, 1, 0)
    poison = next(i for i in ledger.items() if i.workitem.series_instance_uid.endswith("666"))
    assert (poison.losses, poison.fails) == (5, 0)
    assert poison.failure is not None
    assert poison.failure.code == "LOST_TOO_OFTEN"


def test_an_agent_whose_machine_cannot_go_on_is_replaced(tmp_path: Path) -> None:
    """Its disk is full: what it held is lost and done by others, nothing fails, and the reason is told."""
    ledger = ledger_of(tmp_path, [28, *range(5)])
    seen = run(ledger, settings_of(tmp_path))
    counts = ledger.counts()
    assert (counts.completed, counts.failed, counts.open) == (6, 0, 0)
    assert outcomes(ledger)["lost"] <= 2
    (down,) = [event.detail for event in seen if event.kind == "agent_down"]
    assert down.endswith("unfit: No space left on device")


def test_nothing_listens_beyond_this_machine(tmp_path: Path) -> None:
    """No process of a cluster for one machine listens on an address that others reach."""
    ledger = ledger_of(tmp_path, [1])
    addresses: set[str] = set()

    def look(event: CellEvent, seen: list[CellEvent]) -> None:
        for process in psutil.Process().children(recursive=True):
            # psutil lets the second pass where a process ends as it looks.
            with suppress(psutil.NoSuchProcess, FileNotFoundError):
                listening = [c for c in process.net_connections(kind="inet") if c.status == psutil.CONN_LISTEN]
                addresses.update(c.laddr.ip.removeprefix("::ffff:") for c in listening)

    run(ledger, settings_of(tmp_path, number=1), look)
    assert addresses == {"127.0.0.1"}


def test_each_kind_of_agents_does_its_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A head without CPUs, a node with a GPU and one with the place for other models, as in a cell on Kubernetes.

    Networks run on the first alone; the others on the second, and on the first once no network waits: none of the
    others is done before each node has one. The head is a node of its own, paid from the driver's begin to its end at
    its own price.
    """
    small = {"object_store_memory": 80 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **small})
    cluster.add_node(num_cpus=1, num_gpus=1, **small)
    cluster.add_node(num_cpus=1, resources={CPU_RESOURCE: 1}, **small)
    cluster.wait_for_nodes()
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    ledger.create_run(Run("r", "dir:/in", "dir:/out", ("net 1", "rule 1"), {}, "0.1.0", "local", datetime.now(UTC)))
    ledger.add(workitem(number, "net") for number in range(100, 106))
    ledger.add(workitem(number, "rule") for number in range(1000, 1016))
    common = {"folder": str(tmp_path / "work"), "seconds": "0.1"}
    rules = Choice(("rule",), gpu=False)
    kinds = (
        Kind(1, 1, {**common, "host": str(2**32), "gpu": str(2**30)}, (Choice(("net",)), rules), gpus=1.0),
        Kind(1, 1, common, (rules,), resources={CPU_RESOURCE: 1.0}),
    )
    desk = Price("desk", "", "", "on-demand", Decimal(3), 1, "", 0, "paper", date(2026, 11, 1))
    # All of them are this machine; where the driver is, it has another name.
    monkeypatch.setenv(GROUP_VARIABLE, "head")
    monkeypatch.setattr(ray_cell, "socket", SimpleNamespace(gethostname=lambda: "head-of-c0"))
    begun = ledger.now()

    def let_go(event: CellEvent, seen: list[CellEvent]) -> None:
        # Six networks on the one node, one after the other, and then a rule; a rule on the other one.
        if number_of("begun", seen) == 6 + 2:
            (tmp_path / "work" / "go").touch()

    try:
        seen = run(ledger, settings_of(tmp_path, kinds=kinds, address=cluster.address, prices={"head": desk}), let_go)
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert outcomes(ledger) == {"completed": 22}
    assert sum(event.kind == "agent_up" for event in seen) == 2
    model = {item.workitem.key: item.workitem.model for item in ledger.items()}
    by = {name: [each for each in ledger.attempts() if model[each.key] == name] for name in ("net", "rule")}
    assert {each.memory for each in by["net"]} == {NodeMemory(2**32, 2**30)}
    assert {each.memory for each in by["rule"]} == {NodeMemory(2**31), NodeMemory(2**32)}
    head, worker = ledger.nodes()
    assert (head.node, head.machine, head.price, head.head) == ("head-of-c0", "desk", desk, True)
    assert begun <= head.up < worker.up
    assert head.down is not None
    assert (worker.head, worker.price) == (False, None)
    assert head.down >= max(each.ended for each in ledger.attempts() if each.ended)
    tail = [each.started for each in by["rule"] if each.memory == NodeMemory(2**32)]
    assert min(tail) >= max(each.started for each in by["net"])


def test_stop_drains(tmp_path: Path) -> None:
    """A stop lets what is in flight end, begins nothing more, and leaves the rest SCHEDULED."""
    ledger = ledger_of(tmp_path, list(range(100, 120)))
    stop = threading.Event()

    def stop_soon(event: CellEvent, seen: list[CellEvent]) -> None:
        if event.kind == "finished":
            stop.set()

    run(ledger, settings_of(tmp_path, seconds=0.5), stop_soon, stop)
    counts = ledger.counts()
    assert counts.in_progress == 0
    assert 0 < counts.completed < 20
    assert counts.completed + counts.scheduled == 20
    assert set(outcomes(ledger)) == {AttemptClass.COMPLETED.value}
    run(ledger, settings_of(tmp_path, seconds=0.0))
    assert ledger.counts().completed == 20


def test_agents_that_cannot_start_end_the_cell(tmp_path: Path) -> None:
    """Where no agent comes up the cell gives up and says why; nothing is lost."""
    ledger = ledger_of(tmp_path, [1, 2])
    with pytest.raises(CellFailed, match=r"^3 agents died in a row, with nothing finished$"):
        run(ledger, settings_of(tmp_path, number=1, settings={"gpu": "1"}, factory="stand_in_pipeline:without_gpu"))
    assert ledger.counts().scheduled == 2
    assert any("no GPU found" in event.detail for event in ledger.events())


def test_agents_with_gpus_that_cannot_start_do_not_end_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those without do all rules, and the ledger has why no others come; the cell then fails for the networks."""
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    ledger.create_run(Run("r", "dir:/in", "dir:/out", ("net 1", "rule 1"), {}, "0.1.0", "local", datetime.now(UTC)))
    ledger.add(workitem(number, "net") for number in (1, 2))
    ledger.add(workitem(number, "rule") for number in range(3, 12))
    common, rules = {"folder": str(tmp_path / "work"), "seconds": "0.1"}, Choice(("rule",), gpu=False)
    kinds = (
        Kind(1, 1, common | {"gpu": "1"}, (Choice(("net",)), rules), cpus=0.5, gpus=1.0),
        Kind(1, 1, common, (rules,), cpus=0.5, resources={CPU_RESOURCE: 1.0}),
    )
    # However long they take to die, and nobody else has anything to lease, the cell fails and does not leave.
    monkeypatch.setattr(ray_cell, "Idleness", lambda ledger, _, idle_s: Idleness(ledger, 0.0, idle_s))
    with pytest.raises(CellFailed, match=r"^agents with GPUs: 3 agents died in a row.*what is left needs them$"):
        run(ledger, settings_of(tmp_path, kinds=kinds, factory="stand_in_pipeline:without_gpu"))
    counts = ledger.counts()
    assert (counts.completed, counts.scheduled, counts.open) == (9, 2, 2)
    (told,) = [event.detail for event in ledger.events() if event.kind == "given_up"]
    assert told.startswith("agents with GPUs: 3 agents died in a row")


def test_driver_killed_and_started_again(tmp_path: Path, harm: Account) -> None:
    """Kill -9 of the driver in mid-run: another finishes, with every result stored once."""
    ledger = ledger_of(tmp_path, [*range(4), *range(1000, 1008)])
    driver = subprocess.Popen([sys.executable, __file__, str(tmp_path)])
    deadline = time.monotonic() + 90
    while ledger.counts().completed < 4:
        assert time.monotonic() < deadline
        assert driver.poll() is None
        time.sleep(0.05)
    harm.harmed()
    driver.kill()
    driver.wait()
    assert ledger.counts().open == 8
    (tmp_path / "work" / "go").touch()
    run(ledger, settings_of(tmp_path))
    counts = ledger.counts()
    assert (counts.completed, counts.open) == (12, 0)
    assert all(item.state is State.COMPLETED for item in ledger.items())
    assert len(list((tmp_path / "work" / "stored").iterdir())) == 12
    assert len(ledger.stored()) == 12


def test_agents_end_themselves_when_the_driver_stands_still(tmp_path: Path, harm: Account) -> None:
    """SIGSTOP of the driver: its agents are gone soon; resumed, it finishes with others, each result once."""
    ledger = ledger_of(tmp_path, [*range(4), *range(1000, 1008)])
    driver = subprocess.Popen([sys.executable, __file__, str(tmp_path), "3"])
    deadline = time.monotonic() + 120
    try:
        while ledger.counts().completed < 4:
            assert time.monotonic() < deadline
            assert driver.poll() is None
            time.sleep(0.05)
        harm.harmed()
        driver.send_signal(signal.SIGSTOP)
        until_gone([int(path.name) for path in (tmp_path / "work" / "pids").iterdir()])
        (tmp_path / "work" / "go").touch()
        driver.send_signal(signal.SIGCONT)
        assert driver.wait(timeout=120) == 0
    finally:
        driver.kill()
        driver.wait()
    counts = ledger.counts()
    assert (counts.completed, counts.open) == (12, 0)
    assert len(list((tmp_path / "work" / "stored").iterdir())) == 12


def test_agent_that_stands_still_is_given_up(tmp_path: Path, harm: Account) -> None:
    """SIGSTOP of an agent: after the time of a lease its workitems go to another; resumed, it doubles nothing."""
    ledger = ledger_of(tmp_path, list(range(1000, 1012)))
    stopped: list[int] = []

    def stop_one(event: CellEvent, seen: list[CellEvent]) -> None:
        if not stopped and number_of("agent_up", seen) == 2 and number_of("begun", seen) == 4:
            harm.harmed()
            stopped.append(first_up(seen))
            os.kill(stopped[0], signal.SIGSTOP)
        if stopped and event.kind == "agent_down":
            (tmp_path / "work" / "go").touch()
            with suppress(ProcessLookupError):
                os.kill(stopped[0], signal.SIGCONT)

    seen = run(ledger, settings_of(tmp_path, seconds=0.05, lease_s=5.0), stop_one)
    counts = ledger.counts()
    assert (counts.completed, counts.open, counts.failed) == (12, 0, 0)
    # Two of each that is silent for as long as leases hold: on a machine that is very busy not only the one.
    silent = [each for each in ledger.attempts() if each.failure and "no sign of life" in each.failure.message]
    assert 2 <= len(silent) <= 2 * number_of("agent_down", seen)
    assert len(list((tmp_path / "work" / "stored").iterdir())) == len(ledger.stored()) == 12
    assert any(e.kind == "agent_down" and "no sign of life" in e.detail for e in seen)


def test_idle_agent_that_is_killed_is_noticed(tmp_path: Path, harm: Account) -> None:
    """Kill -9 of an agent with nothing to do, while another works: it is told of, and replaced."""
    ledger = ledger_of(tmp_path, [1000])
    killed: list[int] = []

    def kill_idle(event: CellEvent, seen: list[CellEvent]) -> None:
        if not killed and number_of("agent_up", seen) == 2:
            busy = {int(line) for path in (tmp_path / "work" / "begun").iterdir() for line in path.read_text().split()}
            idle = {int(path.name) for path in (tmp_path / "work" / "pids").iterdir()} - busy
            if busy and idle:
                killed.append(idle.pop())
                os.kill(killed[0], signal.SIGKILL)
        if event.kind == "agent_down":
            (tmp_path / "work" / "go").touch()

    seen = run(ledger, settings_of(tmp_path, seconds=0.05, silence_s=25.0, depth=1), kill_idle)
    assert ledger.counts().completed == 1
    assert outcomes(ledger) == {"completed": 1}
    assert (len(killed), number_of("agent_down", seen)) == (1, 1)


@pytest.mark.parametrize("notice", [True, False])
def test_a_node_that_is_taken_away_with_a_notice_was_preempted(
    tmp_path: Path, harm: Account, notice: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM to a node of two: what its agent held is lost, and counts as preempted; killed, it does not.

    Machines of a group are paid as what they are.
    """
    monkeypatch.setenv(GROUP_VARIABLE, "fallback")
    dear = Price("dear", "", "", "on-demand", Decimal(3), 1, "", 0, "paper", date(2026, 11, 1))
    small = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=small)
    second = cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    cluster.wait_for_nodes()
    ledger = ledger_of(tmp_path, list(range(1000, 1008)))
    gone: list[object] = []

    def take_away(event: CellEvent, seen: list[CellEvent]) -> None:
        if not gone and number_of("begun", seen) == 2:
            gone.append(second)
            harm.harmed()
            # Ray's own `remove_node` kills what has not gone a second after its notice.
            (raylet,) = [each.process for each in second.all_processes["raylet"]]
            raylet.send_signal(signal.SIGTERM if notice else signal.SIGKILL)
            # Its workers end once somebody has taken note of its end.
            threading.Thread(target=raylet.wait, daemon=True).start()
        if event.kind == "agent_down":
            # Its process outlives the node's own by a moment.
            (tmp_path / "work" / "go").touch()

    try:
        prices = {"fallback": dear}
        settings = settings_of(tmp_path, seconds=0.05, address=cluster.address, cpus=1.0, depth=1, prices=prices)
        run(ledger, settings, take_away)
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert ledger.counts().completed == 8
    lost = [attempt for attempt in ledger.attempts() if attempt.outcome is AttemptClass.LOST]
    assert [attempt.preempted for attempt in lost] == [notice]
    assert {(node.machine, node.price) for node in ledger.nodes()} == {("dear", dear)}


def test_gcs_killed(tmp_path: Path, harm: Account) -> None:
    """Kill -9 of Ray's control server: its driver ends or finishes; what it left open another one does, each once."""
    ledger = ledger_of(tmp_path, [*range(100, 104), *range(1000, 1020)])
    environment = {**os.environ, "RAY_gcs_rpc_server_reconnect_timeout_s": "4"}
    driver = subprocess.Popen([sys.executable, __file__, str(tmp_path)], env=environment)
    try:
        deadline = time.monotonic() + 120
        while ledger.counts().completed < 4:
            assert time.monotonic() < deadline
            assert driver.poll() is None
            time.sleep(0.05)
        family = psutil.Process(driver.pid).children(recursive=True)
        (server,) = [each for each in family if name_of(each) == "gcs_server"]
        harm.harmed()
        server.kill()
        (tmp_path / "work" / "go").touch()
        driver.wait(timeout=120)
    finally:
        driver.kill()
        driver.wait()
    agents = [each for each in family if each.pid in {int(path.name) for path in (tmp_path / "work/pids").iterdir()}]
    _, orphans = psutil.wait_procs(agents, timeout=60)
    for each in family:
        # Ray's own helpers of a node stay for a minute.
        with suppress(psutil.NoSuchProcess):
            each.kill()
    assert orphans == []
    run(ledger, settings_of(tmp_path))
    counts = ledger.counts()
    assert (counts.completed, counts.open, counts.failed) == (24, 0, 0)
    assert len(list((tmp_path / "work" / "stored").iterdir())) == len(ledger.stored()) == 24


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    silence_s = float(sys.argv[2]) if sys.argv[2:] else 900.0
    # What it holds when it dies others wait for.
    run(SqliteLedger(folder / "ledger.sqlite"), settings_of(folder, seconds=0.5, silence_s=silence_s, lease_s=5.0))
