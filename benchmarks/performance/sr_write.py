"""SR of 104 structures written: ``python -m voxfleet.benchmarks.performance.sr_write``.

Ours and highdicom in this process, from measurements to file; dcmqi as the program it is, from
its JSON file. Each has the same numbers; dcmqi and ours list the source images in an image
library too.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from pydicom import Dataset, dcmread

from ...enrich.measurement import Measured, Measurement
from ...enrich.radiomics import measure
from ...enrich.seg import encode_seg
from ...enrich.sr import decode_sr, encode_sr
from .dicom_case import DicomCase, dicom_case
from .harness import ValuesDiffer, cpu_row, paired, publish, run_program
from .peers import dcmqi_sr_metadata, dcmqi_write_sr, highdicom_sr, peer

FEATURES = 28
HIGHDICOM_TARGET = 5.0
DCMQI_TARGET = 1.0
DIGITS = 1e-6
"""dcmqi and highdicom hold no more of a number than its decimal string."""


def first_features(measured: Measured) -> Measured:
    """The first 28 numbers of each segment, as many as were published."""
    kept: dict[int, list[Measurement]] = {}
    for each in measured.measurements:
        if len(kept.setdefault(each.segment_number, [])) < FEATURES:
            kept[each.segment_number].append(each)
    return Measured(tuple(each for group in kept.values() for each in group))


def write_ours(case: DicomCase, seg: Dataset, measured: Measured, path: Path) -> None:
    """SR of ours as a file."""
    encode_sr(case.source, seg, case.segmentation, measured, case.producer).save_as(path, enforce_file_format=True)


def check_equal(expected: Sequence[Measurement], path: Path, peers_file: Path) -> None:
    """Refuse reports that do not hold the numbers; the peer's is read by its own program."""
    ours = [each.value for group in decode_sr(dcmread(path)) for each in group.measurements]
    found = path.with_suffix(".json")
    run_program("tid1500reader", "--inputDICOM", peers_file, "--outputMetadata", found)
    groups = json.loads(found.read_text())["Measurements"]
    theirs = [float(item["value"]) for group in groups for item in group["measurementItems"]]
    values = [each.value for each in expected]
    if ours != values:
        raise ValuesDiffer(path.name)
    if not all(math.isclose(a, b, rel_tol=DIGITS) for a, b in zip(values, theirs, strict=True)):
        raise ValuesDiffer(peers_file.name)


def main() -> int:
    """Run the benchmark; write and print its results."""
    case = dicom_case()
    measured = first_features(measure(case.source.volume, case.segmentation))
    seg = encode_seg(case.source, case.segmentation, case.producer)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "seg").mkdir()
        seg_file, metadata = folder / "seg" / "seg.dcm", folder / "sr.json"
        seg.save_as(seg_file, enforce_file_format=True)
        dcmqi_sr_metadata(case, measured.measurements, seg_file, metadata)
        ours, theirs, dcmqi = paired(
            [
                lambda: write_ours(case, seg, measured, folder / "ours.dcm"),
                lambda: highdicom_sr(case, seg, measured.measurements).save_as(folder / "highdicom.dcm"),
                partial(dcmqi_write_sr, case.folder, seg_file, metadata, folder / "dcmqi.dcm"),
            ]
        )
        check_equal(measured.measurements, folder / "ours.dcm", folder / "dcmqi.dcm")
        sizes = {each.stem: each.stat().st_size for each in sorted(folder.glob("*.dcm"))}
    title = f"SR write, 104 x {FEATURES}"
    rows = [
        cpu_row(title, peer("highdicom"), ours, theirs, HIGHDICOM_TARGET),
        cpu_row(title, peer("dcmqi"), ours, dcmqi, DCMQI_TARGET, note="dcmqi as a whole program, from JSON"),
    ]
    publish("sr_write", "300 x 512 x 512, 104 structures, CPU seconds", rows, {"file_bytes": sizes})
    return 0


if __name__ == "__main__":
    sys.exit(main())
