"""Our CPU side of one series, in a process of its own, for `whole_series`: prints what it took."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np

from ...enrich.archives.opening import open_archive
from ...enrich.encoding.equipment import Producer
from ...enrich.radiomics import measure
from ...enrich.seg import encode_seg
from ...enrich.series import read_volume
from ...enrich.sr import encode_sr
from ...enrich.validate import validate_pair
from ...models.segmentation import Segmentation
from .dicom_case import card_of, series_in
from .realistic_case import structures

KILOBYTES_PER_MB = 1024
STATUS = Path("/proc/self/status")


def peak_mb() -> float:
    """Largest resident memory of this program.

    Linux gives it in VmHWM; what getrusage gives may be that of the process that started this one.
    """
    if not STATUS.is_file():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / KILOBYTES_PER_MB
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / KILOBYTES_PER_MB


def main(folder: Path, labels: Path, out: Path) -> None:
    """Read, measure, encode, check, store; print CPU seconds of each step, of all, and the peak of memory."""
    stages = {"imports": time.process_time()}
    source = read_volume(series_in(folder))
    array = np.load(labels, mmap_mode="r")
    segmentation = Segmentation(source.volume.with_array(array), structures())
    stages["read"] = time.process_time()
    measured = measure(source.volume, segmentation)
    stages["measure"] = time.process_time()
    producer = Producer("ab" * 32, card_of(segmentation), {})
    seg = encode_seg(source, segmentation, producer)
    stages["SEG"] = time.process_time()
    sr = encode_sr(source, seg, segmentation, measured, producer)
    stages["SR"] = time.process_time()
    validate_pair(seg, sr)
    stages["check"] = time.process_time()
    out.mkdir()
    archive = open_archive(f"dir:{out}")
    for dataset in (seg, sr):
        archive.store(dataset)
    archive.close()
    stages["store and read back"] = time.process_time()
    ends = [0.0, *stages.values()]
    print(
        json.dumps(
            {
                "wall_s": time.perf_counter() - STARTED,
                "cpu_s": time.process_time(),
                "peak_mb": peak_mb(),
                "stages": {name: round(b - a, 3) for name, a, b in zip(stages, ends, ends[1:], strict=False)},
            }
        )
    )


if __name__ == "__main__" and sys.argv[1:]:  # without arguments it is not asked for: `make bench` runs every file
    STARTED = time.perf_counter()
    main(*map(Path, sys.argv[1:]))
