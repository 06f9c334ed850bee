"""One series from DICOM to SEG and SR in a folder: ``python -m voxfleet.benchmarks.performance.whole_series``.

Ours runs in a process of its own, everything counted from its first import: read, measure, SEG,
SR, checks, store, read back. Turn about with it runs the peers' chain, which is what is done by
hand today: dcm2niix with gzip, one NIfTI file for each structure, pyradiomics from those files,
itkimage2segimage, tid1500writer. One NIfTI and one pyradiomics run are needed for each structure and take minutes
each for the largest, so ``--labels`` of them are run, of middling sizes, and taken times their
number: that leaves out the slowest, to the peers' advantage, as does giving dcmqi one label map
instead of 104 files. The peak of our memory is taken for 1,000 slices too.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import highdicom as hd
import nibabel
import numpy as np

from ...enrich.measurement import Measured
from ...enrich.radiomics import measure
from ...models.segmentation import Segmentation
from .dicom_case import DicomCase, dicom_case, load_case, series_folder
from .figures import Figure, publish_both
from .harness import ROUNDS, Took, cpu_row, median_of, run_program, took
from .peers import (
    dcm2niix,
    dcmqi_seg_metadata,
    dcmqi_sr_metadata,
    dcmqi_write_seg,
    dcmqi_write_sr,
    peer,
    pyradiomics_from_files,
    write_label_map,
)
from .realistic_case import RealisticCase
from .sr_write import first_features

TARGET = 30.0
LONG_SLICES = 1000
MEMORY_TARGETS_MB = {300: 1500.0, LONG_SLICES: 4000.0}
CHAIN_VERSIONS = ", ".join(
    " ".join(peer(*each)) for each in (("dcm2niix",), ("dcmqi",), ("pyradiomics", "pyradiomics-bhklab"))
)
SIZES_FROM, SIZES_TO = 0.1, 0.7
"""Structures between these quantiles of size are given to pyradiomics."""


def ours(folder: Path, labels: Path, out: Path) -> dict[str, float]:
    """What our CPU side takes in a process of its own: CPU and wall seconds, peak MB."""
    printed = run_program("python", "-m", "voxfleet.benchmarks.performance.whole_series_ours", folder, labels, out)
    found: dict[str, float] = json.loads(printed.splitlines()[-1])
    return found


def longer(case: RealisticCase) -> RealisticCase:
    """The case mirrored at its last slice, again and again, up to 1,000 slices."""
    slices = len(case.volume.array)
    there_and_back = np.concatenate((np.arange(slices), np.arange(slices)[::-1]))
    order = np.resize(there_and_back, LONG_SLICES)
    volume = hd.Volume(
        case.volume.array[order],
        case.volume.affine,
        "PATIENT",
        frame_of_reference_uid=case.volume.frame_of_reference_uid,
    )
    labels = volume.with_array(case.segmentation.labelmap.array[order])
    return RealisticCase(volume, Segmentation(labels, case.segmentation.segments))


def middling(case: DicomCase, number: int) -> list[int]:
    """Structures of middling sizes, evenly spread."""
    counts = np.bincount(case.segmentation.labelmap.array.ravel())[1:]
    by_size = np.argsort(counts)[np.count_nonzero(counts == 0) :] + 1
    places = np.linspace(SIZES_FROM, SIZES_TO, number) * (len(by_size) - 1)
    return [int(by_size[round(place)]) for place in places]


def peers_chain(case: DicomCase, chosen: list[int], measured: Measured, folder: Path) -> dict[str, Took]:
    """What each link of the chain takes; those for each structure are sums over the chosen ones."""
    labels = case.segmentation.labelmap.array
    image, seg = folder / "volume.nii.gz", folder / "seg" / "seg.dcm"
    seg.parent.mkdir(parents=True)
    masks = {number: folder / f"{number}.nii.gz" for number in chosen}
    merged, seg_json, sr_json = folder / "labels.nii.gz", folder / "seg.json", folder / "sr.json"
    write_label_map(case, labels, merged)
    dcmqi_seg_metadata(case.segmentation.segments, seg_json)

    def write_masks() -> None:
        grid = nibabel.load(image).affine  # type: ignore[attr-defined]
        for number, path in masks.items():
            mask = np.ascontiguousarray((labels == number).T[:, ::-1]).astype(np.uint8)
            nibabel.save(nibabel.Nifti1Image(mask, grid), path)

    def extract() -> None:
        for path in masks.values():
            pyradiomics_from_files(image, path)

    chain = {
        "dcm2niix, gzip": took(lambda: dcm2niix(case.folder, folder, "y")),
        "NIfTI for each structure": took(write_masks),
        "pyradiomics from files": took(extract),
        "itkimage2segimage": took(lambda: dcmqi_write_seg(merged, seg_json, case.folder, seg)),
    }
    dcmqi_sr_metadata(case, measured.measurements, seg, sr_json)
    chain["tid1500writer"] = took(lambda: dcmqi_write_sr(case.folder, seg, sr_json, folder / "sr.dcm"))
    return chain


def whole(links: dict[str, Took], factor: float) -> Took:
    """The chain for all structures."""
    factors = {name: factor if "structure" in name or "pyradiomics" in name else 1.0 for name in links}
    return Took(
        sum(each.wall_s * factors[name] for name, each in links.items()),
        sum(each.cpu_s * factors[name] for name, each in links.items()),
    )


def memory(slices: int, peak_mb: float) -> Figure:
    """The peak of our memory against its limit."""
    return Figure(f"peak memory, {slices} x 512 x 512", round(peak_mb), "MB", MEMORY_TARGETS_MB[slices])


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; write and print its results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--labels", type=int, default=4, help="structures given to pyradiomics")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args(arguments)
    case = dicom_case()
    measured = first_features(measure(case.source.volume, case.segmentation))
    structures = len({each.segment_number for each in measured.measurements})
    runs: list[dict[str, float]] = []
    chains: list[dict[str, Took]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        labels = folder / "labels.npy"
        np.save(labels, case.segmentation.labelmap.array)
        for number in range(options.rounds):
            runs.append(ours(case.folder, labels, folder / f"out{number}"))
            chosen = middling(case, options.labels)
            chains.append(peers_chain(case, chosen, measured, folder / f"peers{number}"))
        case_1000 = longer(load_case())
        np.save(labels, case_1000.segmentation.labelmap.array)
        long = ours(series_folder(case_1000, "uncompressed"), labels, folder / "long")
    mine = median_of([Took(each["wall_s"], each["cpu_s"]) for each in runs])
    links = {link: median_of([chain[link] for chain in chains]) for link in chains[0]}
    note = f"pyradiomics and NIfTI of {options.labels} structures, times {structures}/{options.labels}"
    theirs = whole(links, structures / options.labels)
    rows = [cpu_row("whole CPU side", ("the peers' chain", CHAIN_VERSIONS), mine, theirs, TARGET, note=note)]
    more = {
        "rounds": options.rounds,
        "chain_cpu_s": {link: round(each.cpu_s, 2) for link, each in links.items()},
        "ours_cpu_s_by_stage": runs[-1]["stages"],
        "ours_cpu_s_for_1000_slices": round(long["cpu_s"], 2),
    }
    peaks = [memory(300, max(each["peak_mb"] for each in runs)), memory(LONG_SLICES, long["peak_mb"])]
    publish_both("whole_series", "DICOM in, SEG and SR stored in a folder, CPU seconds", rows, peaks, more)
    return 0


if __name__ == "__main__":
    sys.exit(main())
