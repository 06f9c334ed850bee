"""Radiomics of 104 structures against pyradiomics: ``python -m voxfleet.benchmarks.performance.radiomics``.

Both engines run in a process of their own, turn about, and their CPU seconds are
compared. pyradiomics gets boxes that are cropped once, its fastest way; because it needs
minutes for all structures and hours for tissue, by default it is given only those under
``--largest`` voxels, and ours the same ones for the ratio. Every value that both give
must be equal (1e-6 relative or 1e-9 absolute), else the run fails.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import math
import os
import platform
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy import ndimage

from ... import Error
from ...enrich import radiomics
from ...enrich.features import pyradiomics_engine
from ...enrich.measurement import Measured
from ...models.segmentation import Segmentation
from .realistic_case import EXAMPLE, SIZES, RealisticCase, make_case, structures

TARGET_RATIO = 250.0
"""CPU seconds of pyradiomics on cropped boxes over ours, for all structures that it can finish."""
MOST = 100
"""Structures that the target is for at the least: pyradiomics is slowest on the large ones that a subset leaves out."""
BODY_SLICES = 135
BODY_HU = -500
RESULTS = Path(__file__).parents[1] / "results" / "radiomics.json"
ENGINES: dict[str, Callable[..., Measured]] = {"voxfleet": radiomics.measure, "pyradiomics": pyradiomics_engine.measure}


class ValuesDiffer(Error):
    """Our features are not those of pyradiomics."""

    code = "VALUES_DIFFER"

    def __init__(self, feature: str, ours: float, theirs: float) -> None:
        super().__init__(feature, ours, theirs)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the results; the peer's figures are None where it was not run."""

    name: str
    peer: str
    peer_version: str
    ours_s: float
    peer_s: float | None
    ratio: float | None
    target: float | None
    met: bool | None
    ours_added_mb: float


@dataclass(frozen=True, slots=True, eq=False)
class Timed:
    """What one call gave, and what it took."""

    measured: Measured
    cpu_s: float


def run_engine(engine: str, case: RealisticCase) -> Timed:
    """Measure once, in CPU seconds of this process."""
    start = time.process_time()
    measured = ENGINES[engine](case.volume, case.segmentation)
    return Timed(measured, time.process_time() - start)


def added_mb(case: RealisticCase) -> float:
    """Peak memory of our own engine beyond the case itself."""
    tracemalloc.start()
    radiomics.measure(case.volume, case.segmentation)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


def only_labels(case: RealisticCase, kept: NDArray[np.bool_]) -> RealisticCase:
    """The case with the structures whose number is kept."""
    labels = case.segmentation.labelmap.array
    mapping = np.where(kept, np.arange(len(kept)), 0).astype(labels.dtype)
    labelmap = case.segmentation.labelmap.with_array(mapping[labels])
    return RealisticCase(case.volume, Segmentation(labelmap, case.segmentation.segments))


def body_of(case: RealisticCase) -> RealisticCase:
    """One segment of the whole body, holes filled, in up to 135 slices."""
    volume = case.volume[: min(BODY_SLICES, len(case.volume.array))]
    body = np.stack([ndimage.binary_fill_holes(plane > BODY_HU) for plane in volume.array]).astype(np.uint8)
    return RealisticCase(volume, Segmentation(volume.with_array(body), structures(1)))


def check_equal(ours: Measured, theirs: Measured) -> None:
    """Refuse results that differ from the peer's."""
    expected = {(m.segment_number, m.name): m.value for m in theirs.measurements}
    actual = {(m.segment_number, m.name): m.value for m in ours.measurements}
    for key in expected.keys() | actual.keys():
        a, b = actual.get(key, math.nan), expected.get(key, math.nan)
        if not math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9):
            raise ValuesDiffer(f"segment {key[0]}, {key[1]}", a, b)


def compare(name: str, case: RealisticCase, engines: tuple[str, ...], rounds: int) -> Row:
    """Medians of some rounds, each engine in a process of its own that is warm after a first small call."""
    few = np.zeros(len(case.segmentation.segments) + 1, np.bool_)
    few[-1] = True
    warm_up = only_labels(case, few) if len(case.segmentation.segments) > 1 else None
    runs: dict[str, list[Timed]] = {engine: [] for engine in engines}
    pools = {engine: ProcessPoolExecutor(1, get_context("spawn")) for engine in engines}
    if warm_up:
        for engine, pool in pools.items():
            pool.submit(run_engine, engine, warm_up).result()
    for _ in range(rounds):
        for engine, pool in pools.items():
            runs[engine].append(pool.submit(run_engine, engine, case).result())
    for pool in pools.values():
        pool.shutdown()
    seconds = {engine: statistics.median(run.cpu_s for run in timed) for engine, timed in runs.items()}
    ours, peer = seconds["voxfleet"], seconds.get("pyradiomics")
    if peer is not None:
        check_equal(runs["voxfleet"][0].measured, runs["pyradiomics"][0].measured)
    ratio = peer / ours if peer is not None else None
    version = importlib.metadata.version("pyradiomics-bhklab")
    whole = ratio is not None and len({m.segment_number for m in runs["voxfleet"][0].measured.measurements}) >= MOST
    target = TARGET_RATIO if whole else None
    met = ratio >= TARGET_RATIO if whole and ratio is not None else None
    return Row(name, "pyradiomics, cropped boxes", version, ours, peer, ratio, target, met, added_mb(case))


def machine() -> dict[str, str | int | None]:
    """Describe the machine that the figures belong to."""
    return {"system": platform.platform(), "python": platform.python_version(), "cpus": os.cpu_count()}


def show(rows: list[Row]) -> None:
    """Print the rows as a table."""
    table = Table(title="Radiomics, CPU seconds")
    for heading in ("case", "ours", "pyradiomics", "ratio", "target", "added MB"):
        table.add_column(heading, justify="left" if heading == "case" else "right")
    for row in rows:
        figures = (row.ours_s, row.peer_s, row.ratio, row.target, row.ours_added_mb)
        table.add_row(row.name, *("-" if figure is None else f"{figure:,.2f}" for figure in figures))
    Console().print(table)


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; write and print its results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--largest", type=int, default=60_000, help="voxels of the largest structure given to the peer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--example", type=Path, default=EXAMPLE, help="folder of TotalSegmentator's reference files")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "voxfleet-benchmarks")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    case = make_case(SIZES[options.size], options.example, options.cache)
    size = " x ".join(str(length) for length in case.volume.array.shape)
    counts = np.bincount(case.segmentation.labelmap.array.ravel(), minlength=len(case.segmentation.segments) + 1)
    kept = counts <= options.largest
    few = int(np.count_nonzero(kept[1:]))
    body = body_of(case)
    body_size = " x ".join(str(length) for length in body.volume.array.shape)
    rows = [
        compare(f"{size}, 104 structures", case, ("voxfleet",), options.rounds),
        compare(f"{body_size}, whole body", body, ("voxfleet",), options.rounds),
        compare(
            f"{size}, {few} structures under {options.largest:,} voxels",
            only_labels(case, kept),
            ("voxfleet", "pyradiomics"),
            options.rounds,
        ),
    ]
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(
        json.dumps({"machine": machine(), "rows": [asdict(row) for row in rows]}, indent=2) + "\n"
    )
    show(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
