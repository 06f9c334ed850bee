"""A fleet kept up against an API server that really listens: its cells are dead, slow, evicted; the ledger is real."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("kubernetes")

from kubernetes.config import kube_config
from voxfleet.cluster.budgets.governor import BudgetSpent, Governor
from voxfleet.cluster.budgets.limits import Limits
from voxfleet.cluster.kubernetes.cell import PLATFORMS, Access, Cell, Workers
from voxfleet.cluster.kubernetes.keeping import CellsDie, Fleet, keep_up
from voxfleet.cluster.kubernetes.kuberay import CellExists, Cells, KubernetesError
from voxfleet.cluster.kubernetes.manifest import manifest
from voxfleet.cluster.ledger import Counts, LedgerUnavailable, Run
from voxfleet.cluster.ledgers.patience import Patience, patient
from voxfleet.cluster.ledgers.run_record import LEFT
from voxfleet.cluster.ledgers.sqlite import SqliteLedger
from voxfleet.cluster.prices.price import Price
from voxfleet.runners.consumption import Consumption
from voxfleet.runners.workitem import Outcome, State, Workitem

TOY = Price("toy", "", "", "on-demand", Decimal(360), 2, "", 0, "ten cents a second", date(2026, 11, 1))
ITEMS = 6


def job(number: int, workers: int = 3) -> dict[str, Any]:
    """The RayJob of cell NUMBER."""
    machines = Workers(workers, 0, spot=False, cpus=4, memory_bytes=2**33, gpu=False)
    words, image = (
        ("voxfleet", "worker", "nlst", "--on", "ray", "--deadline", "3600s"),
        "registry.example/voxfleet@sha256:" + "ab" * 32,
    )
    access, name = Access(ledger_secret="ledger"), f"c{number}"
    return manifest(Cell("nlst", name, "ct", image, words, 3600, machines, access, PLATFORMS["any"], "2.60.0"))


@pytest.fixture
def cells(api_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cells:
    """The cells of the double; fleets look often, and pause shortly."""
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(api_server.kubeconfig(tmp_path)))
    monkeypatch.setattr("voxfleet.cluster.kubernetes.keeping.LOOK_S", 0.03)
    monkeypatch.setattr("voxfleet.cluster.kubernetes.replacing.FIRST_PAUSE_S", 0.05)
    return Cells()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqliteLedger]:
    """A run with six workitems."""
    opened = SqliteLedger(tmp_path / "ledger.sqlite")
    opened.create_run(Run("nlst", "dir:/a", "dir:/b", ("m 1",), {}, "0.1.0", "toy", datetime.now(UTC), price=TOY))
    opened.add(Workitem("1", f"1.{n}", "CT", 1, "dir:/a", "dir:/b", "m", "1", "none") for n in range(ITEMS))
    yield opened
    opened.close()


def works(ledger: SqliteLedger, number: int, seconds: float = 0.1) -> None:
    """A cell completes some workitems, which took so many seconds each."""
    for lease in ledger.lease("cell", number):
        used = (Consumption("segment", 100.0, seconds, seconds),)
        ledger.finish(lease, Outcome(lease.workitem.key, State.COMPLETED, used))


class Operator:
    """What KubeRay does, and what happens to it: each time that a cell is created, the next of `lives` is lived."""

    def __init__(self, server: Any, lives: list[Callable[[str], None]]) -> None:
        self._server, self._lives = server, lives
        self.born: list[str] = []
        threading.Thread(target=self._operate, daemon=True).start()

    def _operate(self) -> None:
        seen = 0
        while True:
            with self._server.changed:
                self._server.changed.wait(0.02)
                new = self._server.events[seen:]
                seen += len(new)
            for event in new:
                if event["type"] == "ADDED":
                    name = event["object"]["metadata"]["name"]
                    self.born.append(name)
                    self._server.set_status(name, jobDeploymentStatus="Running")
                    self._lives[min(len(self.born), len(self._lives)) - 1](name)


def fails(server: Any, ledger: SqliteLedger, after: int) -> Callable[[str], None]:
    """A life that ends as KubeRay's backoffLimit or deadline ends it, after some work."""

    def live(name: str) -> None:
        works(ledger, after)
        server.logs[f"{name}-submit"] = "loading\nhead is gone\n"
        server.set_status(name, jobDeploymentStatus="Failed", jobStatus="FAILED", reason="AppFailed")

    return live


def completes(server: Any, ledger: SqliteLedger, after: int) -> Callable[[str], None]:
    """A life whose command ended well, after some work."""

    def live(name: str) -> None:
        works(ledger, after)
        server.set_status(name, jobDeploymentStatus="Complete", jobStatus="SUCCEEDED")

    return live


def keep(cells: Cells, ledger: SqliteLedger, *jobs: dict[str, Any], budget: Decimal | None = None) -> Governor:
    """Keep a fleet of these jobs up until it ends."""
    governor = Governor(ledger, TOY, budget, threading.Event())
    keep_up(cells, Fleet(jobs), ledger, governor, governor.check)
    return governor


def told(ledger: SqliteLedger) -> list[str]:
    """What the ledger was told of cells."""
    return [event.detail for event in ledger.events() if event.kind == "cell"]


def test_cells_that_die_are_replaced_until_nothing_is_left(api_server: Any, cells: Cells, ledger: SqliteLedger) -> None:
    """One fails, one is evicted, one ends too early: each is created anew, the last does the rest; the ledger tells."""

    def evicted(name: str) -> None:
        works(ledger, 1)
        api_server.put("DELETED", api_server.jobs[name])

    lives = [fails(api_server, ledger, 2), evicted, completes(api_server, ledger, 1), completes(api_server, ledger, 9)]
    operator = Operator(api_server, lives)
    keep(cells, ledger, job(0))
    assert operator.born == ["nlst-c0"] * 4
    assert ledger.counts().completed == ITEMS
    assert told(ledger)[:2] == [
        "nlst-c0: created",
        "nlst-c0: removed: Failed, and work is left; it said last: loading / head is gone",
    ]
    assert [each["status"]["jobDeploymentStatus"] for each in api_server.jobs.values()] == ["Complete"]


def test_cells_that_only_die_are_given_up(api_server: Any, cells: Cells, ledger: SqliteLedger) -> None:
    """Five in a row did nothing: the error says so, and how to see why."""
    operator = Operator(api_server, [fails(api_server, ledger, 0)])
    with pytest.raises(CellsDie, match="5 cells ended in a row with nothing settled between; see"):
        keep(cells, ledger, job(0))
    assert len(operator.born) == 5


def test_without_money_for_another_series_dead_cells_are_not_replaced(
    api_server: Any, cells: Cells, ledger: SqliteLedger
) -> None:
    """The first series takes so long that the budget pays for no second: the fleet ends, the rest stays to be done."""

    def toils(name: str) -> None:
        works(ledger, 1, seconds=200)
        fails(api_server, ledger, 0)(name)

    Operator(api_server, [toils])
    governor = keep(cells, ledger, job(0), budget=Decimal("14.22"))
    assert governor.out_of_budget
    assert ledger.counts().open == ITEMS - 1
    assert len([each for each in told(ledger) if "created" in each]) == 1


def test_the_last_of_the_budget_ends_all_cells(api_server: Any, cells: Cells, ledger: SqliteLedger) -> None:
    """Cells that go on spending are deleted with their machines before the budget is passed."""

    def spends(name: str) -> None:
        # Both run by now: one that did not would not be needed any more once the other spends.
        if name == "nlst-c1":
            for each in ("nlst-c0", name):
                ledger.node_up(each, "toy", "cell")
            ledger.heartbeat("cell", 60)

    Operator(api_server, [spends])
    with pytest.raises(BudgetSpent):
        keep(cells, ledger, job(0), job(1), budget=Decimal("14.22"))
    assert api_server.jobs == {}
    assert "nlst-c1: removed, the budget is spent" in told(ledger)


def test_a_dead_cell_without_last_words_is_replaced(
    api_server: Any, cells: Cells, ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pod never began, and the server has no log of it (400): it is removed, and the next one does the work."""

    def none(name: str, lines: int) -> str:
        raise KubernetesError(name, f"400 Bad Request: container is waiting to start, {lines} lines")

    monkeypatch.setattr(cells, "logs", none)
    Operator(api_server, [fails(api_server, ledger, 2), completes(api_server, ledger, 9)])
    keep(cells, ledger, job(0))
    assert ledger.counts().completed == ITEMS


def test_one_cell_that_cannot_be_removed_leaves_no_other(
    api_server: Any, cells: Cells, ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The budget is spent, and the server refuses to delete the first cell: the second is gone, and the error told."""
    cells.submit(job(0))
    cells.submit(job(1))
    deletes = cells.delete

    def refuses_the_first(name: str) -> None:
        if name == "nlst-c0":
            raise KubernetesError(name, "403 Forbidden")
        deletes(name)

    monkeypatch.setattr(cells, "delete", refuses_the_first)

    def spent() -> None:
        raise BudgetSpent(Decimal(2), Decimal(2))

    governor = Governor(ledger, TOY, None, threading.Event())
    with pytest.raises(KubernetesError, match="403 Forbidden"):
        keep_up(cells, Fleet((job(0), job(1))), ledger, governor, spent)
    assert list(api_server.jobs) == ["nlst-c0"]


def test_a_server_that_is_busy_for_long_does_not_end_the_fleet(
    api_server: Any, cells: Cells, ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cells go on by themselves; who looks after them looks again. One that may not be looked at ends it."""
    monkeypatch.setattr("voxfleet.cluster.kubernetes.kuberay.TRIES", 1)
    complete = completes(api_server, ledger, 9)

    def is_busy(name: str) -> None:
        api_server.faults.extend([(503, {})] * 3)
        complete(name)

    Operator(api_server, [is_busy])
    keep(cells, ledger, job(0))
    assert ledger.counts().open == 0
    api_server.faults = [(403, {})]
    with pytest.raises(KubernetesError, match="403"):
        keep(cells, ledger, job(0))


def test_a_cell_that_left_comes_again_for_what_another_driver_held(
    api_server: Any, cells: Cells, ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ended with nothing to lease, which is no death: it is created again once the other driver fell silent.

    That nobody but the keeper is there to take back what was held changes nothing.
    """
    monkeypatch.setattr("voxfleet.cluster.kubernetes.replacing.MOST_DEATHS", 1)
    ledger.lease("elsewhere", 1)

    def leaves(name: str) -> None:
        while not told(ledger):
            time.sleep(0.01)
        works(ledger, ITEMS - 1)
        ledger.event("info", LEFT, "c0: nothing to lease for 300 s")
        completes(api_server, ledger, 0)(name)
        threading.Timer(0.3, lambda: ledger.heartbeat("elsewhere", 0.0)).start()

    operator = Operator(api_server, [leaves, completes(api_server, ledger, 1)])
    keep(cells, ledger, job(0))
    assert operator.born == ["nlst-c0"] * 2
    assert ledger.counts().completed == ITEMS
    assert told(ledger) == [
        "nlst-c0: created",
        "nlst-c0: removed: Complete, there was nothing to lease",
        "nlst-c0: created",
    ]


class Away(SqliteLedger):
    """A ledger whose database can go away."""

    away = False

    def counts(self) -> Counts:
        """See Ledger."""
        if self.away:
            raise LedgerUnavailable("ledger", "no route to host")
        return super().counts()

    def event(self, *words: str) -> None:
        """See Ledger."""
        self.counts()
        super().event(*words)


def test_the_last_of_the_budget_ends_all_cells_also_unseen(
    api_server: Any, cells: Cells, ledger: SqliteLedger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two nodes at ten cents a second: of 36 US$ 24.40 are for the 122 s in which they go, the rest for 58 s.

    The ledger goes away for a minute; the cells go in that time, and not after the 600 s for which it is waited for.
    """
    gone = Away(tmp_path / "ledger.sqlite")
    monkeypatch.setattr("voxfleet.cluster.budgets.governor.monotonic", lambda: time.monotonic() + 60.0 * gone.away)
    patience = Patience()
    away = patient(gone, patience)
    governor = Governor(away, TOY, Decimal("36.00"), threading.Event())
    patience.minds = governor.check_unseen

    def spends(name: str) -> None:
        ledger.node_up(name, "toy", name)
        ledger.heartbeat(name, 600)

    def observe() -> None:
        both = len(ledger.nodes()) == 2
        governor.check()
        gone.away = both

    Operator(api_server, [spends])
    with pytest.raises(BudgetSpent, match="without the ledger"):
        keep_up(cells, Fleet((job(0), job(1))), away, governor, observe)
    assert api_server.jobs == {}


def test_a_cell_that_ends_the_work_as_it_is_looked_at_has_not_died(
    api_server: Any, cells: Cells, ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last workitem and its command end between the look at the ledger and that at the cells: all is done."""
    monkeypatch.setattr("voxfleet.cluster.kubernetes.replacing.MOST_DEATHS", 1)
    cells.submit(job(0))
    api_server.set_status("nlst-c0", jobDeploymentStatus="Running")
    looks, states = iter(range(9)), cells.states

    def ends_meanwhile(run: str) -> Any:
        # At first it is seen to be the one that is asked for, and then at work.
        if next(looks) == 2:
            completes(api_server, ledger, ITEMS)("nlst-c0")
        return states(run)

    monkeypatch.setattr(cells, "states", ends_meanwhile)
    keep(cells, ledger, job(0))
    assert ledger.counts().open == 0
    assert told(ledger) == []


def test_cells_that_are_at_work_are_taken_on(api_server: Any, cells: Cells, ledger: SqliteLedger) -> None:
    """The same command again watches the cells that are there; one of another size is refused before all else."""
    cells.submit(job(0))
    api_server.set_status("nlst-c0", jobDeploymentStatus="Running")
    threading.Timer(0.2, lambda: completes(api_server, ledger, 9)("nlst-c0")).start()
    keep(cells, ledger, job(0))
    assert told(ledger) == []
    api_server.set_status("nlst-c0", jobDeploymentStatus="Running")
    with pytest.raises(CellExists):
        keep(cells, ledger, job(0, workers=4))


def test_a_stop_leaves_the_cells(api_server: Any, cells: Cells, ledger: SqliteLedger) -> None:
    """Ctrl-C ends the watching, and no work; what was created has the time that the run has left."""
    governor = Governor(ledger, TOY, None, threading.Event(), Limits(wall_s=600.0))
    keep_up(cells, Fleet([job(0)]), ledger, governor, governor.stop.set)
    assert list(api_server.jobs) == ["nlst-c0"]
    assert re.search(r"--deadline (600|5\d\d)s", api_server.jobs["nlst-c0"]["spec"]["entrypoint"])
