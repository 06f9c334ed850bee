"""The table of faults in ``cluster/FAULTS.md``: what it names is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "cluster" / "FAULTS.md").read_text()
ROWS = [line for line in PAGE.split("\n## ")[0].splitlines() if line.startswith("| ")][1:]


def _tests_of(path: Path) -> set[str]:
    """Names of a module's tests, with their class where they have one."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        inside = node.body if isinstance(node, ast.ClassDef) else [node]
        prefix = f"{node.name}::" if isinstance(node, ast.ClassDef) else ""
        names |= {f"{prefix}{each.name}" for each in inside if isinstance(each, ast.FunctionDef)}
    return names


def test_every_fault_has_a_test_that_is_there() -> None:
    """Each row says what must happen and names tests that exist; every test of stub drivers stands in it."""
    named = set()
    for row in ROWS:
        fault, must, shown = (cell.strip() for cell in row.strip("|").split("|"))
        tests = re.findall(r"`(tests/[\w/]+\.py)::([\w:]+)`", shown)
        assert fault
        assert must
        assert tests, fault
        for path, name in tests:
            assert name in _tests_of(ROOT / path), f"{path}::{name}"
            named.add((path, name))
    stub = "tests/faults/test_stub_fleet.py"
    assert {name for path, name in named if path == stub} == {
        name for name in _tests_of(ROOT / stub) if name.startswith("test_")
    }
