"""How soon others can have what a dead machine held: ``python -m voxfleet.benchmarks.performance.recovery``.

What was lost waits until all was tried once that is not tried yet: an item may kill its machine. So
what is measured is when it could be leased again.

Targets: five seconds after the death of an agent on Ray; after that of a whole cell, the time of its
leases and five seconds.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import time
from pathlib import Path
from statistics import median
from threading import Event, Timer

from ...cluster.drivers.agent import CellEvent, CellSettings
from ...cluster.drivers.kinds import Kind
from ...cluster.drivers.local_cell import LocalCell, run_locally
from ...cluster.drivers.ray_cell import run_on_ray
from ...cluster.ledgers.sqlite import SqliteLedger
from ...runners.pipeline import PipelineSettings
from ...runners.request import StageSettings
from .figures import Figure, publish_figures
from .harness import ROUNDS
from .stubs import stub_run, stub_workitems
from .toll import Harm, freed_s

LEASE_S = 10.0
MOST_S = 5.0
ITEMS = 40
ITEM_S = 0.5
DEPTH = 2


def _ledger(folder: Path) -> SqliteLedger:
    ledger = SqliteLedger(folder / "ledger.sqlite")
    ledger.create_run(stub_run())
    ledger.add(stub_workitems(ITEMS, {"segment": (ITEM_S, ITEM_S)}))
    return ledger


def agent_death() -> float:
    """Seconds until the workitems of an agent that was killed are free for another."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pids").mkdir()
        ledger, deaths = _ledger(folder), list[float]()

        def kill() -> None:
            deaths.append(time.time())
            os.kill(int(next((folder / "pids").iterdir()).name), signal.SIGKILL)

        # In the midst of a workitem: as one ends, its agent may hold nothing.
        soon = Timer(ITEM_S / 2, kill)

        def on_event(event: CellEvent) -> None:
            if event.kind == "finished" and not soon.ident and len(list((folder / "pids").iterdir())) == DEPTH:
                soon.start()

        agents = Kind(2, DEPTH, str(folder / "pids"), cpus=0.5)
        settings = CellSettings((agents,), f"{__package__}.stubs:Waiting", lease_s=LEASE_S)
        run_on_ray(ledger, settings, may_lease=lambda _: True, on_event=on_event, stop=Event())
        (seconds,) = freed_s(ledger.attempts(), [Harm(deaths[0])])
        ledger.close()
        return seconds


def _cell(folder: str, owner: str) -> None:
    """One cell: a driver with its children, until nothing is left."""
    place = Path(folder)
    stages = StageSettings(place / owner / "scratch", place / "series", owner)
    pipeline = PipelineSettings(stages, perform=f"{__package__}.stubs:lane")
    ledger = SqliteLedger(place / "ledger.sqlite")
    cell = LocalCell(pipeline, "toy", owner, lease_s=LEASE_S)
    run_locally(ledger, cell, may_lease=lambda _: True, observe=lambda: None, stop=Event())


def cell_death() -> float:
    """Seconds until the workitems of a cell that was killed are free for another."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        ledger = _ledger(Path(folder))
        cells = [context.Process(target=_cell, args=(folder, owner)) for owner in ("first", "second")]
        for cell in cells:
            cell.start()
        while len({each.node for each in ledger.attempts() if each.ended}) < len(cells):
            time.sleep(0.05)
        killed = time.time()
        cells[0].kill()
        cells[1].join()
        (seconds,) = freed_s(ledger.attempts(), [Harm(killed, "first")])
        ledger.close()
        return seconds


def main() -> None:
    """Measure and publish."""
    agent = median(agent_death() for _ in range(ROUNDS))
    cell = median(cell_death() for _ in range(ROUNDS))
    leases = f"leases of {LEASE_S:.0f} s, workitems of {ITEM_S} s"
    figures = [
        Figure("agent killed: free again", agent, "s", MOST_S, note="one of two on Ray"),
        Figure("cell killed: free again", cell, "s", LEASE_S + MOST_S, note=leases),
    ]
    publish_figures("recovery", "What a dead machine held is free again", figures)


if __name__ == "__main__":
    main()
