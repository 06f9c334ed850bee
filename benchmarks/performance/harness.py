"""Paired runs against a peer: medians, a table, and a file of results."""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ... import Error

RESULTS = Path(__file__).parents[1] / "results"
ROUNDS = 3
PROGRAMS = Path(sys.executable).parent


class ValuesDiffer(Error):
    """Ours is not what the peer gives."""

    code = "VALUES_DIFFER"

    def __init__(self, what: str) -> None:
        super().__init__(what)


@dataclass(frozen=True, slots=True)
class Took:
    """What one run took: wall seconds, and CPU seconds of this process and the programs it ran."""

    wall_s: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the results.

    Attributes
    ----------
    ours_s, peer_s : float
        Medians: CPU seconds where `ours_wall_s` and `peer_wall_s` stand beside them, else wall seconds.
    ratio : float
        Peer over ours.
    target : float or None
        Least ratio that is aimed at.
    note : str
        What was run, where the name does not say it.
    """

    name: str
    peer: str
    peer_version: str
    ours_s: float
    peer_s: float
    ratio: float
    target: float | None
    met: bool | None
    note: str = ""
    ours_wall_s: float | None = None
    peer_wall_s: float | None = None


def row(name: str, peer: tuple[str, str], ours_s: float, peer_s: float, target: float | None, note: str = "") -> Row:
    """A row of plain seconds; `peer` is its name and version."""
    ratio = peer_s / ours_s
    return Row(name, *peer, ours_s, peer_s, ratio, target, None if target is None else ratio >= target, note)


def cpu_row(name: str, peer: tuple[str, str], ours: Took, theirs: Took, target: float | None, note: str = "") -> Row:
    """A row of CPU seconds, with the wall seconds beside them.

    No contestant has a second thread, so on a quiet machine the two are the same, and on a busy
    one CPU seconds are what can be compared.
    """
    plain = row(name, peer, ours.cpu_s, theirs.cpu_s, target, note)
    return replace(plain, ours_wall_s=ours.wall_s, peer_wall_s=theirs.wall_s)


def took(call: Callable[[], object]) -> Took:
    """What one call takes."""
    cpu, start = _cpu_s(), time.perf_counter()
    call()
    return Took(time.perf_counter() - start, _cpu_s() - cpu)


def _cpu_s() -> float:
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


def paired(calls: Sequence[Callable[[], object]], rounds: int = ROUNDS) -> list[Took]:
    """Medians of each call over some rounds; in a round each runs once, turn about, after a first that counts not."""
    runs: list[list[Took]] = [[] for _ in calls]
    for number in range(rounds + 1):
        for call, taken in zip(calls, runs, strict=True):
            one = took(call)
            if number:
                taken.append(one)
    return [median_of(taken) for taken in runs]


def median_of(runs: Sequence[Took]) -> Took:
    """Median wall seconds and median CPU seconds."""
    return Took(statistics.median(one.wall_s for one in runs), statistics.median(one.cpu_s for one in runs))


def run_program(*command: object) -> str:
    """Output of a program of this environment, or of the system.

    Raises
    ------
    subprocess.CalledProcessError
        If it fails.
    """
    name, *arguments = map(str, command)
    program = PROGRAMS / name if (PROGRAMS / name).is_file() else name
    return subprocess.run([program, *arguments], check=True, capture_output=True, text=True).stdout


def machine() -> dict[str, object]:
    """Describe the machine that the figures belong to, and how busy it was."""
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "load_average": [round(each, 2) for each in os.getloadavg()],
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def publish(name: str, title: str, rows: Sequence[Row], more: dict[str, object] | None = None) -> None:
    """Print the rows as a table and write them to ``benchmarks/results``."""
    show_rows(title, rows, more or {})
    write_results(name, {"rows": [asdict(each) for each in rows], **(more or {})})


def show_rows(title: str, rows: Sequence[Row], more: Mapping[str, object]) -> None:
    """Print the rows as a table, and what else is told below it."""
    table = Table(title=title)
    for heading in ("what", "peer", "ours s", "peer s", "ratio", "target", "met"):
        table.add_column(heading, justify="left" if heading in ("what", "peer") else "right")
    for each in rows:
        target = "-" if each.target is None else f"{each.target:.3g}"
        met = {None: "-", True: "yes", False: "no"}[each.met]
        figures = (f"{each.ours_s:.3f}", f"{each.peer_s:.3f}", f"{each.ratio:.2f}", target, met)
        table.add_row(each.name, f"{each.peer} {each.peer_version}", *figures)
    console = Console()
    console.print(table)
    for key, value in more.items():
        console.print(f"{key}: {value}", highlight=False)


def write_results(name: str, document: Mapping[str, object]) -> None:
    """Write a file of results, with the machine that they belong to."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps({"machine": machine(), **document}, indent=2) + "\n")
