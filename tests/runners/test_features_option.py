"""``voxfleet run --features``: all that a parameter file asks for, from the command to the tables."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pydicom
import pytest
from voxfleet.enrich.phantom import write_ct_series
from voxfleet.enrich.sr import decode_sr

pytest.importorskip("radiomics")

PARAMETERS = """
setting: {binWidth: 25}
imageType: {Original: {}, LoG: {sigma: [6.0]}}
featureClass: {shape: [MeshVolume], firstorder: [Mean], glcm: [Contrast, MCC]}
"""


def voxfleet(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The command, run."""
    program = Path(sys.executable).parent / "voxfleet"
    return subprocess.run(
        [program, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "200"},
    )


@pytest.fixture(scope="module")
def source(phantom, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CT series of a phantom."""
    folder = tmp_path_factory.mktemp("ct")
    write_ct_series(phantom.volume, folder)
    return folder


@pytest.fixture(scope="module")
def result(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the one series' results."""
    folder = tmp_path_factory.mktemp("results")
    (folder / "features.yaml").write_text(PARAMETERS)
    done = voxfleet("run", "ct-threshold", source, "-o", folder, "--features", folder / "features.yaml")
    assert done.returncode == 0, done.stderr
    (series,) = (path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    return series


def test_tables_have_class_and_filter(result: Path) -> None:
    """Each segment has the features asked for, on the images asked for, and no others."""
    rows = pq.read_table(result / "measurements.parquet").to_pylist()
    kinds = {(row["image_filter"], row["feature_class"], row["feature"], row["ibsi_code"]) for row in rows}
    textures = {
        ("glcm", "glcm_Contrast", "ACUI"),
        ("glcm", "glcm_MCC", None),
        ("firstorder", "firstorder_Mean", "Q4LE"),
    }
    expected = {(name, *kind) for name in ("original", "log-sigma-6-0-mm-3D") for kind in textures}
    assert kinds == expected | {("original", "shape", "shape_MeshVolume", "RNU0")}
    assert len(rows) == len(kinds) * len({row["segment_number"] for row in rows})
    assert all(row["value"] is not None for row in rows)


def test_sr_holds_the_same_numbers(result: Path) -> None:
    """Every row of the table is a number of the SR."""
    (path,) = result.glob("*.sr.dcm")
    numbers = [m.value for group in decode_sr(pydicom.dcmread(path)) for m in group.measurements]
    rows = pq.read_table(result / "measurements.parquet").to_pylist()
    assert numbers == [row["value"] for row in rows]


def test_provenance_holds_the_content(result: Path) -> None:
    """The plan holds what was asked for, its digest, and no path."""
    text = (result / "provenance.json").read_text()
    (plan,) = (entity for name, entity in json.loads(text)["entity"].items() if name.startswith("work:"))
    assert json.loads(plan["vf:setting.features"])["featureClass"]["glcm"] == ["Contrast", "MCC"]
    assert len(plan["vf:setting.features_sha256"]) == 64
    assert "features.yaml" not in text


def test_a_moved_file_is_the_same_work(result: Path, source: Path, tmp_path: Path) -> None:
    """The same content elsewhere, with a comment, gives the same objects, bit for bit."""
    (tmp_path / "moved.yml").write_text(f"# moved\n{PARAMETERS}")
    done = voxfleet("run", "ct-threshold", source, "-o", tmp_path, "--features", tmp_path / "moved.yml")
    assert done.returncode == 0, done.stderr
    for path in result.glob("*.dcm"):
        assert (tmp_path / result.name / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("command", ["run", "enrich"])
def test_a_bad_file_is_refused_before_any_work(command: str, source: Path, tmp_path: Path) -> None:
    """One line, naming file and rule; nothing is written."""
    (tmp_path / "bad.yaml").write_text("setting: {binWidth: -1}")
    target = ("ct-threshold", source, "-o", tmp_path / "out")
    if command == "enrich":
        target = (source, "-m", "ct-threshold", "--to", f"dir:{tmp_path / 'out'}", "--run", tmp_path / "run")
    done = voxfleet(command, *target, "--features", tmp_path / "bad.yaml")
    assert done.returncode == 1
    assert "INVALID_FEATURES" in done.stderr
    assert "bad.yaml" in done.stderr
    assert "/setting/binWidth" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.yaml"]
