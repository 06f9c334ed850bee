"""No value out of a header reaches a terminal or a log, whatever a library has to say about it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pydicom
import pytest
from pydicom import config
from voxfleet.enrich.phantom import CtIdentity, chest_phantom, write_ct_series

MARK = "M4rkName"
LOUD = f"""
import warnings, logging
from voxfleet.runners.discretion import be_discreet
be_discreet()
logging.basicConfig(level=logging.INFO)
from highdicom.valuerep import check_person_name
from pydicom.dataset import Dataset
check_person_name("{MARK}")
Dataset().PatientName = "{MARK}" * 20
Dataset().PatientBirthDate = "{MARK}"
warnings.warn("{MARK}")
logging.getLogger("urllib3.connectionpool").warning("{MARK}")
"""


def test_warnings_are_told_without_their_text() -> None:
    """Of what pydicom, highdicom and urllib3 say, kind and place remain; highdicom names its caller's place."""
    done = subprocess.run([sys.executable, "-c", LOUD], capture_output=True, text=True, check=True)
    assert MARK not in done.stdout + done.stderr
    places = [line.rpartition(" at ")[2].partition(":")[0] for line in done.stderr.splitlines()]
    assert set(places) == {"/<string>", "pydicom/valuerep.py"}
    assert places.count("/<string>") == 2


def _named(folder: Path) -> None:
    """A CT whose patient's name and dates break their value representations, and hold a mark."""
    phantom = chest_phantom(shape=(24, 64, 64), spacing_mm=(12.0, 5.6, 5.6), seed=1)
    write_ct_series(phantom.volume, folder, identity=CtIdentity.named("discretion"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config.settings, "writing_validation_mode", config.IGNORE)
        for path in folder.rglob("*.dcm"):
            dataset = pydicom.dcmread(path)
            dataset.PatientName, dataset.PatientBirthDate = MARK * 10, MARK
            dataset.ReferringPhysicianName = dataset.StudyDate = MARK
            dataset.save_as(path)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore")
def test_commands_name_no_patient(tmp_path: Path) -> None:
    """Listed, copied, enriched, and retracted with a note to the archive: no command says the patient's name."""
    _named(tmp_path / "ct")
    said = ""
    for words in (
        ["archive", "ls", "ct"],
        ["archive", "copy", "ct", "copied"],
        ["enrich", "copied", "-m", "ct-threshold", "--to", "out", "--run", "run", "--nifti"],
        ["ledger", "verify", "run"],
        ["retract", "run", "--yes"],
    ):
        command = [sys.executable, "-m", "voxfleet", "-v", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240, cwd=tmp_path)
        said += f"\n{done.args[3:]}: {done.returncode}\n{done.stdout}{done.stderr}"
    assert MARK not in said
    assert ": 0\n" in said
    kept = [path for path in (tmp_path / "run").rglob("*") if path.is_file() and MARK.encode() in path.read_bytes()]
    assert kept == []
