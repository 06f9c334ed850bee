"""Radiomics of 104 structures against pyradiomics: ``python -m voxfleet.benchmarks.performance.radiomics``.

Shape and first-order features, CPU seconds, both in this process, turn about. pyradiomics gets
the box of each structure, cropped beforehand, which is its fastest way; and, as it is used by
others, image and mask as files for each structure. Structures over ``--largest`` ml are
left out for both: three of tissue would take it hours. Every value must be equal (1e-6 relative
or 1e-9 absolute), else the run fails.

Files are read for a few structures only: what that costs beyond the cropped box, the same for all of
them, is added for each; ``--all`` reads every structure from files, which takes the better part of an
hour. Most of the peer's time goes into a dozen large structures: what takes it over ``--long`` seconds
runs in the first round only, so ``--long 6`` gives a figure in half the time.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import math
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import SimpleITK as sitk  # noqa: N813 - its own name for itself
from numpy.typing import NDArray
from scipy import ndimage

from ...enrich.features.kernel import Kernel
from ...enrich.features.pyradiomics_engine import features_of
from ...enrich.measurement import Measured
from ...enrich.radiomics import SegmentFeatures, assemble, measure
from ...models.segmentation import Segmentation
from .dicom_case import CACHE
from .harness import ROUNDS, Row, Took, ValuesDiffer, cpu_row, median_of, publish, took
from .peers import pyradiomics_from_files
from .realistic_case import EXAMPLE, SIZES, RealisticCase, make_case, structures

CROPPED_TARGET = 250.0
FILES_TARGET = 600.0
LARGEST_ML = 1000.0
MM3_PER_ML = 1000
LONG_S = 60.0
FROM_FILES = 5
"""Structures that are also read from files, spread evenly over the middle of the sizes."""
MIDDLE = (0.2, 0.6)
BODY_SLICES = 135
BODY_HU = -500

Result = TypeVar("Result")
Peer = Mapping[int, "Timed[SegmentFeatures]"]
"""Of the peer, by segment number."""


@dataclass(slots=True)
class Timed(Generic[Result]):
    """Runs of one call, and what the last one gave."""

    call: Callable[[], Result]
    runs: list[Took] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)

    def run(self) -> None:
        """Once more."""
        self.results.clear()
        self.runs.append(took(lambda: self.results.append(self.call())))

    @property
    def median(self) -> Took:
        """Of the runs."""
        return median_of(self.runs)


def only(case: RealisticCase, kept: NDArray[np.bool_]) -> RealisticCase:
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


def on_boxes(case: RealisticCase) -> dict[int, Timed[SegmentFeatures]]:
    """Pyradiomics on the box of each structure, cropped here, outside of what is timed."""
    labels, image = case.segmentation.labelmap.array, case.volume.array
    calls = {}
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is not None:
            crop, mask = image[box].copy(), labels[box] == number
            calls[number] = Timed(partial(features_of, crop, mask, case.volume.spacing))
    return calls


def from_files(case: RealisticCase, numbers: list[int], folder: Path) -> dict[int, Timed[SegmentFeatures]]:
    """Pyradiomics on compressed NIfTI files of image and mask, written here."""

    def write(name: str, array: NDArray[np.generic]) -> Path:
        image = sitk.GetImageFromArray(array)
        image.SetSpacing([float(step) for step in case.volume.spacing[::-1]])
        sitk.WriteImage(image, str(folder / name))
        return folder / name

    labels = case.segmentation.labelmap.array
    image = write("image.nii.gz", case.volume.array)
    masks = {number: write(f"{number}.nii.gz", (labels == number).astype(np.uint8)) for number in numbers}
    return {number: Timed(partial(pyradiomics_from_files, image, mask)) for number, mask in masks.items()}


def middling(counts: NDArray[np.intp], number: int) -> list[int]:
    """Structures evenly spread over the middle of the sizes."""
    by_size = [int(each) + 1 for each in np.argsort(counts[1:]) if counts[each + 1]]
    return [by_size[round(place * (len(by_size) - 1))] for place in np.linspace(*MIDDLE, number)]


def run_rounds(timed: Sequence[Timed[Any]], rounds: int, long_s: float) -> None:
    """Run everything turn about; what took over `long_s` CPU seconds, in the first round only."""
    for _ in range(rounds):
        for each in timed:
            if not each.runs or each.runs[0].cpu_s <= long_s:
                each.run()


def check_equal(ours: Measured, theirs: Measured) -> None:
    """Refuse results that differ from the peer's."""
    expected = {(m.segment_number, m.name): m.value for m in theirs.measurements}
    actual = {(m.segment_number, m.name): m.value for m in ours.measurements}
    for key in expected.keys() | actual.keys():
        a, b = actual.get(key, math.nan), expected.get(key, math.nan)
        if not math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9):
            raise ValuesDiffer(f"segment {key[0]}, {key[1]}: {a} and {b}")


def total(timed: Peer) -> Took:
    """Sum of the medians."""
    medians = [each.median for each in timed.values()]
    return Took(sum(m.wall_s for m in medians), sum(m.cpu_s for m in medians))


def with_files(boxes: Peer, files: Peer) -> tuple[Took, str]:
    """What all structures take from files, and how that is known."""
    if files.keys() == boxes.keys():
        return total(files), "every structure"
    here = {number: boxes[number] for number in files}
    both, cropped, every = total(files), total(here), total(boxes)
    share = len(boxes) / len(files)
    note = f"cropped boxes, and what {len(files)} structures take more from files, times {len(boxes)}/{len(files)}"
    more = (both.wall_s - cropped.wall_s, both.cpu_s - cropped.cpu_s)
    return Took(every.wall_s + share * more[0], every.cpu_s + share * more[1]), note


def options_of(arguments: list[str] | None) -> argparse.Namespace:
    """What is run, and how often."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--largest", type=float, default=LARGEST_ML, help="ml of the largest structure that is run")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--long", type=float, default=LONG_S, help="CPU seconds above which a structure runs once")
    parser.add_argument("--all", action="store_true", help="every structure, in every round, from files too")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; write and print its results."""
    options = options_of(arguments)
    loading = took(Kernel)
    case = make_case(SIZES[options.size], EXAMPLE, CACHE)
    counts = np.bincount(case.segmentation.labelmap.array.ravel(), minlength=len(case.segmentation.segments) + 1)
    small = counts * math.prod(case.volume.spacing) <= options.largest * MM3_PER_ML
    kept = only(case, small)
    ours, whole, body = (Timed(partial(measure, c.volume, c.segmentation)) for c in (kept, case, body_of(case)))
    boxes = on_boxes(kept)
    with tempfile.TemporaryDirectory() as folder:
        chosen = list(boxes) if options.all else middling(np.where(small, counts, 0), FROM_FILES)
        files = from_files(kept, chosen, Path(folder))
        for each in (ours, boxes[chosen[0]]):
            each.call()
        long_s = math.inf if options.all else options.long
        run_rounds([ours, whole, body, *boxes.values(), *files.values()], options.rounds, long_s)
    theirs = {number: timed.results[0] for number, timed in boxes.items()}
    check_equal(ours.results[0], assemble(kept.segmentation, dict(enumerate(counts.tolist())), theirs))
    once = {number: round(timed.median.cpu_s, 2) for number, timed in boxes.items() if len(timed.runs) < options.rounds}
    more = {
        "rounds": options.rounds,
        "cpu_s_of_structures_run_once": once,
        "structures_left_out": [n for n in range(1, len(counts)) if not small[n]],
        "ours_all_104_structures_cpu_s": round(whole.median.cpu_s, 3),
        f"ours_whole_body_in_{BODY_SLICES}_slices_cpu_s": round(body.median.cpu_s, 3),
        "loading_the_compiled_loops_cpu_s": round(loading.cpu_s, 4),
    }
    rows = rows_of(ours, boxes, files, len(once))
    title = "Shape and first-order features, CPU seconds"
    if options.size == "full":
        publish("radiomics", title, rows, more)
    else:
        publish(f"radiomics_{options.size}", title, [replace(row, target=None, met=None) for row in rows], more)
    return 0


def rows_of(ours: Timed[Measured], boxes: Peer, files: Peer, once: int) -> list[Row]:
    """Against cropped boxes, and against files; `once` structures were run in the first round only."""
    name = f"28 features and 4 more, {len(boxes)} structures"
    version = importlib.metadata.version("pyradiomics-bhklab")
    rounds = f"medians of {len(ours.runs)} rounds; large structures, {once} of them, in the first only" if once else ""
    read, how = with_files(boxes, files)
    return [
        cpu_row(name, ("pyradiomics on cropped boxes", version), ours.median, total(boxes), CROPPED_TARGET, rounds),
        cpu_row(name, ("pyradiomics from files", version), ours.median, read, FILES_TARGET, how),
    ]


if __name__ == "__main__":
    sys.exit(main())
