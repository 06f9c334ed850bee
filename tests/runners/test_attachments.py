"""``voxfleet enrich`` from an XNAT into it: what lies beside the SEG and SR, and what another run does to it."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from voxfleet.enrich.archives.archive import SeriesEntry
from voxfleet.enrich.archives.opening import open_archive
from voxfleet.enrich.phantom import chest_phantom, write_ct_series

pytestmark = pytest.mark.slow


def enriched(uri: str, out: Path) -> None:
    """Run the model of thresholds over a project and store its results there."""
    words = ["enrich", uri, "-m", "ct-threshold", "--to", uri, "--run", str(out), "--nifti"]
    done = subprocess.run(
        [sys.executable, "-m", "voxfleet", *words], capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode in (0, 3), done.stderr + done.stdout
    assert "s3cret-XNAT" not in done.stdout + done.stderr
    assert not [each for each in out.rglob("*") if each.is_file() and b"s3cret-XNAT" in each.read_bytes()]


def test_results_in_an_xnat(xnat: Any, tmp_path: Path) -> None:
    """SEG and SR are scans; masks, CSV and provenance lie in resources, equal to the SEG; a second run adds no other.

    Each file bears model and key: only provenance, which tells when, is there once for each run.
    """
    archive = open_archive(xnat.uri)
    for path in write_ct_series(chest_phantom((12, 48, 48), (20.0, 8.0, 8.0), seed=3).volume, tmp_path / "ct"):
        archive.store(pydicom.dcmread(path))
    enriched(xnat.uri, tmp_path / "out")
    (session,) = xnat.experiments.values()
    scans = {each.fields["modality"]: each for each in session.below.values()}
    assert sorted(scans) == ["CT", "SEG", "SR"]
    masks = {
        name: nibabel.Nifti1Image.from_bytes(gzip.decompress(content))
        for name, content in session.resources["Annotations"].items()
        if name.endswith(".nii.gz")
    }
    assert masks
    assert all(re.fullmatch(r"segmentation_[^_]+_ct-threshold-[0-9a-f]{8}\.nii\.gz", name) for name in masks)
    (seg,) = scans["SEG"].resources["DICOM"].values()
    (entry,) = (each for each in archive.search() if isinstance(each, SeriesEntry) and each.modality == "CT")
    assert len(archive.retrieve(entry, tmp_path / "back").instances) == 12
    frames = np.unpackbits(np.frombuffer(pydicom.dcmread(io.BytesIO(seg)).PixelData, np.uint8)).sum()
    assert sum(int(np.asarray(mask.dataobj).sum()) for mask in masks.values()) == frames
    (table,) = [name for name in session.resources["Measurements"] if name.endswith(".csv")]
    rows = list(csv.DictReader(session.resources["Measurements"][table].decode().splitlines()))
    assert {row["series_instance_uid"] for row in rows} == {entry.series_instance_uid}
    (told,) = [name for name in session.resources["Measurements"] if name.startswith("provenance_")]
    assert json.loads(session.resources["Measurements"][told])["entity"]
    before = {folder: dict(files) for folder, files in session.resources.items()}
    enriched(xnat.uri, tmp_path / "again")
    for folder, files in before.items():
        added = set(session.resources[folder]) - set(files)
        assert all(name.startswith("provenance_") for name in added)
        assert {name: session.resources[folder][name] for name in files} == files
    archive.close()
