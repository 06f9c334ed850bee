"""Items per second through the ledgers: ``python -m voxfleet.benchmarks.performance.ledger``.

Targets: 126,068 workitems (all of NLST's) taken in within 5 s; leased, started and finished by one
driver, 1,000 items/s in SQLite and 500 items/s in PostgreSQL, whose server shares the machine; of 64 drivers
that do 500 items/s together, 99 in a hundred leases within 50 ms; all that `voxfleet status` says, and the
command itself, installed from a wheel, from its call to its end, within 0.2 s on the full ledger.

A driver records together what begins or ends together: the more there is to do, the more that is. One at
a time, what is finished waits for the disk each time; that rate is the disk's.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from ...cluster.ledger import Lease, Ledger, Run
from ...cluster.ledgers.postgres import PostgresLedger
from ...cluster.ledgers.sqlite import SqliteLedger
from ...cluster.run_folder import RunFolder
from ...cluster.status.progress import standing
from ...enrich.archives.archive import StoredObject
from ...runners.consumption import Consumption
from ...runners.workitem import Outcome, State, Workitem
from .claims import DRIVERS as MANY
from .claims import Claims
from .figures import Figure, at_least, publish_figures
from .harness import ROUNDS, took
from .postgres import running_postgres
from .stubs import TOY

NLST_SERIES = 126_068
STAGES = ("retrieve", "read", "segment", "measure", "encode", "store")
DRIVERS = 8
"""That work on one PostgreSQL at the same time."""

TOGETHER = 16
"""Workitems that end in the time in which a driver with 1,000 of them a second records those before."""

RATES = {"SQLite": 1000.0, "PostgreSQL": 500.0}
"""Items per second that are aimed at."""

CLAIM_MS = 50.0
"""Within which a lease is to be had."""

CHECKOUT = Path(__file__).parents[2]

RUN = Run("nlst", "dir:/a", "dir:/b", ("m 1",), {}, "0", "local", datetime.now(UTC), price=TOY)


def workitems(number: int) -> Iterator[Workitem]:
    """Workitems with the fields and sizes of real ones."""
    for i in range(number):
        yield Workitem(
            study_instance_uid=f"1.2.840.113654.2.55.{i // 2}",
            series_instance_uid=f"1.2.840.113654.2.55.{i // 2}.{i}",
            modality="CT",
            instances=164,
            source="dir:/data/nlst",
            target="dir:/data/enriched",
            model="ct-threshold",
            model_version="1.0",
            weights_sha256="none",
            bytes=86_500_000 + (i * 7919) % 1_000_000,
        )


def outcome_of(lease: Lease) -> Outcome:
    """A COMPLETED outcome with six stages and two stored objects."""
    key = lease.workitem.key
    used = tuple(Consumption(stage, 1.8e9 + i, 1.0, 1.0, 0.0, 10**9, 10**6, 10**6) for i, stage in enumerate(STAGES))
    uid = f"2.25.{int(key[:24], 16)}"
    stored = tuple(StoredObject("1.2.840.10008.5.1.4.1.1.66.4", uid + end, uid, "dir:x", key, 10**6) for end in "12")
    return Outcome(key, State.COMPLETED, used, stored, node="n1")


def work(ledger: Ledger, number: int, together: int, owner: str = "benchmark") -> int:
    """Lease, start and finish some at a time, as `ray_cell` does, until `number` are done."""
    done = 0
    while done < number and (leases := ledger.lease(owner, together)):
        ledger.start_all([(lease, "n1") for lease in leases])
        done += sum(ledger.finish_all([(lease, outcome_of(lease), "") for lease in leases]))
    return done


def seconds(call: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


@contextmanager
def databases() -> Iterator[tuple[str, dict[str, Callable[[str], Ledger]]]]:
    """PostgreSQL's URL, and openers of an empty ledger of each kind, by the name of a run."""
    with tempfile.TemporaryDirectory() as folder, running_postgres() as server:
        yield (
            server.url,
            {
                "SQLite": lambda name: SqliteLedger(Path(folder) / f"{name}.sqlite"),
                "PostgreSQL": lambda name: PostgresLedger(server.url, name),
            },
        )


def of_one(kind: str, ledger: Ledger, items: list[Workitem], finish: int) -> list[Figure]:
    """Figures of one kind of ledger with one driver."""
    ledger.create_run(RUN)
    load = took(lambda: ledger.add(items))
    ledger.node_up("n1", "toy", "benchmark")
    runs = [took(lambda: work(ledger, finish, TOGETHER)) for _ in range(ROUNDS)]
    alone = took(lambda: work(ledger, finish // 10, 1))
    rate = finish / median(run.wall_s for run in runs)
    cpu_ms = median(run.cpu_s for run in runs) / finish * 1e3
    look = median(seconds(lambda: standing(ledger, RUN, TOY)) for _ in range(5))
    full = f"{len(items)} items, {ROUNDS * finish} of them done"
    return [
        Figure(f"{kind}: load", load.wall_s, "s", 5.0, note=f"{len(items)} items, {load.cpu_s:.1f} s of our CPU"),
        at_least(
            f"{kind}: lease, start, finish", rate, "items/s", RATES[kind], f"{finish} items, {TOGETHER} at a time"
        ),
        Figure(f"{kind}: CPU of the driver", cpu_ms, "ms/item"),
        Figure(f"{kind}: one at a time", finish // 10 / alone.wall_s, "items/s", note="each waits for the disk"),
        Figure(f"{kind}: all that status says", look * 1e3, "ms", 200.0, note=full),
    ]


def installed(folder: Path) -> Path:
    """The command that a wheel of this checkout installs: an environment of its own, with the libraries of this one."""
    venv.create(folder)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "libraries.pth").write_text(f"{sysconfig.get_path('purelib')}\n", encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--no-build-isolation", "--force-reinstall", str(CHECKOUT)], check=True)
    return folder / "bin" / "voxfleet"


def status_command(items: list[Workitem], finish: int) -> Figure:
    """From the call of `voxfleet status` to its end, with Python's start, as those have it who install the wheel."""
    with tempfile.TemporaryDirectory() as folder:
        place = RunFolder(f"{folder}/run")
        place.path.mkdir()
        ledger = SqliteLedger(place.ledger)
        ledger.create_run(RUN)
        ledger.add(items)
        work(ledger, finish, 100)
        ledger.close()
        command = [str(installed(Path(folder) / "venv")), "status", str(place.path)]
        runs = [took(lambda: subprocess.run(command, check=True, capture_output=True)) for _ in range(9)]
    wall_s, cpu_s = median(run.wall_s for run in runs), median(run.cpu_s for run in runs)
    note = f"{len(items)} items, {finish} of them done; {cpu_s * 1e3:.0f} ms of CPU"
    return Figure("voxfleet status, the whole command", wall_s * 1e3, "ms", 200.0, note=note)


def of_many(open_ledger: Callable[[str], Ledger], finish: int) -> Figure:
    """Items per second of several drivers on one PostgreSQL, each with a connection of its own."""
    drivers = [open_ledger("nlst") for _ in range(DRIVERS)]

    def drive(n: int) -> int:
        return work(drivers[n], finish // DRIVERS, TOGETHER, f"driver-{n}")

    with ThreadPoolExecutor(DRIVERS) as threads:
        took_s = seconds(lambda: list(threads.map(drive, range(DRIVERS))))
    for driver in drivers:
        driver.close()
    return at_least(
        "PostgreSQL: several drivers together", finish / took_s, "items/s", RATES["PostgreSQL"], f"{DRIVERS} drivers"
    )


def of_leases(url: str) -> list[Figure]:
    """How long the slowest in a hundred leases of 64 drivers take: at the rate aimed at, and at their most."""
    rate = RATES["PostgreSQL"]
    steady = Claims(url, "nlst", outcome_of, 8, TOGETHER, MANY * TOGETHER / rate).seconds()
    most = Claims(url, "nlst", outcome_of, 20, 1, 0.0).seconds()
    name = f"PostgreSQL: leases with {MANY} drivers"
    note = f"{rate:g} items/s in all, {TOGETHER} at a time; half within {steady[len(steady) // 2] * 1e3:.1f} ms"
    return [
        Figure(f"{name}, p99", _p99_ms(steady), "ms", CLAIM_MS, note=note),
        Figure(f"{name} at their most, p99", _p99_ms(most), "ms", note="one at a time, without a pause"),
    ]


def _p99_ms(ordered: list[float]) -> float:
    return ordered[math.ceil(len(ordered) * 0.99) - 1] * 1e3


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=NLST_SERIES)
    parser.add_argument("--finish", type=int, default=3000)
    options = parser.parse_args()
    figures: list[Figure] = []
    items = list(workitems(options.items))
    with databases() as (url, openers):
        for kind, opened in openers.items():
            ledger = opened("nlst")
            figures += of_one(kind, ledger, items, options.finish)
            ledger.close()
        figures.append(of_many(openers["PostgreSQL"], options.finish))
        figures += of_leases(url)
    figures.append(status_command(items, 10 * options.finish))
    publish_figures("ledger", "The ledger", figures)


if __name__ == "__main__":
    main()
