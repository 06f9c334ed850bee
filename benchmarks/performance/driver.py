"""What the driver of a cell takes: ``python -m voxfleet.benchmarks.performance.driver``.

A hundred agents that end one workitem a second each, on a ledger with all of NLST's, under a
budget, with the progress bar's figures read. The agents are fake in that twenty-five share a process: a machine
that cannot hold a hundred processes can drive a hundred agents, and every call still goes through Ray.
Targets: 30 % of one core; 500 MB of memory after all 126,068 workitems, reckoned from how it grows.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from decimal import Decimal
from itertools import count
from pathlib import Path
from threading import Event
from typing import Any
from unittest import mock

import psutil
import ray

from ...cluster import ray_cell
from ...cluster.agent import Agent, CellEvent, CellSettings
from ...cluster.commands import observer
from ...cluster.governor import Governor
from ...cluster.ledgers.sqlite import SqliteLedger
from .figures import Figure, at_least, publish_figures
from .ledger import NLST_SERIES
from .stubs import TOY, stub_run, stub_workitems

AGENTS = 100
PROCESSES = 4
"""That the agents share."""

ITEM_S = 1.0
SETTLE = 0.2
"""Share of a run that is not counted: agents begin, and memory fills up to what it stays at."""


class _Call:
    """A method of a shared actor, as one agent's."""

    def __init__(self, remote: Callable[..., Any]) -> None:
        self.remote = remote


class _FakeAgent:
    """One of many agents in a shared actor; closing it closes nothing that others use."""

    def __init__(self, shared: Any) -> None:
        self.where, self.process = _Call(shared.where.remote), _Call(shared.process.remote)
        self.hear = self.close = _Call(shared.hear.remote)


def _sharing(shared: list[Any]) -> Callable[[Any, str], None]:
    """What starts an agent in place of `ray_cell`'s own way: in the next of the shared actors."""
    numbers = count()

    def start(cell: Any, name: str) -> None:
        actor = _FakeAgent(shared[next(numbers) % len(shared)])
        cell._agents[name] = ray_cell._Handle(actor)  # noqa: SLF001 - only what starts a process is replaced
        cell._calls[actor.where.remote()] = (name, None)  # noqa: SLF001

    return start


def drive(finish: int, folder: Path) -> list[Figure]:
    """Drive the agents until so many workitems are done."""
    ledger = SqliteLedger(folder / "ledger.sqlite")
    ledger.create_run(stub_run())
    ledger.add(stub_workitems(NLST_SERIES, {"segment": (ITEM_S, ITEM_S)}))
    ray.init(address="local", num_cpus=PROCESSES, include_dashboard=False, object_store_memory=80 * 2**20)
    kind: Any = ray.remote(Agent)
    shared = [
        kind.options(max_concurrency=AGENTS).remote(f"{__package__}.stubs:Waiting", "", 900.0) for _ in range(PROCESSES)
    ]
    ray.get([actor.where.remote() for actor in shared])
    stop, process = Event(), psutil.Process()
    governor = Governor(ledger, TOY, Decimal(10**6), stop)
    observe = observer(ledger, governor, lambda **_: None)
    readings: list[tuple[int, float, float, int]] = []
    done = 0

    def on_event(event: CellEvent) -> None:
        nonlocal done
        observe()
        if event.kind == "finished":
            done += 1
            if done % AGENTS == 0:
                readings.append((done, time.monotonic(), time.process_time(), process.memory_info().rss))
            if done >= finish:
                stop.set()

    settings = CellSettings(agents=AGENTS, depth=1, settings="", machine="toy")
    started_here = mock.patch.object(ray_cell._Cell, "_start_agent", _sharing(shared))  # noqa: SLF001
    with started_here, mock.patch.object(ray, "kill"):
        ray_cell.run_on_ray(ledger, settings, may_lease=governor.may_lease, on_event=on_event, stop=stop)
    ray.shutdown()
    ledger.close()
    return _figures([each for each in readings if SETTLE * finish <= each[0] <= finish])


def _figures(readings: list[tuple[int, float, float, int]]) -> list[Figure]:
    (first, began_s, cpu_s, _), (last, ended_s, used_s, held) = readings[0], readings[-1]
    items, wall_s = last - first, ended_s - began_s
    midway, _, _, rss = readings[len(readings) // 2]
    per_item = max(0.0, (held - rss) / (last - midway))
    whole = held + per_item * (NLST_SERIES - last)
    note = f"{AGENTS} agents in {PROCESSES} processes, {items} items"
    return [
        at_least("items", items / wall_s, "items/s", 0.9 * AGENTS / ITEM_S, note),
        Figure("CPU of the driver", 100 * (used_s - cpu_s) / wall_s, "% of a core", 30.0, note=note),
        Figure("CPU of the driver", (used_s - cpu_s) / items * 1e3, "ms/item"),
        Figure("memory", held / 1e6, "MB", 500.0, note=f"after {last} items"),
        Figure("memory at the end of NLST", whole / 1e6, "MB", 500.0, note=f"{per_item:.0f} bytes an item, reckoned"),
    ]


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=6000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        publish_figures("driver", "The driver of a cell of a hundred agents", drive(options.items, Path(folder)))


if __name__ == "__main__":
    main()
