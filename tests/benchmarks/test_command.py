"""``voxfleet benchmark`` as a user calls it: real processes, small collections, every output read again."""

from __future__ import annotations

import csv
import html
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import yaml
from numpy.typing import NDArray
from pyarrow import parquet
from voxfleet.benchmarks.involvement import severity_of
from voxfleet.enrich.phantom import CtIdentity, Fault, Phantom, chest_phantom, write_ct_series
from voxfleet.enrich.phantom_anatomy import GROUND_GLASS_HU, Opacity
from voxfleet.models import catalogue
from voxfleet.models.segmentation import Segment

pytestmark = pytest.mark.slow

LUNGS = ("right_lung", "left_lung")
OPACITIES = tuple(
    f"{kind}_of_{side}_lung" for kind in ("ground_glass_opacity", "consolidation") for side in ("right", "left")
)
SHAPE, SPACING_MM = (24, 64, 64), (12.0, 5.6, 5.6)


def voxfleet(*words: object, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The console script in a process of its own."""
    command = [sys.executable, "-m", "voxfleet", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=280, cwd=folder)


def save_mask(path: Path, phantom: Phantom, mask: NDArray[np.bool_]) -> None:
    """A mask on the phantom's grid as NIfTI."""
    turned = phantom.volume.with_array(mask.astype(np.uint8)).permute_spatial_axes((2, 1, 0))
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(turned.array), turned.get_affine("RAS")), path)


def write_labels(path: Path, segments: Iterable[Segment], values: Mapping[int, str] | None = None) -> Path:
    """Table of labels with the codes of segments, by their names."""
    codes = {}
    for segment in segments:
        told = {"type": segment.type, "laterality": segment.laterality, "anatomic_region": segment.anatomic_region}
        codes[segment.name] = {
            key: [code.value, code.scheme_designator, code.meaning] for key, code in told.items() if code
        }
    path.write_text(yaml.safe_dump({"labels": 1, "values": dict(values or {}), "codes": codes}))
    return path


def phantom_of(number: int) -> tuple[Phantom, CtIdentity]:
    """A small phantom and who it is."""
    return chest_phantom(SHAPE, SPACING_MM, seed=number), CtIdentity.named(f"benchmark-{number}")


def mask_of(phantom: Phantom, name: str) -> NDArray[np.bool_]:
    """Voxels of a structure of the truth."""
    return phantom.truth.mask(next(each.number for each in phantom.truth.segments if each.name == name))


def rows_of(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Codes for the names of the phantoms' structures."""
    return write_labels(tmp_path_factory.mktemp("labels") / "labels.yaml", phantom_of(0)[0].truth.segments)


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Images of two patients, and what two observers marked: the truth, and the truth one voxel further left."""
    folder = tmp_path_factory.mktemp("benchmark")
    for number in range(2):
        phantom, identity = phantom_of(number)
        write_ct_series(phantom.volume, folder / "ct" / str(number), identity=identity)
        for name in (*LUNGS, *OPACITIES):
            mask = mask_of(phantom, name)
            marks = folder / "ref" / identity.series_instance_uid / "Annotations"
            save_mask(marks / f"segmentation_{name}_first.nii.gz", phantom, mask)
            save_mask(marks / f"segmentation_{name}_second.nii.gz", phantom, np.roll(mask, 1, axis=2))
    return folder / "ct", folder / "ref"


@pytest.fixture(scope="module")
def finished(
    collection: tuple[Path, Path], labels: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[object], dict[str, object]]:
    """Two models against two readers: folder, command (given in the folder's parent), and what it printed as JSON."""
    out = tmp_path_factory.mktemp("finished") / "out"
    images, references = collection
    command = ["benchmark", images, "-r", references, "-m", "covid-opacity-hu", "-m", "ct-threshold"]
    command += ["--labels", labels, "--readers", "-o", "out", "--json"]
    done = voxfleet(*command, folder=out.parent)
    assert done.returncode == 0, done.stderr
    return out, command, json.loads(done.stdout)


def test_models_against_readers_and_their_consensus(finished):
    """Each model is scored against both readers, majority and STAPLE; the readers' agreement is the ceiling."""
    _, _, document = finished
    board = {(row["model"], row["reference"]) for row in document["leaderboard"]}
    references = {"first", "second", "majority vote", "STAPLE"}
    models = {"covid-opacity-hu", "ct-threshold"}
    assert board == {(m, r) for m in models for r in references} | {("between readers", "between readers")}
    assert {row["series"] for row in document["leaderboard"]} == {2}
    assert document["problems"] == []
    assert document["left"] == 0


def test_scores_are_what_cost_reads(finished):
    """`voxfleet cost --scores` gives the dollars of both models' Dice from the run's own ledger."""
    out, _, _ = finished
    done = voxfleet("cost", out / "run", "--scores", out / "scores.parquet", "--json")
    assert done.returncode == 0, done.stderr
    priced = {row["model"].partition(" ")[0]: row for row in json.loads(done.stdout)["scores"]}
    assert priced.keys() == {"covid-opacity-hu", "ct-threshold"}
    assert all(row["series"] == 2 and float(row["usd_per_series"]) > 0 for row in priced.values())
    table = parquet.read_table(out / "scores.parquet")
    assert table.column_names[:4] == ["series", "patient", "model", "reference"]
    assert len(rows_of(out / "scores.csv")) == table.num_rows
    assert not any("PHANTOM" in path.read_text() for path in out.glob("*.csv"))


def test_page_is_self_contained(finished):
    """The page holds the exact command, pictures and every section, and asks no other host for anything."""
    out, command, _ = finished
    page = (out / "report.html").read_text()
    assert not re.search(r'(?:src|href)="(?:https?:)?//', page)
    assert "<script" not in page
    assert page.count("data:image/png;base64,") >= 3
    assert " ".join(map(str, command[:3])) in page
    for title in ("Leaderboard", "worst cases", "Volumes", "Lung involvement", "Dice against dollars", "compared"):
        assert title in page


def test_involvement_is_that_of_the_phantom(finished):
    """The expert's share of the lungs is that of the painted opacity, and the model's within a percentage point."""
    out, _, _ = finished
    rows = [row for row in rows_of(out / "involvement.csv") if row["reference"] == "first"]
    assert {row["model"] for row in rows} == {"covid-opacity-hu"}
    for number in range(2):
        phantom, identity = phantom_of(number)
        opaque = sum(np.count_nonzero(mask_of(phantom, name)) for name in OPACITIES)
        lungs = sum(np.count_nonzero(mask_of(phantom, name)) for name in LUNGS)
        (row,) = [each for each in rows if each["series"] == identity.series_instance_uid]
        assert float(row["expert_percent"]) == pytest.approx(100 * opaque / lungs)
        assert float(row["model_percent"]) == pytest.approx(100 * opaque / lungs, abs=1.0)


def test_severity_of_opacities_without_lungs(tmp_path: Path):
    """RICORD's way, opacity drawn and no lung: none, mild, moderate and severe are told as such."""
    of_side = {"right": -80.0, "left": 80.0}
    balls = {
        "none": (),
        "mild": (Opacity((20.0, 15.0, of_side["right"]), 25.0, GROUND_GLASS_HU),),
        "moderate": (Opacity((10.0, 15.0, of_side["right"]), 65.0, GROUND_GLASS_HU),),
        "severe": tuple(Opacity((0.0, 15.0, x), 80.0, GROUND_GLASS_HU) for x in of_side.values()),
    }
    truth = {}
    for severity, opacities in balls.items():
        phantom = chest_phantom(SHAPE, SPACING_MM, seed=1, opacities=opacities)
        identity = CtIdentity.named(f"benchmark-{severity}")
        write_ct_series(phantom.volume, tmp_path / "ct" / severity, identity=identity)
        labels = phantom.truth.labelmap.array
        save_mask(tmp_path / "ref" / identity.series_instance_uid / "Infectious opacity.nii.gz", phantom, labels >= 6)
        lungs = np.count_nonzero(np.isin(labels, (2, 3, 6, 7, 8, 9)))
        truth[identity.series_instance_uid] = (severity, 100 * np.count_nonzero(labels >= 6) / lungs)
    opacity = {"type": ["112001", "DCM", "Opacity"], "anatomic_region": ["39607008", "SCT", "Lung"]}
    table = tmp_path / "labels.yaml"
    table.write_text(yaml.safe_dump({"labels": 1, "codes": {"Infectious opacity": opacity}}))
    done = voxfleet(
        "benchmark", tmp_path / "ct", "-r", tmp_path / "ref", "-m", "covid-opacity-hu", "--labels", table,
        "-o", tmp_path / "out", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = rows_of(tmp_path / "out" / "involvement.csv")
    assert {row["lungs"] for row in rows} == {"model"}
    for row in rows:
        severity, percent = truth[row["series"]]
        for side in ("expert_percent", "model_percent"):
            assert float(row[side]) == pytest.approx(percent, abs=1.0)
            assert severity_of(float(row[side])) == severity
    assert len(rows) == len(truth)


def test_command_of_the_page_goes_on(finished, tmp_path: Path):
    """The page's command, given in another folder, runs and scores nothing again, and the scores are the same."""
    out, _, _ = finished
    before = {path: path.stat().st_mtime_ns for path in (out / "cases").iterdir()}
    scores = (out / "scores.csv").read_bytes()
    (command,) = re.findall(r"<pre>(.*?)</pre>", (out / "report.html").read_text())
    shell = ["sh", "-c", html.unescape(command)]
    done = subprocess.run(shell, capture_output=True, text=True, check=False, timeout=280, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in (out / "cases").iterdir()} == before
    assert (out / "scores.csv").read_bytes() == scores


def test_killed_command_goes_on(finished, collection: tuple[Path, Path], tmp_path: Path):
    """After SIGKILL the same command keeps every series that was scored as it is, and scores the others."""
    out, _, _ = finished
    words = [
        "benchmark", collection[0], "-r", _segs_of(out, "ct-threshold", tmp_path / "a"),
        "-p", f"{_segs_of(out, 'covid-opacity-hu', tmp_path / 'b')}=hu", "-o", tmp_path / "out", "--json",
    ]  # fmt: skip
    kept = tmp_path / "out" / "cases"
    with subprocess.Popen([sys.executable, "-m", "voxfleet", *map(str, words)], stdout=subprocess.DEVNULL) as killed:
        while not list(kept.glob("[!.]*.json")) and killed.poll() is None:
            time.sleep(0.01)
        killed.kill()
    before = {path: path.stat().st_mtime_ns for path in kept.glob("[!.]*.json")}
    assert before
    done = voxfleet(*words)
    assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert {row["series"] for row in rows_of(tmp_path / "out" / "scores.csv")} == {
        phantom_of(number)[1].series_instance_uid for number in range(2)
    }


def test_reports_are_valid_and_refer_to_both_sides(finished, collection: tuple[Path, Path], tmp_path: Path):
    """Against SEGs the SR names evaluated and reference segments, those of a zip file too; dciodvfy finds no error."""
    out, _, _ = finished
    packed = shutil.make_archive(tmp_path / "b", "zip", _segs_of(out, "covid-opacity-hu", tmp_path / "b"))
    done = voxfleet(
        "benchmark", collection[0], "-r", _segs_of(out, "ct-threshold", tmp_path / "a"), "-p", f"{packed}=hu",
        "-o", tmp_path / "out", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    files = sorted((tmp_path / "out" / "sr").rglob("*.dcm"))
    assert len(files) == 2
    made = (pydicom.dcmread(path, stop_before_pixels=True) for path in tmp_path.glob("[ab]/*.dcm"))
    segs = {each.SOPInstanceUID: each for each in made}
    for path in files:
        report = pydicom.dcmread(path)
        checked = subprocess.run(["dciodvfy", "-new", path], capture_output=True, text=True, check=False)
        found = checked.stdout + checked.stderr
        assert "EnhancedSR" in found
        assert "Error" not in found, found
        evidence = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
        assert len(evidence) == 3  # images, evaluated and reference SEG
        groups = next(item for item in report.ContentSequence if item.ConceptNameCodeSequence[0].CodeValue == "126010")
        for group in groups.ContentSequence:
            names = [each.ConceptNameCodeSequence[0].CodeMeaning for each in group.ContentSequence]
            assert "Dice similarity coefficient" in names
            assert names.count("Referenced Segment") == names.count("Reference Segment") == 1
            side = _item(group, "Finding Site").ContentSequence[0].ConceptCodeSequence[0].CodeMeaning
            for name, model in (("Referenced Segment", "covid-opacity-hu"), ("Reference Segment", "ct-threshold")):
                reference = _item(group, name).ReferencedSOPSequence[0]
                seg = segs[reference.ReferencedSOPInstanceUID]
                assert seg.ManufacturerModelName == model
                segment = seg.SegmentSequence[reference.ReferencedSegmentNumber - 1]
                assert segment.SegmentLabel == f"{side} Lung"


def _item(group: pydicom.Dataset, meaning: str) -> pydicom.Dataset:
    """Item of a measurement group, by the meaning of its concept."""
    return next(each for each in group.ContentSequence if each.ConceptNameCodeSequence[0].CodeMeaning == meaning)


def _segs_of(out: Path, model: str, folder: Path) -> Path:
    """Copies of the SEGs that one model left in the results."""
    folder.mkdir()
    for path in (out / "results").rglob("*.dcm"):
        header = pydicom.dcmread(path, stop_before_pixels=True)
        if header.Modality == "SEG" and header.ManufacturerModelName == model:
            shutil.copy(path, folder)
    return folder


def test_readers_alone(collection: tuple[Path, Path], labels: Path, tmp_path: Path):
    """Without a model the page has how the readers agree, by every symmetric metric and structure."""
    done = voxfleet(
        "benchmark", collection[0], "-r", f"dir:{collection[1]}", "--labels", labels, "--readers", "-o", tmp_path,
        "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (dice,) = [row for row in json.loads(done.stdout)["leaderboard"] if row["metric"] == "dice"]
    page = (tmp_path / "report.html").read_text()
    assert 0.5 < dice["mean"] < 1.0
    assert f"{dice['mean']:.4f}" in page
    assert {row["segment"] for row in rows_of(tmp_path / "readers.csv")} >= {"Right Lung", "Left Lung"}


def test_missing_prediction_is_a_failure(finished, collection: tuple[Path, Path], tmp_path: Path):
    """A model without a SEG for one of two series has Dice 0 there, in every structure it describes elsewhere."""
    out, _, _ = finished
    segs = _segs_of(out, "covid-opacity-hu", tmp_path / "segs")
    next(segs.iterdir()).unlink()
    done = voxfleet(
        "benchmark", collection[0], "-r", _segs_of(out, "ct-threshold", tmp_path / "ref"), "-p", f"{segs}=hu",
        "-o", tmp_path / "out", "--json",
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    document = json.loads(done.stdout)
    (dice,) = [row for row in document["leaderboard"] if row["metric"] == "dice"]
    assert (dice["series"], dice["failed"]) == (2, 1)
    assert [problem["code"] for problem in document["problems"]] == ["NO_PREDICTION"]
    failed = [row for row in rows_of(tmp_path / "out" / "scores.csv") if row["failure"] and row["metric"] == "dice"]
    assert {row["segment"] for row in failed} == {"Right Lung", "Left Lung"}
    assert {float(row["value"]) for row in failed} == {0.0}


def test_bad_references_are_told_of(collection: tuple[Path, Path], finished, tmp_path: Path):
    """References of another patient and of another frame of reference, and no codes: each is in the report."""
    images, references = collection
    out, _, _ = finished
    seg = pydicom.dcmread(next(_segs_of(out, "ct-threshold", tmp_path / "good").iterdir()))
    for number, (name, value) in enumerate((("PatientID", "somebody else"), ("FrameOfReferenceUID", "1.2.3.4.5.6.7"))):
        changed = pydicom.dcmread(seg.filename)
        setattr(changed, name, value)
        changed.SOPInstanceUID = changed.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.4.5.6.8.{number}"
        changed.save_as(tmp_path / f"{name}.dcm")
    done = voxfleet(
        "benchmark", images, "-r", tmp_path / "PatientID.dcm", "-r", tmp_path / "FrameOfReferenceUID.dcm",
        "-r", references, "-m", "ct-threshold", "-o", tmp_path / "out", "--json",
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    codes = {problem["code"] for problem in json.loads(done.stdout)["problems"]}
    assert codes == {"OTHER_PATIENT", "OTHER_FRAME_OF_REFERENCE", "NOTHING_PAIRED"}
    page = (tmp_path / "out" / "report.html").read_text()
    assert all(code in page for code in codes)
    assert "somebody else" not in page


def test_series_that_the_gate_refuses(labels: Path, tmp_path: Path):
    """A tilted series with a reference is told of with its reason; the other series is scored."""
    for number, fault in enumerate((None, Fault.GANTRY_TILT)):
        phantom, identity = phantom_of(number)
        write_ct_series(phantom.volume, tmp_path / "ct" / str(number), identity=identity, fault=fault)
        path = tmp_path / "ref" / identity.series_instance_uid / "right_lung.nii.gz"
        save_mask(path, phantom, mask_of(phantom, "right_lung"))
    done = voxfleet(
        "benchmark", tmp_path / "ct", "-r", tmp_path / "ref", "-m", "ct-threshold", "--labels", labels,
        "-o", tmp_path / "out", "--json",
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    document = json.loads(done.stdout)
    assert {problem["code"] for problem in document["problems"]} == {"GANTRY_TILT"}
    assert document["series"] == 1


def test_totalsegmentator_against_itself_shifted_and_swapped(shared_data: Path, tmp_path: Path):
    """The reference label map scores 1 against itself; shifted and swapped ones are the worst cases of the page."""
    folder = shared_data / "totalsegmentator-example"
    image = nibabel.load(folder / "example_ct.nii.gz")
    write_ct_series(_volume_of(image), tmp_path / "ct")
    truth = nibabel.load(folder / "example_seg_fast_force_split.nii.gz")
    array = np.asanyarray(truth.dataobj).astype(np.uint8)
    for name, changed in (("same", array), ("shifted", np.roll(array, 1, axis=0)), ("swapped", array[::-1])):
        nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(changed), truth.affine), tmp_path / f"{name}.nii.gz")
    segments = catalogue.card("totalsegmentator:total").segments
    table = write_labels(tmp_path / "labels.yaml", segments, {each.number: each.name for each in segments})
    done = voxfleet(
        "benchmark", tmp_path / "ct", "-r", tmp_path / "same.nii.gz", "--labels", table, "-o", tmp_path / "out",
        "--json", *(word for name in ("same", "shifted", "swapped") for word in ("-p", tmp_path / f"{name}.nii.gz")),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    dice = {row["model"]: row for row in json.loads(done.stdout)["leaderboard"] if row["metric"] == "dice"}
    assert dice["same"]["mean"] == 1.0
    assert 0.5 < dice["shifted"]["mean"] < 0.95
    assert dice["swapped"]["mean"] < 0.4
    page = (tmp_path / "out" / "report.html").read_text()
    places = [page.index(f"<h3>{name}: mean Dice") for name in ("swapped", "shifted", "same")]
    assert places == sorted(places)


def _volume_of(image: nibabel.Nifti1Image):
    """A NIfTI of Hounsfield units as a volume in LPS."""
    import highdicom as hd

    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ image.affine
    array = np.clip(np.rint(np.asanyarray(image.dataobj)), -1024, 3071).astype(np.int16)
    return hd.Volume(array, affine, "PATIENT", frame_of_reference_uid="1.2.3.4.5.6.7.8").to_patient_orientation("HPL")


def test_three_references_of_the_sarcoma(shared_data: Path, tmp_path: Path):
    """RTSTRUCT, NIfTI and MD.ai JSON of one tumour as readers: each two agree at Dice >= 0.999 on the CT."""
    folder = shared_data / "sarcoma-rtstruct-sts002"
    codes = {name: {"type": ["108369006", "SCT", "Neoplasm"]} for name in _names_of_the_tumour()}
    (tmp_path / "labels.yaml").write_text(yaml.safe_dump({"labels": 1, "codes": codes}))
    done = voxfleet(
        "benchmark", folder / "dicom" / "CT", "-r", folder, "-p", f"{folder / 'nifti' / 'CT_mask.nii.gz'}=mask",
        "--labels", tmp_path / "labels.yaml", "--readers", "--lesions", "-o", tmp_path / "out", "--json",
    )  # fmt: skip
    document = json.loads(done.stdout)
    dice = {row["reference"]: row["mean"] for row in document["leaderboard"] if row["metric"] == "dice"}
    assert len(dice) == 6, document["problems"]  # three readers, majority, STAPLE, and between readers
    assert min(dice.values()) >= 0.999


def _names_of_the_tumour() -> tuple[str, ...]:
    """In RTSTRUCT, NIfTI and JSON."""
    return ("GTV_Mass_CT", "CT_mask", "GTV_Mass")


def test_extra_is_asked_for(monkeypatch: pytest.MonkeyPatch):
    """Without the metrics' libraries the command says what to install, before any work."""
    from voxfleet.benchmarks import study

    monkeypatch.setattr(study, "find_spec", lambda name: None if name == "statsmodels" else object())
    with pytest.raises(study.BenchmarkNeedsExtra, match=r"statsmodels.*pip install 'voxfleet\[benchmark\]'"):
        study.check_installed()
