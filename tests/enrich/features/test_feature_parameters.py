"""Parameter files of pyradiomics: what is taken, what is refused, and what makes two of them the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from voxfleet.enrich.features import feature_parameters
from voxfleet.enrich.features.feature_parameters import (
    FeatureParameters,
    InvalidFeatureParameters,
    OtherPyradiomics,
    RadiomicsMissing,
    check_version,
    content_sha256,
    read_feature_parameters,
)

pytest.importorskip("radiomics")

GOOD = """
# Comments do not count.
setting: {binWidth: 25, geometryTolerance: 1e-3}
imageType:
  Original: {}
  LoG: {sigma: [2.0]}
featureClass: {glcm: [Contrast], firstorder: }
"""


def read(folder: Path, text: str, name: str = "features.yaml") -> FeatureParameters:
    """Parameters of a file with this text."""
    (folder / name).write_text(text)
    return read_feature_parameters(folder / name)


def test_content_counts_and_nothing_else(tmp_path: Path) -> None:
    """A file that was moved, commented and put in another order has the same digest; another value has another."""
    same = """
imageType: {LoG: {sigma: [2.0]}, Original: {}}
featureClass: {firstorder: , glcm: [Contrast]}
setting: {geometryTolerance: 0.001, binWidth: 25}
"""
    first, moved = read(tmp_path, GOOD), read(tmp_path, same, "moved.yml")
    assert content_sha256(first.content) == content_sha256(moved.content)
    assert first.mappings["setting"] == {"binWidth": 25, "geometryTolerance": 0.001}
    assert str(tmp_path) not in first.content
    other = read(tmp_path, GOOD.replace("25", "10"))
    assert content_sha256(other.content) != content_sha256(first.content)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("setting: {binWidth: -1}", "/setting/binWidth"),
        ("setting: {binwidth: 25}", "'binwidth' was not defined"),
        ("featureClass: {glmc: []}", "glmc is not recognized"),
        ("featureClass: {glcm: [Contrasts]}", "Contrasts"),
        ("imageType: {Log: {sigma: [1]}}", "Log is not recognized"),
        ("imageType: {LoG: {}}", "needs sigma"),
        ("imageType: {LBP3D: {}}", "SciPy"),
        ("featureClass: {shape2D: []}", "force2D"),
        ("setting: {label: 3}", "setting label chooses one segment"),
        ("featureClass: {glcm: [", "line 1, column"),
        ("- glcm", "no mapping"),
    ],
)
def test_bad_files_are_refused_with_file_and_rule(tmp_path: Path, text: str, rule: str) -> None:
    """The message is one line that names the file and what it breaks."""
    with pytest.raises(InvalidFeatureParameters) as refused:
        read(tmp_path, text)
    message = str(refused.value)
    assert message.startswith(str(tmp_path / "features.yaml"))
    assert rule in message
    assert "\n" not in message


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """It is told like any other."""
    with pytest.raises(InvalidFeatureParameters, match="No such file"):
        read_feature_parameters(tmp_path / "nowhere.yaml")


def test_without_the_extra_the_pip_command_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where pyradiomics is not installed, the error says how to install it."""
    monkeypatch.setattr(feature_parameters, "find_spec", lambda _: None)
    with pytest.raises(RadiomicsMissing, match=r"pip install 'voxfleet\[radiomics\]'"):
        read(tmp_path, GOOD)


def test_a_node_with_another_pyradiomics_is_refused() -> None:
    """The same workitem gives the same values everywhere, or none."""
    with pytest.raises(OtherPyradiomics, match=r"pyradiomics 2\.0"):
        check_version(FeatureParameters('{"pyradiomics": "2.0"}'))
