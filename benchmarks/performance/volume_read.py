"""DICOM series to int16 volume: ``python -m voxfleet.benchmarks.performance.volume_read``.

Ours, highdicom and SimpleITK in this process; dcm2niix as the program it is, NIfTI not compressed.

Where the bytes lie in the page cache and nothing is to be decoded, 0.29 s of ours are: headers 0.11, pixels from the
cache to a buffer 0.06, from there with slope and offset to the volume 0.07, the rest Python; the floor, 315 MB through
memory at 10 GB/s, is 0.03 s. A virtual machine whose host takes free memory back adds the first touch of the volume's
157 MB, 0.05 to 0.35 s of system time from one run to the next: 0.29 to 0.69 s in all were seen, which is 1.5 to 3.2
times faster than highdicom, and 0.8 to 2.3 times the time of dcm2niix.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import nibabel
import numpy as np

from ...enrich.series import read_volume
from .dicom_case import ENHANCED, SYNTAXES, load_case, series_folder, series_in
from .harness import Row, ValuesDiffer, cpu_row, paired, publish
from .peers import dcm2niix, highdicom_enhanced_volume, highdicom_volume, peer, simpleitk_volume

HIGHDICOM_TARGET = 2.0
DCM2NIIX_TARGET = 1 / 1.5


def compare(syntax: str, out: Path) -> list[Row]:
    """Rows of one transfer syntax, the volumes checked equal first."""
    case = load_case()
    folder = series_folder(case, syntax)
    series = series_in(folder)
    expected = read_volume(series).volume.array
    converted = np.asarray(nibabel.load(dcm2niix(folder, out)).dataobj)  # type: ignore[attr-defined]
    others = {
        "the case": case.volume.array,
        "highdicom": highdicom_volume(folder)[::-1],
        "SimpleITK": simpleitk_volume(folder),
        "dcm2niix": converted.T[:, ::-1],
    }
    for name, array in others.items():
        if expected.dtype != np.int16 or not np.array_equal(expected, array):
            raise ValuesDiffer(f"volume of {name}, {syntax}")
    ours, theirs, itk, niix = paired(
        [
            lambda: read_volume(series),
            lambda: highdicom_volume(folder),
            lambda: simpleitk_volume(folder),
            lambda: dcm2niix(folder, out),
        ]
    )
    name = f"DICOM to int16 volume, {syntax}"
    return [
        cpu_row(name, peer("highdicom"), ours, theirs, HIGHDICOM_TARGET),
        cpu_row(name, peer("dcm2niix"), ours, niix, DCM2NIIX_TARGET, note="whole program, writes NIfTI"),
        cpu_row(name, peer("SimpleITK"), ours, itk, None),
    ]


def compare_enhanced(out: Path) -> list[Row]:
    """Rows of the series as one Legacy Converted Enhanced CT."""
    case = load_case()
    folder = series_folder(case, ENHANCED)
    series = series_in(folder)
    converted = np.asarray(nibabel.load(dcm2niix(folder, out)).dataobj)  # type: ignore[attr-defined]
    others = {"highdicom": highdicom_enhanced_volume(folder)[::-1], "dcm2niix": converted.T[:, ::-1]}
    for name, array in {"ours": read_volume(series).volume.array, **others}.items():
        if not np.array_equal(case.volume.array, array):
            raise ValuesDiffer(f"volume of {name}, {ENHANCED}")
    ours, theirs, niix = paired(
        [lambda: read_volume(series), lambda: highdicom_enhanced_volume(folder), lambda: dcm2niix(folder, out)]
    )
    name = "DICOM to int16 volume, enhanced multi-frame"
    return [
        cpu_row(name, peer("highdicom"), ours, theirs, HIGHDICOM_TARGET),
        cpu_row(name, peer("dcm2niix"), ours, niix, DCM2NIIX_TARGET, note="whole program, writes NIfTI"),
    ]


def main() -> int:
    """Run the benchmark; write and print its results."""
    with tempfile.TemporaryDirectory() as folder:
        rows = [each for syntax in SYNTAXES for each in compare(syntax, Path(folder))]
        rows += compare_enhanced(Path(folder))
    publish("volume_read", "300 x 512 x 512, CPU seconds", rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
