"""The weight-free models on 512x512x300: ``python -m voxfleet.benchmarks.performance.weight_free_models``.

The real chest CT that the project carries, resampled to 300 slices of 512x512. There is no
peer that does the same; what is held is the limit of 20 s on two cores.
"""

from __future__ import annotations

import tempfile
import zipfile
from importlib.resources import as_file, files
from pathlib import Path

import highdicom as hd
import numpy as np
from scipy import ndimage

from ...enrich.archives.archive import SeriesEntry
from ...enrich.archives.opening import open_archive
from ...enrich.series import read_volume
from ...models import catalogue
from .harness import paired, publish, row

SHAPE = (300, 512, 512)
LIMIT_S = 20.0
MODELS = ("ct-threshold", "covid-opacity-hu")


def large_chest_ct() -> hd.Volume:
    """The demo's chest CT on a grid of `SHAPE`, linear, int16."""
    pack = files("voxfleet.cluster") / "demo_data" / "cip-chest-ct.zip"
    with tempfile.TemporaryDirectory() as folder, as_file(pack) as path, zipfile.ZipFile(path) as archive_file:
        archive_file.extractall(folder)
        archive = open_archive(folder)
        (entry,) = (each for each in archive.search() if isinstance(each, SeriesEntry))
        small = read_volume(archive.retrieve(entry, Path(folder) / "in")).volume
        archive.close()
    zoom = [new / old for new, old in zip(SHAPE, small.array.shape, strict=True)]
    array = ndimage.zoom(small.array, zoom, order=1)
    affine = small.affine.copy()
    affine[:3, :3] /= np.array(zoom)
    return hd.Volume(array, affine, "PATIENT", frame_of_reference_uid=small.frame_of_reference_uid)


def main() -> int:
    """Run the benchmark; write and print its results."""
    volume = large_chest_ct()
    models = [catalogue.load(name) for name in MODELS]
    calls = [lambda model=model: model.segment(volume, dict(model.card.parameters)) for model in models]
    name = " x ".join(map(str, SHAPE))
    rows = [
        row(f"{model}, {name}", ("limit", f"{LIMIT_S:g} s"), took.wall_s, LIMIT_S, 1.0, f"{took.cpu_s:.1f} CPU s")
        for model, took in zip(MODELS, paired(calls), strict=True)
    ]
    publish("weight_free_models", "Weight-free models, wall seconds", rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
