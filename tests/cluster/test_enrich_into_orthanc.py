"""The real chest PET/CT of one study, enriched from a real Orthanc into the same Orthanc."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pydicom
import pytest
from voxfleet.cluster.ledgers.sqlite import SqliteLedger
from voxfleet.enrich.archives.archive import SeriesEntry
from voxfleet.enrich.archives.opening import open_archive
from voxfleet.enrich.digest import dataset_digest

pytestmark = [pytest.mark.slow, pytest.mark.orthanc]


def voxfleet(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """The console script in a process of its own."""
    command = [sys.executable, "-m", "voxfleet", *map(str, words)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=300, env={**os.environ, **environment}
    )


@pytest.mark.timeout(600)
def test_pet_ct_study_is_enriched_in_place(start_orthanc, shared_data, tmp_path, monkeypatch):
    """CT done by both models, scout and PET refused with the right reasons; what Orthanc gives back is equal."""
    study = shared_data / "chest-petct-acrin042"
    secrets = {"VOXFLEET_DICOMWEB_USER": "curator", "VOXFLEET_DICOMWEB_PASSWORD": "s3cret-word"}
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    uri = start_orthanc(user="curator", password="s3cret-word").uri
    archive = open_archive(uri)
    for path in sorted(study.rglob("*.dcm")) or sorted(p for p in study.rglob("*") if p.is_file()):
        archive.store(pydicom.dcmread(path))
    run = tmp_path / "run"
    words = ["enrich", uri, "-m", "ct-threshold", "-m", "covid-opacity-hu", "--to", uri, "--run", run, "--json"]
    done = voxfleet(*words, **secrets)
    assert done.returncode == 3, done.stderr
    series = json.loads(done.stdout)["series"]
    results = Counter((row["modality"], row["instances"] > 10, row["result"], row["code"]) for row in series)
    assert results == {
        ("CT", True, "completed", ""): 2,
        ("CT", False, "refused", "LOCALIZER"): 2,
        ("PT", True, "refused", "MODALITY"): 2,
    }
    held = Counter(each.modality for each in archive.search() if isinstance(each, SeriesEntry))
    assert held == {"CT": 2, "PT": 1, "SEG": 2, "SR": 2}
    assert _equal_objects(run, archive, tmp_path) == 4
    assert voxfleet("ledger", "verify", run, **secrets).returncode == 0
    assert voxfleet(*words, **secrets).returncode == 3
    held_again = Counter(each.modality for each in archive.search() if isinstance(each, SeriesEntry))
    assert held_again == held
    _assert_no_secret(run, done.stdout + done.stderr)


def _equal_objects(run: Path, archive, folder: Path) -> int:
    """How many objects of the ledger Orthanc gives back with an equal data set."""
    expected = {
        each.object.sop_instance_uid: each.object.sha256 for each in SqliteLedger(run / "ledger.sqlite").stored()
    }
    found = {}
    for entry in archive.search():
        if entry.modality in ("SEG", "SR"):
            for instance in archive.retrieve(entry, folder / entry.series_instance_uid).instances:
                found[instance.sop_instance_uid] = dataset_digest(pydicom.dcmread(instance.path))
    assert found == expected
    return len(found)


def _assert_no_secret(run: Path, printed: str) -> None:
    """The password stands in nothing that the run wrote or printed."""
    assert "s3cret-word" not in printed
    for path in run.rglob("*"):
        if path.is_file():
            assert b"s3cret-word" not in path.read_bytes(), path.name
