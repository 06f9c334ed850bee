"""Scoring of 104 structures: ``python -m voxfleet.benchmarks.performance.metrics``.

The prediction is the reference shifted by one voxel, or with left and right swapped (far
apart outlines are the hardest to search). Limit: all metrics of all structures at
512 x 512 x 300 in 60 s on two cores. DeepMind's package gets masks that are cut to their
box, and because large ones take it gigabytes, only those under ``--largest`` voxels, ours
the same for the ratio; its values must be ours (1e-6 relative).
"""

from __future__ import annotations

import argparse
import importlib.metadata
import math
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import surface_distance
from numpy.typing import NDArray

from ..mask_pair import Grid
from ..metrics.catalogue import TOLERANCES_MM
from ..references.packed_mask import PackedMask, pack_labels
from ..score import Case, Score
from ..scoring import StructureMasks, score_structures, unpack_pair
from .figures import Figure, publish_both
from .harness import ROUNDS, Took, ValuesDiffer, cpu_row, paired, took
from .realistic_case import EXAMPLE, SIZES, STRUCTURES, make_case

LIMIT_S = 60.0
PEER = ("DeepMind surface-distance, cropped boxes", importlib.metadata.version("surface-distance-based-measures"))
NUMBERS = range(1, STRUCTURES + 1)
CASE = Case("realistic", "1.2.826.0.1.3680043.8.498.1", "shifted")
PERCENTILE = 95

Labels = NDArray[np.unsignedinteger]


def masks_of(reference: dict[int, PackedMask], prediction: dict[int, PackedMask], largest: int) -> list[StructureMasks]:
    """Structures of both sides that the reference has, up to a size."""
    return [
        StructureMasks(f"structure {number}", reference[number], prediction[number])
        for number in NUMBERS
        if 0 < reference[number].voxels <= largest and not prediction[number].empty
    ]


def theirs(structures: list[StructureMasks], grid: Grid) -> Iterator[tuple[str, str, float]]:
    """Segment, metric and value by DeepMind's package."""
    for structure in structures:
        pair = unpack_pair(structure, grid)
        found = surface_distance.compute_surface_distances(pair.reference, pair.prediction, grid.spacing_mm)
        yield structure.segment, "hausdorff95", surface_distance.compute_robust_hausdorff(found, PERCENTILE)
        mean = np.mean(surface_distance.compute_average_surface_distance(found))
        yield structure.segment, "mean_surface_distance", float(mean)
        dice = surface_distance.compute_dice_coefficient(pair.reference, pair.prediction)
        yield structure.segment, "dice", float(dice)
        for tolerance in TOLERANCES_MM:
            value = surface_distance.compute_surface_dice_at_tolerance(found, tolerance)
            yield structure.segment, f"surface_dice_{tolerance:g}mm", float(value)


def check_equal(ours: list[Score], peer: Iterator[tuple[str, str, float]]) -> None:
    """Refuse values that differ from the peer's."""
    actual = {(score.segment, score.metric): score.value for score in ours}
    for segment, metric, expected in peer:
        if not math.isclose(actual[segment, metric], expected, rel_tol=1e-6, abs_tol=1e-9):
            raise ValuesDiffer(f"{metric} of {segment}: {actual[segment, metric]}, peer {expected}")


def score_all(reference: Labels, prediction: Labels, grid: Grid) -> list[Score]:
    """All metrics of all structures, from label maps."""
    sides = (pack_labels(reference, NUMBERS), pack_labels(prediction, NUMBERS))
    return score_structures((StructureMasks(f"structure {n}", sides[0][n], sides[1][n]) for n in NUMBERS), grid, CASE)


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; write and print its results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--largest", type=int, default=60_000, help="voxels of the largest structure given to the peer")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--example", type=Path, default=EXAMPLE, help="folder of TotalSegmentator's reference files")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "voxfleet-benchmarks")
    options = parser.parse_args(arguments)
    size = SIZES[options.size]
    reference = make_case(size, options.example, options.cache).segmentation.labelmap.array
    shifted, swapped = np.roll(reference, 1, axis=2), np.ascontiguousarray(reference[:, :, ::-1])
    grid = Grid(size.shape, size.spacing_mm)
    small = masks_of(pack_labels(reference, NUMBERS), pack_labels(shifted, NUMBERS), options.largest)
    check_equal(score_structures(small, grid, CASE), theirs(small, grid))
    ours, peer = paired(
        [lambda: score_structures(small, grid, CASE), lambda: list(theirs(small, grid))], options.rounds
    )
    voxels = " x ".join(map(str, size.shape))
    rows = [cpu_row(f"{voxels}, {len(small)} structures", PEER, ours, peer, None, "shifted by one voxel")]
    runs = {
        "shifted by one voxel": took(lambda: score_all(reference, shifted, grid)),
        "left and right swapped": took(lambda: score_all(reference, swapped, grid)),
    }
    full = options.size == "full"
    figures = [_by_the_clock(name, run, LIMIT_S if full else None) for name, run in runs.items()]
    publish_both("metrics" if full else f"metrics_{options.size}", "Scores, CPU seconds", rows, figures)
    return 0


def _by_the_clock(name: str, run: Took, limit_s: float | None) -> Figure:
    """What all 104 structures took."""
    return Figure(f"{STRUCTURES} structures, {name}", run.wall_s, "s", limit_s, note=f"wall; {run.cpu_s:.1f} CPU s")


if __name__ == "__main__":
    sys.exit(main())
