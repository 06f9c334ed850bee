"""Model cards and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from voxfleet.models import card_file
from voxfleet.models.card_file import InvalidCard, read_card

GOOD = Path(card_file.__file__).parent / "cards" / "ct-threshold.yaml"


def card_with(tmp_path: Path, change) -> Path:
    """Path of a good card after a change."""
    content = yaml.safe_load(GOOD.read_text())
    change(content)
    path = tmp_path / "changed.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda card: card.pop("citations"), "changed.yaml: citations: missing key"),
        (lambda card: card.update(licence="MIT"), "changed.yaml: licence: unknown key"),
        (lambda card: card.update(version=1.0), "changed.yaml: version: str is needed, not float"),
        (lambda card: card.update(gpu_bytes=True), "changed.yaml: gpu_bytes: int is needed, not bool"),
        (lambda card: card["parameters"].update(lung_hu=-500), "parameters.lung_hu: -500 is not text"),
        (lambda card: card["segments"][1].pop("type"), r"segments\[1\].type: missing key"),
        (lambda card: card["segments"][1].update(colour=[1, 2, 3]), r"segments\[1\].colour: unknown key"),
        (lambda card: card["segments"][1].update(color=[1, 2, 300]), r"segments\[1\].color: .* not three numbers"),
        (lambda card: card["segments"][1].update(number=7), r"segments\[1\].number: 7, where 2 comes next"),
        (lambda card: card["segments"][0].update(contains=[1]), r"segments\[0\]: .*contains itself"),
        (lambda card: card["segments"][0].update(type=["1", "SCT"]), r"segments\[0\].type: a code is written"),
        (lambda card: card.update(weights=[{"url": "https://x"}]), r"weights\[0\].sha256: missing key"),
        (lambda card: card.update(modality=[1]), "modality: 1 is not text"),
        (lambda card: card["measured"].update(machine=2), "measured.machine: str is needed, not int"),
        (lambda card: card["measured"].pop("date"), "measured.date: missing key"),
        (lambda card: card["measured"]["series"].append([40, 2.0]), r"measured.series\[7\]: a series is written"),
        (lambda card: card["measured"]["series"].append([0, 2.0, 0, 1, 1]), r"measured.series\[7\]: a series is"),
    ],
)
def test_bad_card_names_file_and_key(tmp_path, change, message):
    """Each key that is missing, unknown or of the wrong kind is named, with the file."""
    with pytest.raises(InvalidCard, match=message):
        read_card(card_with(tmp_path, change))


@pytest.mark.parametrize("text", ["- a list", "{", "\x00"])
def test_what_is_no_card_is_named(tmp_path, text):
    """A file that is no YAML, or no mapping, is an error that names it."""
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(InvalidCard, match=r"broken\.yaml"):
        read_card(path)


@pytest.mark.parametrize(
    ("licence", "commercial_use", "forbidden"),
    [
        ("MIT", None, False),
        ("CC-BY-NC-4.0", None, True),
        ("CC-BY-NC-SA-4.0", True, True),
        ("CC BY-NC 4.0", None, True),
        ("PolyForm-Noncommercial-1.0.0", None, True),
        ("Academic, non-commercial use only", None, True),
        ("LicenseRef-Academic", False, True),
        ("NCSA", None, False),
    ],
)
def test_licence_against_commercial_use(tmp_path, licence, commercial_use, forbidden):
    """It is forbidden by NC or Noncommercial in a name, as SPDX or people write it, or where the card says so."""
    said = {} if commercial_use is None else {"commercial_use": commercial_use}
    card = read_card(card_with(tmp_path, lambda content: content.update(weights_licence=licence, **said)))
    assert card.forbids_commercial_use is forbidden


def test_commercial_use_is_true_or_false(tmp_path):
    """A number in place of true or false is refused."""
    with pytest.raises(InvalidCard, match="commercial_use: bool is needed, not int"):
        read_card(card_with(tmp_path, lambda content: content.update(commercial_use=0)))


def test_missing_file_is_named(tmp_path):
    """A card that is not there is an error that names it."""
    with pytest.raises(InvalidCard, match=r"none\.yaml: cannot be read"):
        read_card(tmp_path / "none.yaml")


def test_measured_series_are_read():
    """What the card tells of series comes back with units: slices, seconds, bytes."""
    measured = read_card(GOOD).measured
    assert measured is not None
    assert measured.date.year >= 2026
    first = measured.series[0]
    assert (first.slices, first.gpu_s) == (40, 0)
    assert first.seconds > 0
    assert first.bytes_in == pytest.approx(40 * 512 * 512 * 2, rel=0.01)
