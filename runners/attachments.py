"""A result's files beside its SEG and SR, in an archive that keeps files: label maps, measurements, provenance."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from ..enrich.archives.archive import Archive
from ..enrich.archives.attaching import Attachment, TakesFiles
from ..enrich.digest import file_sha256
from ..enrich.nifti import write_nifti
from ..models.segmentation import Segmentation
from .request import StageSettings
from .results import PROVENANCE, Result

ANNOTATIONS, MEASUREMENTS = "Annotations", "Measurements"
"""Folders of a study; the first by the convention of the African imaging archive (AFRICAI) on XNAT."""


def attach_results(result: Result, settings: StageSettings, target: Archive) -> int:
    """Attach the files that `publish` wrote, if the target takes any; gives their bytes.

    ``Measurements/measurements_OBSERVER.csv``, and with `settings.nifti` for each segment that was found
    ``Annotations/segmentation_CONTOUR_OBSERVER.nii.gz``, a mask; in both folders
    ``provenance_OBSERVER_DIGEST.json``. The observer is the model with the first 8 digits of the
    workitem's key, so that no other work bears these names.

    Raises
    ------
    StoreConflict, StoreError, AccessDenied
        If the target does not keep a file as it is.
    """
    if not isinstance(target, TakesFiles):
        return 0
    count = 0
    with TemporaryDirectory() as scratch:
        for folder, name, path in _files(result, settings, Path(scratch)):
            target.attach(Attachment(result.image.series.study_instance_uid, folder, name, path))
            count += path.stat().st_size
    return count


def _files(result: Result, settings: StageSettings, scratch: Path) -> Iterator[tuple[str, str, Path]]:
    """Folder, name and local path of each file; a mask is there only until the next is asked for."""
    observer = f"{_part(result.workitem.model)}-{result.workitem.key[:8]}"
    written = settings.results_of(result.workitem)
    provenance = written / PROVENANCE
    own = f"provenance_{observer}_{file_sha256(provenance)[:8]}.json"
    yield MEASUREMENTS, f"measurements_{observer}.csv", written / "measurements.csv"
    yield MEASUREMENTS, own, provenance
    if settings.nifti:
        for contour, mask in _masks(result.segmentation):
            path = scratch / "mask.nii.gz"
            write_nifti(mask, path)
            yield ANNOTATIONS, f"segmentation_{contour}_{observer}.nii.gz", path
        yield ANNOTATIONS, own, provenance


def _masks(segmentation: Segmentation) -> Iterator[tuple[str, Segmentation]]:
    """Contour and mask (1 within, 0 without) of each segment that has voxels."""
    for segment in segmentation.segments:
        mask = segmentation.mask(segment.number)
        if mask.any():
            labelmap = segmentation.labelmap.with_array(mask.astype(np.uint8))
            yield _part(segment.name), Segmentation(labelmap, (replace(segment, number=1, contains=()),))


def _part(name: str) -> str:
    """A name as one part of a file's name, whose parts ``_`` divides."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-")
