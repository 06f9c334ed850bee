"""SEG of 104 structures read into one label map: ``python -m voxfleet.benchmarks.performance.seg_read``.

All in this process, from file to array.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread

from ...enrich.seg_decode import decode_seg
from .dicom_case import DicomCase, dicom_case
from .harness import ValuesDiffer, cpu_row, paired, publish
from .peers import highdicom_read_seg, peer
from .seg_write import write_ours

KINDS = ("BINARY", "LABELMAP")
TARGET = 4.0


def read_ours(path: Path, case: DicomCase) -> NDArray[np.generic]:
    """Label map by ours, on the grid of the source."""
    return decode_seg(dcmread(path), case.source.volume).labelmap.array


def main() -> int:
    """Run the benchmark; write and print its results."""
    case = dicom_case()
    expected = case.segmentation.labelmap.array
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for kind in KINDS:
            path = Path(name) / f"{kind}.dcm"
            write_ours(case, kind, path)
            for reader, read in (("ours", read_ours), ("highdicom", highdicom_read_seg)):
                if not np.array_equal(read(path, case), expected):
                    raise ValuesDiffer(f"{kind} read by {reader}")
            ours, theirs = paired(
                [lambda path=path: read_ours(path, case), lambda path=path: highdicom_read_seg(path, case)]  # type: ignore[misc]
            )
            target = TARGET if kind == "BINARY" else None
            rows.append(cpu_row(f"SEG {kind} read", peer("highdicom"), ours, theirs, target))
    publish("seg_read", "300 x 512 x 512, 104 structures, CPU seconds", rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
