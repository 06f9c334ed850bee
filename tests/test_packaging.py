"""What is installed is what stands in the folders."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
import zipfile
from itertools import chain
from pathlib import Path

import pytest
import voxfleet
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(voxfleet.__file__).parent
ROOMS = ("models", "enrich", "runners", "cluster", "benchmarks")


def _pyproject() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def _tracked(*places: str) -> list[str]:
    """Files that git tracks."""
    command = ["git", "ls-files", *places]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()


def test_package_list_is_the_folders():
    """Every folder with an __init__.py is packaged, and nothing else is."""
    folders = {"voxfleet"}
    for room in ROOMS:
        for init in (ROOT / room).rglob("__init__.py"):
            folders.add(".".join(["voxfleet", *init.parent.relative_to(ROOT).parts]))
    assert set(_pyproject()["tool"]["setuptools"]["packages"]) == folders


def test_type_checkers_find_every_room():
    """The folder of links through which type checkers find voxfleet has all rooms, and they lead somewhere."""
    links = {link.name for link in (ROOT / ".typing" / "voxfleet").iterdir()}
    assert links == {*ROOMS, "__init__.py", "__main__.py", "py.typed"}
    assert all((ROOT / ".typing" / "voxfleet" / name).resolve() == ROOT / name for name in links)


def test_light_install_has_no_torch():
    """`pip install voxfleet` pulls neither torch, nor Ray, nor anything that needs a compiler."""
    names = {requirement.split(">")[0].split("=")[0] for requirement in _pyproject()["project"]["dependencies"]}
    assert not names & {"torch", "ray", "kubernetes", "nnunetv2", "totalsegmentator", "monai", "pyradiomics-bhklab"}


def test_the_lock_has_every_requirement():
    """constraints.txt, which CI and the image install by, pins each requirement to a version that is allowed."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = {canonicalize_name(name): pin for name, _, pin in (line.partition("==") for line in lines if "==" in line)}
    project = _pyproject()["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    wanted = [each for each in map(Requirement, chain.from_iterable(groups)) if each.name != "voxfleet"]
    assert [str(each) for each in wanted if pins.get(canonicalize_name(each.name), "") not in each.specifier] == []


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from what git tracks of the checkout.

    Not in the checkout itself: a build writes metadata there anew, which commands of other tests read meanwhile.
    """
    folder, source = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("source")
    for file in _tracked():
        if (ROOT / file).is_file():
            (source / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / file, source / file)
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", folder, source]
    subprocess.run(command, check=True, capture_output=True)
    (path,) = folder.glob("voxfleet-*.whl")
    return path


@pytest.mark.slow
def test_wheel_holds_code_and_data(wheel: Path):
    """The wheel has every module, card, template, price table and demo file that git tracks; no docs, no test."""
    inside = set(zipfile.ZipFile(wheel).namelist())
    tracked = _tracked(*ROOMS, "__init__.py", "py.typed")
    left_out = {f for f in tracked if f.startswith("benchmarks/results/") or f.endswith((".md", ".svg", ".png"))}
    assert {f"voxfleet/{file}" for file in tracked if file not in left_out} <= inside
    assert not [name for name in inside if "tests/" in name]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_installed_wheel_runs_in_a_clean_venv(wheel: Path, tmp_path: Path):
    """The light wheel, alone in a new venv, gives its version, its models, and a result, without torch."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", wheel], check=True
    )
    command = tmp_path / "venv" / "bin" / "voxfleet"
    shown = subprocess.run([command, "--version"], check=True, capture_output=True, text=True, cwd=tmp_path)
    assert voxfleet.__version__ in shown.stdout
    subprocess.run([command, "models", "--json"], check=True, capture_output=True, cwd=tmp_path)
    subprocess.run([command, "demo", "demo", "--series", "1"], check=True, capture_output=True, cwd=tmp_path)
    found = subprocess.run([python, "-c", "import torch"], check=False, capture_output=True)
    assert found.returncode != 0
