"""The table of faults in ``cluster/FAULTS.md``: what it names is there, its figures are those of the last run."""

from __future__ import annotations

import ast
import json
from pathlib import Path

from voxfleet.benchmarks.performance.fault_table import FaultFigures, faults_of, with_figures

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "cluster" / "FAULTS.md").read_text()
RESULTS = json.loads((ROOT / "benchmarks" / "results" / "faults.json").read_text())


def _tests_of(path: Path) -> set[str]:
    """Names of a module's tests, with their class where they have one."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        inside = node.body if isinstance(node, ast.ClassDef) else [node]
        prefix = f"{node.name}::" if isinstance(node, ast.ClassDef) else ""
        names |= {f"{prefix}{each.name}" for each in inside if isinstance(each, ast.FunctionDef)}
    return names


def test_every_fault_has_a_test_that_is_there() -> None:
    """Each row names tests that exist; every test of stub drivers stands in it."""
    named = set()
    for fault, tests in faults_of(PAGE).items():
        assert tests, fault
        for test in tests:
            path, _, name = test.partition("::")
            assert name in _tests_of(ROOT / path), test
            named.add((path, name))
    stub = "tests/faults/test_stub_fleet.py"
    assert {name for path, name in named if path == stub} == {
        name for name in _tests_of(ROOT / stub) if name.startswith("test_")
    }


def test_figures_of_the_page_are_those_of_the_last_run() -> None:
    """Page and file of results agree; in that run every test passed and nothing was doubled."""
    assert with_figures(PAGE, RESULTS) == PAGE
    figures = [FaultFigures(**row) for row in RESULTS["faults"]]
    assert [each.fault for each in figures if each.passed < each.cases or each.doubled] == []
