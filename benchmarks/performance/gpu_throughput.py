"""Series a GPU segments in an hour, and how busy it is: ``python -m voxfleet.benchmarks.performance.gpu_throughput``.

The realistic case (512 x 512 x 300) through TotalSegmentator's fast 3 mm architecture with made weights: first the
loaded model alone in each precision, then as many DICOM series as are asked for through a whole node, from files to
SEG and SR. The GPU is busy while its driver says so (``nvidia-smi``, ten times a second). ``--device cpu`` runs the
same without a GPU, for a look at what is measured: there the worker that segments is what is busy or not.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import highdicom as hd
import torch
from rich.console import Console

from ... import Error
from ...enrich.archives.opening import open_archive
from ...enrich.phantom import CtIdentity, write_ct_series
from ...models import catalogue
from ...models.totalsegmentator.tasks import tasks
from ...runners.devices import devices_of
from ...runners.pipeline import NodePipeline, PipelineSettings
from ...runners.request import StageSettings
from ...runners.workitem import Outcome, State, Workitem
from ...runners.worklist import wish, worklist
from .harness import RESULTS, machine
from .realistic_case import EXAMPLE, SIZES, make_case
from .totalsegmentator_weights import SKELETON, write_home

TASK = "total_fast"
MODEL = f"totalsegmentator:{TASK}"
PRECISIONS = ("default", "float32", "bfloat16")
ROUNDS = 3
SERIES = 20
BUSY_TARGET = 0.85
SAMPLE_MS = 100


class SeriesFailed(Error):
    """A series of the benchmark did not complete."""

    code = "SERIES_FAILED"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class Precision:
    """One precision: median seconds of a series in the loaded model, and the highest memory of the device."""

    precision: str
    seconds: float
    series_per_hour: float
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class Node:
    """Many series through a whole node.

    Attributes
    ----------
    seconds : float
        From the first one's begin to the last one's end, with the start of the workers.
    segmenting_share : float
        Of the time from the first segmenting's begin to the last one's end, for how much the worker segmented.
    gpu_busy_share : float or None
        Of that time, for how much the GPU computed; None without one.
    gpu_peak_bytes : int or None
        Highest memory of the GPU, of all processes.
    """

    series: int
    seconds: float
    series_per_hour: float
    segmenting_share: float
    gpu_busy_share: float | None
    gpu_peak_bytes: int | None
    target: float
    met: bool | None


@dataclass(frozen=True, slots=True)
class Sample:
    """What the GPU's driver said at a time."""

    at: float
    busy: float
    bytes_used: int


def by_precision(volume: hd.Volume, device: str) -> list[Precision]:
    """The loaded model alone, in each precision: a first run that counts not, and some that do."""
    model = catalogue.load(MODEL, device)
    on_gpu = device != "cpu"
    found = []
    for precision in PRECISIONS:
        parameters = {**model.card.parameters, "precision": precision}
        model.segment(volume, parameters)
        if on_gpu:
            torch.cuda.reset_peak_memory_stats(device)
        took = []
        for _ in range(ROUNDS):
            start = time.perf_counter()
            model.segment(volume, parameters)
            took.append(time.perf_counter() - start)
        host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        peak = torch.cuda.max_memory_allocated(device) if on_gpu else host
        found.append(Precision(precision, median(took), 3600 / median(took), peak))
    return found


def through_a_node(volume: hd.Volume, series: int, device: str, folder: Path) -> Node:
    """Series through all stages of a node with one device."""
    for number in range(series):
        write_ct_series(volume, folder / "ct" / str(number), identity=CtIdentity.named(f"throughput-{number}"))
    asked = wish(catalogue.card(MODEL), {}, "BINARY", repair=False)
    archive = open_archive(str(folder / "ct"))
    items = [each for each in worklist(archive, (asked,), target="") if isinstance(each, Workitem)]
    archive.close()
    stages = StageSettings(folder / "scratch", folder / "out", "benchmark")
    with sampled(device, folder / "samples.csv") as samples:
        start = time.time()
        outcomes = _performed(PipelineSettings(stages, devices=(device,)), items)
        seconds = time.time() - start
    segmenting = [used for outcome in outcomes for used in outcome.consumption if used.stage == "segment"]
    begin, end = min(used.started for used in segmenting), max(used.started + used.wall_s for used in segmenting)
    within = [sample for sample in samples if begin <= sample.at <= end]
    busy = sum(sample.busy for sample in within) / len(within) if within else None
    return Node(
        series=len(items),
        seconds=seconds,
        series_per_hour=len(items) * 3600 / seconds,
        segmenting_share=sum(used.wall_s for used in segmenting) / (end - begin),
        gpu_busy_share=busy,
        gpu_peak_bytes=max(sample.bytes_used for sample in within) if within else None,
        target=BUSY_TARGET,
        met=None if busy is None else busy >= BUSY_TARGET,
    )


def _performed(settings: PipelineSettings, items: list[Workitem]) -> list[Outcome]:
    pipeline, waiting = NodePipeline(settings), list(items)
    flying: set[Future[Outcome]] = set()
    outcomes = []
    while waiting or flying:
        while waiting and len(flying) < pipeline.depth:
            flying.add(pipeline.submit(waiting.pop()))
        done, flying = wait(flying, return_when=FIRST_COMPLETED)
        outcomes += [future.result() for future in done]
    pipeline.close()
    for outcome in outcomes:
        if outcome.state is not State.COMPLETED:
            raise SeriesFailed(f"{outcome.failure}")
    return outcomes


@contextmanager
def sampled(device: str, file: Path) -> Iterator[list[Sample]]:
    """What the GPU's driver says meanwhile, in the list once the block has ended; nothing for the CPU."""
    samples: list[Sample] = []
    if device == "cpu":
        yield samples
        return
    number = device.partition(":")[2]
    query = ["--query-gpu=timestamp,utilization.gpu,memory.used", "--format=csv,noheader,nounits"]
    with file.open("w") as output:
        sampler = subprocess.Popen(["nvidia-smi", "-i", number, *query, "-lms", str(SAMPLE_MS)], stdout=output)
        try:
            yield samples
        finally:
            sampler.terminate()
            sampler.wait()
    samples += read_samples(file.read_text())


def read_samples(text: str) -> list[Sample]:
    """Lines of ``nvidia-smi``: time, per cent, MiB; a last line that was cut off is left out."""
    samples = []
    for line in csv.reader(text.splitlines()):
        if len(line) == 3:  # noqa: PLR2004
            at, busy, mib = (each.strip() for each in line)
            clock, _, fraction = at.partition(".")
            seconds = time.mktime(time.strptime(clock, "%Y/%m/%d %H:%M:%S")) + float(f"0.{fraction or 0}")
            samples.append(Sample(seconds, float(busy) / 100, int(mib) * 2**20))
    return samples


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; write and print its results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", default="cuda", help="cuda (its first one), cuda:N or cpu")
    parser.add_argument("--series", type=int, default=SERIES)
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--plans", choices=("full", "tiny"), default="full", help="architecture of the made network")
    parser.add_argument("--example", type=Path, default=EXAMPLE, help="folder of TotalSegmentator's reference files")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "voxfleet-benchmarks")
    parser.add_argument("--output", type=Path, default=RESULTS / "gpu_throughput.json")
    options = parser.parse_args(arguments)
    console = Console(highlight=False)
    try:
        device = devices_of([options.device])[0]
    except Error as exc:
        console.print(f"error {exc.code}: {exc}; --device cpu shows what is measured")
        return 1
    volume = make_case(SIZES[options.size], options.example, options.cache).volume
    with tempfile.TemporaryDirectory() as name:
        plans = SKELETON / ("plans.json" if options.plans == "full" else "plans_tiny.json")
        os.environ["TOTALSEG_WEIGHTS_PATH"] = str(write_home(Path(name) / "home", (tasks()[TASK],), plans))
        precisions = by_precision(volume, device)
        node = through_a_node(volume, options.series, device, Path(name))
    document = {
        "machine": {**machine(), "gpu": torch.cuda.get_device_name(device) if device != "cpu" else None},
        "case": {"size": list(volume.array.shape), "plans": options.plans},
        "precisions": [asdict(each) for each in precisions],
        "node": asdict(node),
    }
    options.output.write_text(json.dumps(document, indent=2) + "\n")
    console.print_json(data=document)
    return 0


if __name__ == "__main__":
    sys.exit(main())
