"""Crosswalk files."""

from __future__ import annotations

from pathlib import Path

import pytest
from voxfleet.benchmarks.crosswalk import InvalidCrosswalk, load_crosswalk, read_crosswalk

LUNG = '{type: ["39607008", SCT, Lung]}'
LOBE = '{type: ["45653009", SCT, Upper lobe], laterality: ["7771000", SCT, Left]}'


def written(folder: Path, text: str) -> Path:
    """Crosswalk file of a text."""
    path = folder / "mine.yaml"
    path.write_text(text)
    return path


def test_built_in_is_valid() -> None:
    """The built-in crosswalk keeps its own schema, and no entry is there twice."""
    entries = load_crosswalk().entries
    assert len({entry.name for entry in entries}) == len(entries) > 10


def test_users_entries_come_first(tmp_path: Path) -> None:
    """A user's file is read with exclusions and side, and goes before the built-in one."""
    text = (
        f"crosswalk: 1\nentries:\n  - {{name: mine, concept: {LUNG}, union: [{LUNG}], exclude: [{LOBE}], side: expert}}"
    )
    first = load_crosswalk(written(tmp_path, text)).entries[0]
    assert (first.name, first.side, len(first.exclude)) == ("mine", "expert", 1)
    assert first.exclude[0].name == "Left Upper lobe"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[", ""),
        ("- 1", ""),
        ("crosswalk: 2\nentries: []", "crosswalk"),
        ("crosswalk: 1", "entries"),
        ("crosswalk: 1\nentries: [{name: a, union: []}]", "entries[0].concept"),
        (f"crosswalk: 1\nentries: [{{name: a, concept: {LUNG}, union: []}}]", "entries[0].union"),
        (f"crosswalk: 1\nentries: [{{name: a, concept: {LUNG}, union: {LOBE}}}]", "entries[0].union"),
        (f"crosswalk: 1\nentries: [{{name: a, concept: {LUNG}, union: [{LUNG}]}}]", "entries[0].union"),
        (f"crosswalk: 1\nentries: [{{name: a, concept: {LUNG}, union: [{LOBE}], side: left}}]", "entries[0].side"),
        (f"crosswalk: 1\nentries: [{{name: a, concept: {{}}, union: [{LOBE}]}}]", "entries[0].concept.type"),
        ("crosswalk: 1\nentries: [{name: a, concept: {type: [1, SCT, x]}, union: []}]", "entries[0].union"),
        (f"crosswalk: 1\nentries: [{{name: a, concept: {{type: x}}, union: [{LOBE}]}}]", "entries[0].concept.type"),
        (f"crosswalk: 1\nentries: [{{nam: a, concept: {LUNG}, union: [{LOBE}]}}]", "entries[0].nam"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, key: str) -> None:
    """What breaks the schema is refused, with the file and the key."""
    with pytest.raises(InvalidCrosswalk) as caught:
        read_crosswalk(written(tmp_path, text))
    assert caught.value.args[:2] == ("mine.yaml", key)
    assert caught.value.code == "INVALID_CROSSWALK"


def test_absent_file(tmp_path: Path) -> None:
    """A file that is not there is told so."""
    with pytest.raises(InvalidCrosswalk, match="cannot be read"):
        load_crosswalk(tmp_path / "none.yaml")
