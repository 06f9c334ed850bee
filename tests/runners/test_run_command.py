"""``voxfleet run`` on a real chest CT, looked at with programs that are not ours."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import prov.model
import pydicom
import pytest
import SimpleITK as sitk
from voxfleet.enrich.archives.archive import SeriesEntry
from voxfleet.enrich.archives.opening import open_archive
from voxfleet.enrich.features.feature_codes import PUBLISHED
from voxfleet.enrich.features.pyradiomics_engine import features_of
from voxfleet.enrich.seg_decode import decode_seg
from voxfleet.enrich.series import read_volume

pytestmark = pytest.mark.slow

NEAREST = sitk.sitkNearestNeighbor
DEMO_CT = Path(__file__).parents[2] / "cluster" / "demo_data" / "cip-chest-ct.zip"


def tool(name: str) -> str:
    """Path of a program of the virtual environment."""
    found = shutil.which(name, path=str(Path(sys.executable).parent))
    assert found, f"{name} is not installed"
    return found


def voxfleet(*words: object) -> subprocess.CompletedProcess[str]:
    """The console script in a process of its own."""
    command = [sys.executable, "-m", "voxfleet", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real chest CT that the project carries."""
    folder = tmp_path_factory.mktemp("source")
    with zipfile.ZipFile(DEMO_CT) as pack:
        pack.extractall(folder)
    return folder


@pytest.fixture(scope="module", params=["ct-threshold", "covid-opacity-hu"])
def result(request: pytest.FixtureRequest, source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the one series' results by one of the weight-free models."""
    out = tmp_path_factory.mktemp(request.param)
    done = voxfleet("run", request.param, source, "-o", out, "--nifti")
    assert done.returncode == 0, done.stderr
    (folder,) = (path for path in out.iterdir() if not path.name.startswith("."))
    return folder


def one(folder: Path, pattern: str) -> Path:
    """The one file of that pattern."""
    (path,) = folder.glob(pattern)
    return path


def test_files_are_those_that_the_readme_names(result):
    """SEG, SR, NIfTI, tables, page and provenance lie in a folder named by the Series Instance UID."""
    seg = pydicom.dcmread(one(result, "*.seg.dcm"), stop_before_pixels=True)
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == result.name
    names = {"report.html", "provenance.json", "measurements.parquet", "measurements.csv"}
    assert {path.name for path in result.iterdir()} >= names
    assert one(result, "*.nii.gz").stat().st_size > 1000


def test_dciodvfy_has_no_errors(result):
    """The SEG and the SR break no rule of their IODs."""
    for path in (one(result, "*.seg.dcm"), one(result, "*.sr.dcm")):
        said = subprocess.run([tool("dciodvfy"), "-new", path], capture_output=True, text=True, check=False).stderr
        assert [line for line in said.splitlines() if line.startswith("Error")] == []


def test_dcmqi_reads_every_voxel_as_we_wrote_it(result, tmp_path):
    """segimage2itkimage gives each segment the voxels, at the places, that it has in the NIfTI read by ITK."""
    path = one(result, "*.seg.dcm")
    command = [tool("segimage2itkimage"), "--inputDICOM", path, "--outputDirectory", tmp_path, "--outputType", "nrrd"]
    subprocess.run([*command, "--prefix", "s"], check=True, capture_output=True)
    label_map = sitk.ReadImage(one(result, "*.nii.gz"))
    labels = sitk.GetArrayFromImage(label_map)
    for segment in decode_seg(pydicom.dcmread(path)).segments:
        found = sitk.Resample(
            sitk.ReadImage(tmp_path / f"s-{segment.number}.nrrd"), label_map, sitk.Transform(), NEAREST
        )
        wanted = np.isin(labels, (segment.number, *segment.contains))
        assert wanted.any()
        np.testing.assert_array_equal(sitk.GetArrayFromImage(found) > 0, wanted, err_msg=segment.label)


def test_every_number_of_the_sr_is_pyradiomics(result, source, tmp_path):
    """What tid1500reader reads equals what pyradiomics computes from the SEG and the CT, to 1e-6."""
    out = tmp_path / "sr.json"
    command = [tool("tid1500reader"), "--inputDICOM", one(result, "*.sr.dcm"), "--outputMetadata", out]
    subprocess.run(command, check=True, capture_output=True)
    archive = open_archive(str(source))
    (entry,) = (each for each in archive.search() if isinstance(each, SeriesEntry))
    volume = read_volume(archive.retrieve(entry, tmp_path / "in")).volume
    segmentation = decode_seg(pydicom.dcmread(one(result, "*.seg.dcm")), volume)
    groups = json.loads(out.read_text())["Measurements"]
    assert len(groups) == len(segmentation.segments)
    for group in groups:
        mask = segmentation.mask(group["ReferencedSegment"])
        oracle = features_of(volume.array, mask, volume.spacing)
        read = {item["quantity"]["CodeValue"]: float(item["value"]) for item in group["measurementItems"]}
        for feature in PUBLISHED:
            # The published collection, and so we, give excess kurtosis.
            excess = 3 if feature.name == "firstorder_Kurtosis" else 0
            wanted = pytest.approx(oracle[feature.name] - excess, rel=1e-6, abs=1e-9)
            assert read[feature.concept.value] == wanted, feature.name


def test_provenance_names_every_instance_and_both_results(result):
    """The PROV-JSON, read by the prov library, holds the 79 source instances and the two objects."""
    document = prov.model.ProvDocument.deserialize(result / "provenance.json", format="json")
    text = document.get_provn()
    objects = [pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID for path in result.glob("*.dcm")]
    assert len(objects) == 2
    assert all(uid in text for uid in objects)
    assert text.count("hadMember") >= 79


def test_twice_gives_the_same_bytes(result, source, tmp_path):
    """Another process, at another time, writes the same SEG and SR, bit for bit."""
    seg = one(result, "*.seg.dcm")
    assert voxfleet("run", seg.name.partition(".seg")[0], source, "-o", tmp_path).returncode == 0
    for path in result.glob("*.dcm"):
        assert (tmp_path / result.name / path.name).read_bytes() == path.read_bytes()


def test_wrong_modality_is_refused_and_told(tmp_path, shared_data):
    """MR given to a CT model: exit code 3, the reason MODALITY, and nothing computed."""
    with tarfile.open(shared_data / "hard" / "dicom2nifti-failing-and-compressed.tar.xz") as pack:
        members = [member for member in pack.getmembers() if "/compressed/" in f"/{member.name}"]
        pack.extractall(tmp_path / "mr", members=members, filter="data")
    done = voxfleet("run", "ct-threshold", tmp_path / "mr", "-o", tmp_path / "out", "--json")
    assert done.returncode == 3
    (series,) = json.loads(done.stdout)["series"]
    assert series["failure"]["code"] == "MODALITY"
    assert set(series["wall_s"]) == {"retrieve"}
