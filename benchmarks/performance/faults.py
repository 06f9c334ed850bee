"""What faults cost a fleet: ``python -m voxfleet.benchmarks.performance.faults ROUNDS``, in a checkout.

Runs the tests that ``cluster/FAULTS.md`` names so many times, those of the better part of an hour once, and writes
what they told into ``benchmarks/results/faults.json`` and into the page's tables.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from xml.etree import ElementTree as ET

from rich.console import Console
from rich.table import Table

from .fault_table import HEADINGS, Case, FaultFigures, faults_of, figures_of, soak_of, with_figures
from .harness import write_results

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "cluster" / "FAULTS.md"
_MAPPED = () if os.geteuid() == 0 else ("--map-root-user",)  # root's tests of PostgreSQL become its user
ALONE = ("unshare", *_MAPPED, "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")
"""Put before a command: it runs in a network of its own, as Orthanc cannot be told to listen on loopback only."""

NOTHING_CHOSEN = 5
"""Exit code of pytest where no test has the marks."""


def run_tests(tests: Sequence[str], marks: str, before: Sequence[str] = ()) -> list[Case]:
    """Run those tests that have the marks, and give what they told; what was skipped is left out.

    Raises
    ------
    subprocess.CalledProcessError
        If pytest broke off.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        told = (f"--junitxml={report}", "-o", "junit_family=xunit1")  # xunit2 has no properties of a test
        command = [*before, sys.executable, "-m", "pytest", "-q", "--tb=native", *tests, "-m", marks, *told]
        done = subprocess.run(command, cwd=ROOT, check=False)
        if done.returncode not in (0, 1, NOTHING_CHOSEN):
            raise subprocess.CalledProcessError(done.returncode, command)
        return cases_of(report.read_text(), tests)


def cases_of(report: str, tests: Sequence[str]) -> list[Case]:
    """Cases of pytest's report (JUnit's XML) that were not skipped."""
    names = {_name_in_report(test): test for test in tests}
    cases = []
    for each in ET.fromstring(report).iter("testcase"):  # noqa: S314 - pytest wrote it
        name = (each.get("classname", ""), each.get("name", "").partition("[")[0])
        if each.find("skipped") is None and name in names:
            passed = each.find("failure") is None and each.find("error") is None
            told = {one.get("name", ""): one.get("value", "") for one in each.iter("property")}
            cases.append(Case(names[name], passed, told))
    return cases


def _name_in_report(test: str) -> tuple[str, str]:
    """``classname`` and ``name`` of a test without parameters."""
    path, *classes, name = test.split("::")
    return ".".join([path.removesuffix(".py").replace("/", "."), *classes]), name


def show(figures: Sequence[FaultFigures]) -> None:
    """Print the figures as a table."""
    table = Table(title="What faults cost a fleet")
    for heading in (HEADINGS[0], *HEADINGS[2:-1]):
        table.add_column(heading, justify="left" if heading == HEADINGS[0] else "right")
    for each in figures:
        table.add_row(each.fault, *each.cells)
    Console().print(table)


def main() -> None:
    """Run, write and print; fails if a test did."""
    rounds, page = int(sys.argv[1]), PAGE.read_text()
    faults = faults_of(page)
    tests, cases = sorted({test for each in faults.values() for test in each}), list[Case]()
    for _ in range(rounds):
        cases += run_tests(tests, "not orthanc and not long")
        cases += run_tests(tests, "orthanc and not long", ALONE)
    cases += run_tests(tests, "long")
    # Where nothing of a fault's can be run (no Orthanc, no PostgreSQL) it has no figures.
    figures = [each for fault, own in faults.items() if (each := figures_of(fault, own, cases)).cases]
    results = {"rounds": rounds, "faults": [asdict(each) for each in figures], "soak": soak_of(cases)}
    write_results("faults", results)
    # Rows that were added meanwhile stay, without figures.
    PAGE.write_text(with_figures(PAGE.read_text(), results))
    show(figures)
    sys.exit(not all(case.passed for case in cases))


if __name__ == "__main__" and sys.argv[1:]:  # without a number it is not asked for: `make bench` runs every file
    main()
