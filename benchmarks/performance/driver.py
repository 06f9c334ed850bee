"""What the driver of a cell takes: ``python -m voxfleet.benchmarks.performance.driver``.

A hundred agents that end one workitem a second each, on a ledger with all of NLST's, under a
budget, with the progress bar's figures read. The agents are fake in that twenty-five share a process: a machine
that cannot hold a hundred processes can drive a hundred agents, and every call still goes through Ray.
Once that is measured the agents end their workitems at once, until all of NLST is done: what the driver can
at most, and what it holds at the end.
Targets: 30 % of one core; 500 MB of memory after all 126,068 workitems.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import count
from pathlib import Path
from threading import Event
from typing import Any
from unittest import mock

import psutil
import ray

from ...cluster.budgets.governor import Governor
from ...cluster.commands import observer
from ...cluster.drivers import ray_agents, ray_cell
from ...cluster.drivers.agent import Agent, CellEvent, CellSettings
from ...cluster.drivers.kinds import Kind
from ...cluster.ledgers.sqlite import SqliteLedger
from ...runners.workitem import Workitem
from .figures import Figure, at_least, publish_figures
from .ledger import NLST_SERIES
from .stubs import TOY, stub_run, stub_workitems

AGENTS = 100
PROCESSES = 4
"""That the agents share."""

ITEM_S = 1.0
SETTLE = 0.2
"""Share of the workitems of a second that is not counted: agents begin."""

WARM = 20_000
"""Workitems after which memory has filled up to what it stays at."""


class _Call:
    """A method of a shared actor, as one agent's."""

    def __init__(self, remote: Callable[..., Any]) -> None:
        self.remote = remote


class _FakeAgent:
    """One of many agents in a shared actor; closing it closes nothing that others use."""

    def __init__(self, shared: Any) -> None:
        self.where, self.process = _Call(shared.where.remote), _Call(shared.process.remote)
        self.hear = self.close = _Call(shared.hear.remote)


def _sharing(shared: list[Any]) -> Callable[[Any, Kind], _FakeAgent]:
    """What begins an actor in place of `ray_agents`' own way: an agent in the next of the shared ones."""
    numbers = count()
    return lambda *_: _FakeAgent(shared[next(numbers) % len(shared)])


@dataclass(frozen=True, slots=True)
class _Reading:
    """The driver after so many workitems: seconds on the clock and of CPU, bytes held."""

    done: int
    wall_s: float
    cpu_s: float
    held: int


def _workitems(timed: int) -> Iterator[Workitem]:
    """NLST's workitems; all after the first `timed` take no time."""
    for n, item in enumerate(stub_workitems(NLST_SERIES, {"segment": (ITEM_S, ITEM_S)})):
        yield item if n < timed else replace(item, parameters=())


def drive(timed: int, folder: Path) -> list[Figure]:
    """Drive the agents through all of NLST, of which the first `timed` workitems take their second."""
    ledger = SqliteLedger(folder / "ledger.sqlite")
    ledger.create_run(stub_run())
    ledger.add(_workitems(timed))
    ray.init(address="local", num_cpus=PROCESSES, include_dashboard=False, object_store_memory=80 * 2**20)
    kind: Any = ray.remote(Agent)
    shared = [
        kind.options(max_concurrency=AGENTS).remote(f"{__package__}.stubs:Waiting", "", 900.0) for _ in range(PROCESSES)
    ]
    ray.get([actor.where.remote() for actor in shared])
    stop, process = Event(), psutil.Process()
    governor = Governor(ledger, TOY, Decimal(10**6), stop)
    observe = observer(ledger, governor, lambda **_: None)
    readings: list[_Reading] = []
    done = 0

    def on_event(event: CellEvent) -> None:
        nonlocal done
        observe()
        if event.kind == "finished":
            done += 1
            if done % AGENTS == 0 or done == NLST_SERIES:
                readings.append(_Reading(done, time.monotonic(), time.process_time(), process.memory_info().rss))

    settings = CellSettings((Kind(AGENTS, settings=""),), machine="toy")
    started_here = mock.patch.object(ray_agents.Agents, "_actor", _sharing(shared))
    with started_here, mock.patch.object(ray, "kill"):
        ray_cell.run_on_ray(ledger, settings, may_lease=governor.may_lease, on_event=on_event, stop=stop)
    ray.shutdown()
    ledger.close()
    return [*_figures_at_pace(readings, timed), *_figures_at_most(readings, timed)]


def _figures_at_pace(readings: list[_Reading], timed: int) -> list[Figure]:
    counted = [each for each in readings if SETTLE * timed <= each.done <= timed - AGENTS]
    items, wall_s, cpu_s = _between(counted[0], counted[-1])
    note = f"{AGENTS} agents in {PROCESSES} processes, {items} items of {ITEM_S:.0f} s"
    return [
        at_least("items", items / wall_s, "items/s", 0.9 * AGENTS / ITEM_S, note),
        Figure("CPU of the driver", 100 * cpu_s / wall_s, "% of a core", 30.0, note=note),
        Figure("CPU of the driver", cpu_s / items * 1e3, "ms/item"),
    ]


def _figures_at_most(readings: list[_Reading], timed: int) -> list[Figure]:
    warm, last = next(each for each in readings if each.done >= timed + WARM), readings[-1]
    items, wall_s, cpu_s = _between(warm, last)
    note = f"items of no time, {cpu_s / items * 1e3:.2f} ms of CPU each"
    return [
        Figure("items at most", items / wall_s, "items/s", note=note),
        Figure("memory at the end of NLST", last.held / 1e6, "MB", 500.0, note=f"after {last.done} items"),
        Figure("memory grown", (last.held - warm.held) / 1e6, "MB", note=f"over the last {items} items"),
    ]


def _between(first: _Reading, last: _Reading) -> tuple[int, float, float]:
    """Workitems, seconds and CPU seconds from one reading to another."""
    return last.done - first.done, last.wall_s - first.wall_s, last.cpu_s - first.cpu_s


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=6000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        publish_figures("driver", "The driver of a cell of a hundred agents", drive(options.items, Path(folder)))


if __name__ == "__main__":
    main()
