"""Series through one warm worker against calls of TotalSegmentator's command line.

``python -m voxfleet.benchmarks.performance.warm_vs_cli``: the same image (512x512x300, a real CT resampled), the
same made weights of the fast 3 mm architecture, a label map as NIfTI from both, which must be the same
voxel by voxel. Runs are paired, turn about. The network's own forward passes are timed on both sides
and taken off: what is left is what a warm worker can save.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import highdicom as hd
import nibabel as nib
import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from ...models.totalsegmentator.tasks import tasks
from .harness import RESULTS, ValuesDiffer, machine
from .realistic_case import EXAMPLE, SIZES, make_case
from .totalsegmentator_peer import ForwardPasses, command_line
from .totalsegmentator_weights import SKELETON, write_home

TASK = "total_fast"
TARGET_RATIO = 5.0
"""CPU seconds of the command line beside the network over ours."""
SAMPLE_S = 0.1
"""Between two looks at the memory of a process and its children."""


@dataclass(frozen=True, slots=True)
class Run:
    """One series: wall and CPU seconds, those of the network's forward passes, and the highest memory."""

    wall_s: float
    cpu_s: float
    network_wall_s: float
    network_cpu_s: float
    peak_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the results, in seconds; `ratio` is of CPU seconds, which a busy machine changes less."""

    name: str
    peer: str
    peer_version: str
    ours_s: float
    peer_s: float
    ratio: float
    target: float | None
    met: bool | None
    ours_wall_s: float
    peer_wall_s: float
    wall_ratio: float
    ours_peak_bytes: int
    peer_peak_bytes: int


Seconds = Callable[[Run], tuple[float, float]]
"""Wall and CPU seconds of a run."""


_worker: dict[str, Any] = {}
"""The warm model of the worker process, and its timed forward passes."""


def start_worker(home: str) -> None:
    """Load the model; what a worker does once."""
    os.environ["TOTALSEG_HOME_DIR"] = home
    from ...models import catalogue
    from ...models.nnunet import sliding_window

    passes = ForwardPasses(sliding_window._mirrored_mean)  # noqa: SLF001 - what is timed has no public name
    sliding_window._mirrored_mean = passes  # type: ignore[assignment]  # noqa: SLF001
    _worker.update(model=catalogue.load(f"totalsegmentator:{TASK}"), passes=passes)


def warm(source: Path, target: Path) -> Run:
    """One series through the warm worker, from NIfTI file to NIfTI file as the command line does it."""
    passes: ForwardPasses = _worker["passes"]
    before = passes.wall_s, passes.cpu_s
    wall, cpu = time.perf_counter(), time.process_time()
    image = nib.Nifti1Image.from_filename(source)
    turn = np.diag([-1.0, -1.0, 1.0, 1.0])
    volume = hd.Volume(np.asanyarray(image.dataobj), turn @ image.affine, "PATIENT")
    labels = _worker["model"].segment(volume, {}).labelmap.array
    nib.save(nib.Nifti1Image(labels, image.affine), target)
    took = time.perf_counter() - wall, time.process_time() - cpu
    return Run(*took, passes.wall_s - before[0], passes.cpu_s - before[1])


def cold(source: Path, target: Path, home: Path) -> Run:
    """One series through a call of the package's command line."""
    passes = home / "passes.json"
    arguments = ("-i", source, "-o", target, "--ml", "--fast", "--device", "cpu", "--quiet")
    command, environment = command_line(home, passes, *map(str, arguments))
    before, wall = _children_cpu_s(), time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    peak_bytes = peak_memory(process.pid, lambda: process.poll() is not None)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    took = time.perf_counter() - wall, _children_cpu_s() - before
    network = json.loads(passes.read_text())
    return Run(*took, network["wall_s"], network["cpu_s"], peak_bytes)


def peak_memory(pid: int, done: Callable[[], bool]) -> int:
    """Highest resident bytes of a process and its children together, until it is done."""
    highest = 0
    while not done():
        with suppress(psutil.NoSuchProcess):
            root = psutil.Process(pid)
            highest = max(highest, sum(each.memory_info().rss for each in (root, *root.children(recursive=True))))
        time.sleep(SAMPLE_S)
    return highest


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def compare(source: Path, home: Path, rounds: int) -> tuple[list[Run], list[Run]]:
    """Runs of both, turn about, after a first one of ours that warms the worker.

    Raises
    ------
    ValuesDiffer
        If a label map is not the same from both.
    """
    ours, theirs = [], []
    targets = home / "ours.nii.gz", home / "theirs.nii.gz"
    with ProcessPoolExecutor(1, get_context("spawn"), start_worker, (str(home),)) as pool:
        pid = pool.submit(os.getpid).result()
        pool.submit(warm, source, targets[0]).result()
        for _ in range(rounds):
            future = pool.submit(warm, source, targets[0])
            peak_bytes = peak_memory(pid, future.done)
            ours.append(replace(future.result(), peak_bytes=peak_bytes))
            theirs.append(cold(source, targets[1], home))
            a, b = (np.asanyarray(nib.Nifti1Image.from_filename(target).dataobj) for target in targets)
            if not np.array_equal(a, b):
                raise ValuesDiffer(f"{np.count_nonzero(a != b)} voxels of the label map")
    return ours, theirs


def row(name: str, ours: list[Run], theirs: list[Run], seconds: Seconds, target: float | None) -> Row:
    """Medians of one kind of seconds: all, or those beside the network."""
    (ours_wall_s, ours_s), (peer_wall_s, peer_s) = (_medians([seconds(run) for run in runs]) for runs in (ours, theirs))
    ratio = peer_s / ours_s
    return Row(
        name=name,
        peer="TotalSegmentator --ml --fast",
        peer_version=importlib.metadata.version("TotalSegmentator"),
        ours_s=ours_s,
        peer_s=peer_s,
        ratio=ratio,
        target=target,
        met=None if target is None else ratio >= target,
        ours_wall_s=ours_wall_s,
        peer_wall_s=peer_wall_s,
        wall_ratio=peer_wall_s / ours_wall_s,
        ours_peak_bytes=max(run.peak_bytes for run in ours),
        peer_peak_bytes=max(run.peak_bytes for run in theirs),
    )


def _medians(pairs: list[tuple[float, float]]) -> tuple[float, float]:
    """Median of the wall seconds and of the CPU seconds."""
    return statistics.median(pair[0] for pair in pairs), statistics.median(pair[1] for pair in pairs)


def whole(run: Run) -> tuple[float, float]:
    """Wall and CPU seconds."""
    return run.wall_s, run.cpu_s


def beside_network(run: Run) -> tuple[float, float]:
    """Wall and CPU seconds without the forward passes."""
    return run.wall_s - run.network_wall_s, run.cpu_s - run.network_cpu_s


def show(rows: list[Row]) -> None:
    """Print the rows as a table."""
    table = Table(title="One warm worker against the command line, medians")
    headings = ("ours CPU", "peer CPU", "ratio", "target", "ours wall", "peer wall", "wall ratio", "ours GB", "peer GB")
    for heading in ("seconds", *headings):
        table.add_column(heading, justify="left" if heading == "seconds" else "right")
    for each in rows:
        memory = (each.ours_peak_bytes / 1e9, each.peer_peak_bytes / 1e9)
        walls = (each.ours_wall_s, each.peer_wall_s, each.wall_ratio)
        figures = (each.ours_s, each.peer_s, each.ratio, each.target, *walls, *memory)
        table.add_row(each.name, *("-" if figure is None else f"{figure:,.2f}" for figure in figures))
    Console().print(table)


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; write and print its results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--plans", choices=("full", "tiny"), default="full", help="architecture of the made network")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--example", type=Path, default=EXAMPLE, help="folder of TotalSegmentator's reference files")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "voxfleet-benchmarks")
    parser.add_argument("--output", type=Path, default=RESULTS / "warm_vs_cli.json")
    options = parser.parse_args(arguments)
    volume = make_case(SIZES[options.size], options.example, options.cache).volume
    size = " x ".join(map(str, volume.array.shape))
    with tempfile.TemporaryDirectory() as folder:
        home, source = Path(folder), Path(folder) / "image.nii.gz"
        write_home(home, (tasks()[TASK],), SKELETON / ("plans.json" if options.plans == "full" else "plans_tiny.json"))
        nib.save(nib.Nifti1Image(volume.array, np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.affine), source)
        ours, theirs = compare(source, home, options.rounds)
    what = f"{size}, {options.plans} architecture"
    rows = [
        row(f"{what}: beside the network", ours, theirs, beside_network, TARGET_RATIO),
        row(f"{what}: whole series", ours, theirs, whole, None),
    ]
    runs = {"ours": [asdict(run) for run in ours], "peer": [asdict(run) for run in theirs]}
    document = {"machine": machine(), "rows": [asdict(each) for each in rows], "runs": runs}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(document, indent=2) + "\n")
    show(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
