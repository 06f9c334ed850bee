"""A third party's model: a package of its own, installed, found by its entry point and run like ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pydicom
import pytest
from voxfleet.enrich.phantom import CtIdentity, chest_phantom, write_ct_series

PYPROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "bright-voxels"
version = "1.0"
dependencies = ["voxfleet"]

[project.entry-points."voxfleet.models"]
bright-voxels = "bright_voxels"

[tool.setuptools]
packages = ["bright_voxels"]
package-data = { bright_voxels = ["card.yaml"] }
"""

MODULE = '''
"""A model by a third party: voxels above a threshold."""

from importlib.resources import files

from voxfleet.models.card_file import read_card
from voxfleet.models.parameters import numbers
from voxfleet.models.segmentation import Segmentation


def card():
    return read_card(files(__package__) / "card.yaml")


def load(card, device):
    return BrightVoxels(card)


class BrightVoxels:
    def __init__(self, card):
        self.card = card

    def segment(self, volume, parameters):
        threshold = numbers(self.card, parameters)["above_hu"]
        return Segmentation(volume.with_array((volume.array > threshold).astype("uint8")), self.card.segments)
'''

CARD = """
name: bright-voxels
version: "2.1"
description: Voxels above a threshold.
intended_use: Tests.
modality: [CT]
body_part: CHEST
algorithm_family: RULES
memory_bytes: 100000000
gpu_bytes: 0
code_licence: MIT
weights_licence: {licence}
weights: []
parameters: {{above_hu: "150"}}
citations: []
segments:
  - number: 1
    label: Bone
    name: bone
    category: [123037004, SCT, Anatomical Structure]
    type: [272673000, SCT, Bone]
    color: [241, 214, 145]
"""


@pytest.fixture(scope="module")
def install(tmp_path_factory: pytest.TempPathFactory):
    """Build the package under a licence, install it into a folder, and give the environment to run it in."""

    def make(licence: str) -> dict[str, str]:
        folder = tmp_path_factory.mktemp("plugin")
        package = folder / "source" / "bright_voxels"
        package.mkdir(parents=True)
        (folder / "source" / "pyproject.toml").write_text(PYPROJECT)
        (package / "__init__.py").write_text(MODULE)
        (package / "card.yaml").write_text(CARD.format(licence=licence))
        subprocess.run(
            [
                *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"),
                *("--disable-pip-version-check", "--target", folder / "site", folder / "source"),
            ],
            check=True,
            capture_output=True,
        )
        return {**os.environ, "PYTHONPATH": str(folder / "site")}

    return make


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One phantom CT series."""
    folder = tmp_path_factory.mktemp("series")
    phantom = chest_phantom(shape=(16, 48, 48), spacing_mm=(15.0, 8.0, 8.0), seed=4)
    write_ct_series(phantom.volume, folder, identity=CtIdentity.named("plugin"))
    return folder


def voxfleet(environment: dict[str, str], *words: object) -> subprocess.CompletedProcess[str]:
    """The console script, with the plug-in on the path."""
    command = [sys.executable, "-m", "voxfleet", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=280, env=environment)


@pytest.mark.slow
def test_plugin_is_listed_and_run(install, series, tmp_path):
    """The model of an installed package is listed, shown and checked, and its SEG names it and its version."""
    environment = install("none")
    assert "bright-voxels" in voxfleet(environment, "models").stdout
    assert json.loads(voxfleet(environment, "models", "show", "bright-voxels", "--json").stdout)["version"] == "2.1"
    assert voxfleet(environment, "models", "check", "bright-voxels").returncode == 0
    done = voxfleet(environment, "run", "bright-voxels", series, "-o", tmp_path / "out", "--param", "above_hu=300")
    assert done.returncode == 0, done.stderr
    (seg,) = (tmp_path / "out").rglob("bright-voxels.seg.dcm")
    segment = pydicom.dcmread(seg).SegmentSequence[0]
    assert segment.SegmentLabel == "Bone"
    identification = segment.SegmentationAlgorithmIdentificationSequence[0]
    assert (identification.AlgorithmName, identification.AlgorithmVersion) == ("bright-voxels", "2.1")
    assert "above_hu=300" in str(identification.AlgorithmParameters)


@pytest.mark.slow
def test_noncommercial_weights_must_be_accepted(install, series, tmp_path):
    """Weights under a licence against commercial use run only where that was accepted; the licence is in provenance."""
    environment = install("CC-BY-NC-4.0")
    for command in (
        ("run", "bright-voxels", series, "-o", tmp_path / "out"),
        ("enrich", series, "-m", "bright-voxels", "--to", f"dir:{tmp_path}/to", "--run", tmp_path / "run"),
    ):
        refused = voxfleet(environment, *command)
        assert refused.returncode == 1
        assert "LICENCE_NOT_ACCEPTED" in refused.stderr
        assert "CC-BY-NC-4.0, which forbids commercial use; run with --accept-licence" in refused.stderr
        done = voxfleet(environment, *command, "--accept-licence")
        assert done.returncode == 0, done.stderr
    documents = [path.read_text() for path in tmp_path.rglob("*prov*.json")]
    assert sum('"vf:weights_licence": "CC-BY-NC-4.0"' in text for text in documents) >= 2
