"""Commands of the README are run, and do what it says."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import voxfleet
from voxfleet.cluster.demo import build_collection

ROOT = Path(voxfleet.__file__).parent
COMMAND = re.compile(r"^\$ voxfleet (.+)$", re.MULTILINE)
EXPECTED = {"run": 3, "enrich": 3}
"""The demo's collection has series that are refused."""


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_commands_of_the_readme(tmp_path):
    """Each `$ voxfleet ...` line ends with the exit code that the README's table gives."""
    build_collection(tmp_path / "demo" / "archive", phantoms=1)
    commands = COMMAND.findall((ROOT / "README.md").read_text())
    assert len(commands) > 5
    for words in map(shlex.split, commands):
        done = subprocess.run(
            [sys.executable, "-m", "voxfleet", *words], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == EXPECTED.get(words[0], 0), (words, done.stderr)
    assert list((tmp_path / "out").glob("*/covid-opacity-hu.seg.dcm"))


def test_the_floors_of_the_readme_are_the_folders():
    """The table of folders quotes the docstring of each."""
    text = (ROOT / "README.md").read_text()
    for room in ("models", "enrich", "runners", "cluster", "benchmarks"):
        sentence = (ROOT / room / "__init__.py").read_text().split('"""')[1]
        assert f"| `{room}/` | {sentence} |" in text
