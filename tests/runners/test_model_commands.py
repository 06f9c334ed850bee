"""``voxfleet models`` as a user calls it, and the real trained model on a real MR, end to end."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import yaml
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid
from voxfleet.models import catalogue


def voxfleet(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """The console script in a process of its own."""
    command = [sys.executable, "-m", "voxfleet", *map(str, words)]
    variables = {**os.environ, "COLUMNS": "200", **environment}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=800, env=variables)


@pytest.fixture
def plugin(tmp_path: Path) -> tuple[dict[str, str], bytes]:
    """The environment with a model that has weights to fetch, and those weights."""
    content = b"weights" * 1000
    package = tmp_path / "site" / "with_weights"
    package.mkdir(parents=True)
    card = yaml.safe_load((Path(catalogue.__file__).parent / "cards" / "ct-threshold.yaml").read_text())
    card["name"] = "with-weights"
    card["weights"] = [{"url": "https://example.org/net.bin", "sha256": hashlib.sha256(content).hexdigest()}]
    card["commercial_use"] = False
    card["weights_licence"] = "LicenseRef-Academic"
    (package / "card.yaml").write_text(yaml.safe_dump(card))
    (package / "__init__.py").write_text(
        "from pathlib import Path\n"
        "from voxfleet.models import catalogue, weights\n"
        "from voxfleet.models.card_file import read_card\n"
        "def card():\n    return read_card(Path(__file__).parent / 'card.yaml')\n"
        "def load(card, device):\n    weights.verified(card)\n    return catalogue.load('ct-threshold')\n"
    )
    metadata = tmp_path / "site" / "with_weights-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: with-weights\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[voxfleet.models]\nwith-weights = with_weights\n")
    environment = {"PYTHONPATH": str(tmp_path / "site"), "VOXFLEET_WEIGHTS": str(tmp_path / "store")}
    return environment, content


def test_list_and_show():
    """The list has every model with the licence of its weights; a card is shown for people and as JSON."""
    listed = voxfleet("models").stdout
    assert listed == voxfleet("models", "list").stdout
    assert "meshnet-gwm" in listed
    assert "MIT" in listed
    shown = voxfleet("models", "show", "meshnet-gwm").stdout
    assert "licence of weights: MIT" in shown
    assert "takes: MR HEAD" in shown
    record = json.loads(voxfleet("models", "show", "meshnet-gwm", "--json").stdout)
    assert record["commercial_use"] is True
    assert record["segments"][1]["type"] == {"value": "389081007", "scheme": "SCT", "meaning": "Gray Matter"}


@pytest.mark.slow
def test_fetch_and_check(plugin, tmp_path):
    """Missing weights name the command; with the licence accepted they are fetched, and the model checks out."""
    environment, content = plugin
    assert "LicenseRef-Academic (no commercial use)" in voxfleet("models", **environment).stdout
    missing = voxfleet("models", "check", "with-weights", **environment)
    assert missing.returncode == 1
    assert "WEIGHTS_MISSING" in missing.stderr
    assert "run: voxfleet models fetch with-weights" in missing.stderr
    source = tmp_path / "net.bin"
    source.write_bytes(content)
    refused = voxfleet("models", "fetch", "with-weights", "--from", source, **environment)
    assert "LICENCE_NOT_ACCEPTED" in refused.stderr
    fetched = voxfleet("models", "fetch", "with-weights", "--from", source, "--accept-licence", **environment)
    assert fetched.returncode == 0, fetched.stderr
    assert "SHA-256 as the card says" in fetched.stderr
    checked = json.loads(voxfleet("models", "check", "with-weights", "--json", **environment).stdout)
    assert checked["voxels"] > 0


@pytest.mark.slow
def test_fetch_refuses_other_content(plugin, tmp_path):
    """A file that is not the card's is refused with both digests, and does not enter the store."""
    environment, content = plugin
    (tmp_path / "other.bin").write_bytes(content + b"!")
    done = voxfleet(
        *("models", "fetch", "with-weights", "--accept-licence", "--from", tmp_path / "other.bin"), **environment
    )
    assert done.returncode == 1
    assert "WRONG_HASH" in done.stderr
    assert hashlib.sha256(content).hexdigest() in done.stderr
    assert [path for path in (tmp_path / "store").rglob("*") if path.is_file()] == []


def write_mr(image: nib.Nifti1Image, folder: Path) -> None:
    """The image as MR Image Storage (PS3.3 A.4), one file per index of its first axis."""
    folder.mkdir()
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ image.affine
    array = np.asanyarray(image.dataobj)
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    for number in range(len(array)):
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SOPClassUID, dataset.SOPInstanceUID = MRImageStorage, generate_uid()
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = study, series, frame
        dataset.PatientName, dataset.PatientID = "T1^BRAINCHOP", "T1"
        dataset.PatientBirthDate = dataset.PatientSex = dataset.ReferringPhysicianName = dataset.AccessionNumber = ""
        dataset.StudyDate, dataset.StudyTime, dataset.StudyID = "20000101", "000000", "1"
        dataset.Modality, dataset.SeriesNumber, dataset.InstanceNumber = "MR", 1, number + 1
        dataset.Manufacturer, dataset.PositionReferenceIndicator = "", ""
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
        dataset.ScanningSequence, dataset.SequenceVariant, dataset.MRAcquisitionType = "GR", "NONE", "3D"
        dataset.ImagePositionPatient = [f"{value:.6f}" for value in affine[:3, 0] * number + affine[:3, 3]]
        dataset.ImageOrientationPatient = [f"{value:.6f}" for value in (*affine[:3, 2], *affine[:3, 1])]
        dataset.PixelSpacing, dataset.SliceThickness = ["1", "1"], "1"
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
        dataset.Rows, dataset.Columns = array.shape[1:]
        dataset.PixelData = np.ascontiguousarray(array[number], dtype="<u2").tobytes()
        dataset.save_as(folder / f"{number:03d}.dcm", enforce_file_format=True)


def errors_of(path: Path) -> list[str]:
    """Errors that dicom3tools' dciodvfy finds in a file."""
    program = Path(sys.executable).parent / "dciodvfy"
    done = subprocess.run([program, "-new", path], capture_output=True, text=True, timeout=200, check=False)
    return [line for line in (done.stdout + done.stderr).splitlines() if "Error" in line]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_real_model_on_a_real_mr(shared_data, tmp_path):
    """A T1 MR series through ``voxfleet run meshnet-gwm`` gives a valid SEG and a valid SR."""
    write_mr(nib.load(shared_data / "weights" / "brainchop-meshnet-gwm" / "t1_crop.nii.gz"), tmp_path / "mr")
    done = voxfleet("run", "meshnet-gwm", tmp_path / "mr", "-o", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    (seg,) = tmp_path.rglob("meshnet-gwm.seg.dcm")
    (sr,) = tmp_path.rglob("meshnet-gwm.sr.dcm")
    assert (errors_of(seg), errors_of(sr)) == ([], [])
    dataset = pydicom.dcmread(seg)
    assert [segment.SegmentLabel for segment in dataset.SegmentSequence] == ["White Matter", "Grey Matter"]
    found = {1: 0, 2: 0}
    for functional, frame in zip(dataset.PerFrameFunctionalGroupsSequence, dataset.pixel_array, strict=True):
        found[functional.SegmentIdentificationSequence[0].ReferencedSegmentNumber] += np.count_nonzero(frame)
    assert list(found.values()) == pytest.approx([609_605, 1_000_885], rel=1e-4)


def test_wrong_modality_is_refused(tmp_path):
    """A CT is refused by the model for MR, with both named, before anything is loaded."""
    from voxfleet.enrich.phantom import chest_phantom, write_ct_series

    write_ct_series(chest_phantom(shape=(6, 32, 32), spacing_mm=(20.0, 12.0, 12.0), seed=2).volume, tmp_path / "ct")
    done = voxfleet("run", "meshnet-gwm", tmp_path / "ct", "-o", tmp_path / "out", "--json")
    assert done.returncode == 3
    (series,) = json.loads(done.stdout)["series"]
    assert (series["state"], series["failure"]["code"]) == ("refused", "MODALITY")
    assert "is CT; meshnet-gwm takes MR" in series["failure"]["message"]


def test_list_fits_a_narrow_terminal():
    """In 80 columns each model is a row of at most two lines: the description is left to wider ones."""
    done = voxfleet("models", COLUMNS="80")
    assert done.returncode == 0, done.stderr
    assert "description" not in done.stdout
    assert "description" in voxfleet("models").stdout
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 2 * len(catalogue.names()) + 4
