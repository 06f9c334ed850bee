"""How well a node's lanes overlap, and what a workitem costs beside its stages.

``python -m voxfleet.benchmarks.performance.pipeline``. Stages wait and do nothing: of 200 workitems the
slowest lane's seconds are the ideal, and 95 % of it the target; the machinery (driver, ledger,
children) may take 20 ms of CPU for each workitem.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from threading import Event

from ...cluster.drivers.local_cell import LocalCell, run_locally
from ...cluster.ledgers.sqlite import SqliteLedger
from ...runners.pipeline import LANES, PipelineSettings
from ...runners.request import StageSettings
from ...runners.workitem import Workitem
from .figures import Figure, at_least, publish_figures
from .harness import ROUNDS, Took, took
from .stubs import seconds_of, stub_run, stub_workitems

SECONDS = {"prepare": (0.2, 0.5), "segment": (0.5, 0.9), "deliver": (0.2, 0.5)}
"""Least and most that each lane of a workitem takes."""

FEW, MANY = 50, 450
"""Workitems of two runs without waiting; what they differ by is the machinery's own."""


def enrich(items: Iterable[Workitem]) -> float:
    """Run all of them on one node; wall seconds from the first stage's start to the last one's end."""
    with tempfile.TemporaryDirectory() as folder:
        ledger = SqliteLedger(Path(folder) / "ledger.sqlite")
        ledger.create_run(stub_run())
        ledger.add(items)
        stages = StageSettings(Path(folder) / "scratch", Path(folder) / "series", "node")
        pipeline = PipelineSettings(stages, perform=f"{__package__}.stubs:lane")
        cell = LocalCell(pipeline, "toy", "benchmark")
        run_locally(ledger, cell, may_lease=lambda _: True, observe=lambda: None, stop=Event())
        used = [each for attempt in ledger.attempts() for each in attempt.consumption]
        ledger.close()
        return max(each.started + each.wall_s for each in used) - min(each.started for each in used)


def overlap(number: int) -> Figure:
    """Share of the ideal that the slowest lane sets."""
    items = list(stub_workitems(number, SECONDS))
    ideal = max(sum(seconds_of(item, lane) for item in items) for lane in LANES)
    wall_s = enrich(items)
    return at_least("overlap of the lanes", 100 * ideal / wall_s, "% of ideal", 95.0, f"{number} items, {wall_s:.0f} s")


def overhead() -> Figure:
    """CPU milliseconds of driver, ledger and children for each workitem."""

    def run(number: int) -> Took:
        return took(lambda: enrich(stub_workitems(number, {})))

    few, many = ([run(number).cpu_s for _ in range(ROUNDS)] for number in (FEW, MANY))
    cpu_ms = (median(many) - median(few)) / (MANY - FEW) * 1e3
    return Figure("CPU of the machinery", cpu_ms, "ms/item", 20.0, note=f"{MANY} items less {FEW}")


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=200)
    options = parser.parse_args()
    started = time.perf_counter()
    figures = [overhead(), overlap(options.items)]
    figures.append(Figure("this benchmark", time.perf_counter() - started, "s"))
    publish_figures("pipeline", "A node's pipeline", figures)


if __name__ == "__main__":
    main()
