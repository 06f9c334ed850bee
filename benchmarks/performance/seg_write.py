"""SEG of 104 structures written: ``python -m voxfleet.benchmarks.performance.seg_write``.

Ours and highdicom in this process, from label map to file; dcmqi as the program it is, from a
label map that is not compressed.
"""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from ...enrich.seg import encode_seg
from ...enrich.seg_decode import decode_seg
from .dicom_case import DicomCase, dicom_case
from .figures import Figure, publish_both
from .harness import ValuesDiffer, cpu_row, paired
from .peers import dcmqi_seg_metadata, dcmqi_write_seg, highdicom_seg, peer, write_label_map

BINARY_TARGET = 3.0
LABELMAP_TARGET = 2.0
DEFLATED_PERCENT = 3.0


def write_ours(case: DicomCase, kind: str, path: Path) -> None:
    """SEG of ours as a file."""
    dataset = encode_seg(case.source, case.segmentation, case.producer, segmentation_type=kind)
    dataset.save_as(path, enforce_file_format=True)


def write_highdicom(case: DicomCase, kind: str, path: Path, syntax: str = ExplicitVRLittleEndian) -> None:
    """SEG of highdicom as a file."""
    highdicom_seg(case, kind, syntax).save_as(path)


def check_equal(case: DicomCase, files: list[Path]) -> None:
    """Refuse files that do not hold the label map."""
    for path in files:
        found = decode_seg(dcmread(path), case.source.volume).labelmap.array
        if not np.array_equal(found, case.segmentation.labelmap.array):
            raise ValuesDiffer(path.name)


def main() -> int:
    """Run the benchmark; write and print its results."""
    case = dicom_case()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        labels, metadata = folder / "labels.nii", folder / "seg.json"
        write_label_map(case, case.segmentation.labelmap.array, labels)
        dcmqi_seg_metadata(case.segmentation.segments, metadata)
        dcmqi = partial(dcmqi_write_seg, labels, metadata, case.folder)
        calls = {
            "binary": partial(write_ours, case, "BINARY", folder / "ours binary.dcm"),
            "deflated": partial(write_ours, case, "BINARY_DEFLATED", folder / "ours deflated.dcm"),
            "labelmap": partial(write_ours, case, "LABELMAP", folder / "ours labelmap.dcm"),
            "dcmqi": partial(dcmqi, folder / "dcmqi binary.dcm"),
            "dcmqi deflated": partial(dcmqi, folder / "dcmqi deflated.dcm", "--compress", "deflate"),
            "highdicom": partial(write_highdicom, case, "BINARY", folder / "highdicom binary.dcm"),
            "highdicom labelmap": partial(
                write_highdicom,
                case,
                "LABELMAP",
                folder / "highdicom labelmap.dcm",
                syntax=RLELossless,
            ),
        }
        took = dict(zip(calls, paired(list(calls.values())), strict=True))
        files = sorted(folder.glob("*.dcm"))
        check_equal(case, files)
        sizes = {path.stem: path.stat().st_size for path in files}
    percent = 100 * sizes["ours deflated"] / sizes["ours binary"]
    whole = "dcmqi as a whole program, from NIfTI"
    rows = [
        cpu_row("SEG BINARY write", peer("dcmqi"), took["binary"], took["dcmqi"], BINARY_TARGET, note=whole),
        cpu_row("SEG BINARY write", peer("highdicom"), took["binary"], took["highdicom"], None),
        cpu_row("SEG BINARY deflated write", peer("dcmqi"), took["deflated"], took["dcmqi deflated"], None, note=whole),
        cpu_row(
            "SEG LABELMAP RLE write", peer("highdicom"), took["labelmap"], took["highdicom labelmap"], LABELMAP_TARGET
        ),
    ]
    deflated = Figure("SEG BINARY deflated, of the plain file", percent, "%", DEFLATED_PERCENT)
    title = "300 x 512 x 512, 104 structures, CPU seconds"
    publish_both("seg_write", title, rows, [deflated], {"file_bytes": sizes})
    return 0


if __name__ == "__main__":
    sys.exit(main())
