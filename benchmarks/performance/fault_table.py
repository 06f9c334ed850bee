"""The table of ``cluster/FAULTS.md``: its faults with their tests, and what many runs of these cost."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, Final

from .toll import Toll

HEADINGS: Final = (
    "fault",
    "what must happen",
    "times",
    "passed",
    "lost",
    "begun again",
    "doubled",
    "recovery s",
    "shown by",
)
"""Of the page's table; those between the second and the last are figures."""

SOAK: Final = (
    "items",
    "seconds",
    "child killed",
    "driver killed",
    "driver stopped past its lease",
    "done",
    "quarantined",
    "lost",
    "begun_again",
    "outputs",
    "found",
    "doubled",
    "left_open",
)
"""Figures of the longest soak, in the order of the page's other table."""

_NONE: Final = "-"
_TEST: Final = re.compile(r"`(tests/[\w/]+\.py::[\w:]+)`")


@dataclass(frozen=True, slots=True)
class Case:
    """One run of one test with one set of parameters.

    Attributes
    ----------
    test : str
        ``tests/FILE.py::NAME`` or ``tests/FILE.py::CLASS::NAME``.
    told : mapping
        Properties that the test recorded: ``toll``, ``times``, ``soak``.
    """

    test: str
    passed: bool
    told: Mapping[str, str] = field(default_factory=dict)

    @property
    def toll(self) -> Toll | None:
        """What the run under the test lost; None where there was no run."""
        return Toll(**json.loads(self.told["toll"])) if "toll" in self.told else None

    @property
    def times(self) -> int:
        """How often the fault was done: as the test says, or else once for each harm; once where there was none."""
        marked = self.toll.times if self.toll else 0
        return int(self.told.get("times", max(marked, 1)))


@dataclass(frozen=True, slots=True)
class FaultFigures:
    """What the tests of one fault gave.

    Attributes
    ----------
    times : int
        How often the fault was done.
    passed, cases : int
        Runs of tests.
    lost, begun_again : sequence of float
        Least, median and most of the runs; empty where nobody counted.
    doubled : int or None
        Of all runs.
    recovery_s : sequence of float
        Median and longest; empty where nothing was to recover.
    """

    fault: str
    times: int
    passed: int
    cases: int
    lost: Sequence[float] = ()
    begun_again: Sequence[float] = ()
    doubled: int | None = None
    recovery_s: Sequence[float] = ()

    @property
    def cells(self) -> tuple[str, ...]:
        """Figures as the table shows them."""
        return (
            f"{self.times:,}",
            f"{self.passed} of {self.cases}",
            _spread(self.lost),
            _spread(self.begun_again),
            _NONE if self.doubled is None else str(self.doubled),
            ", ".join(f"{each:.{1 if each >= 1 else 2}f}" for each in self.recovery_s) or _NONE,
        )


def faults_of(page: str) -> dict[str, tuple[str, ...]]:
    """Faults of the page, each with the tests that show it."""
    return {row[0]: tuple(_TEST.findall(row[-1])) for row in map(_split, _table(page)[2:])}


def figures_of(fault: str, tests: Sequence[str], cases: Iterable[Case]) -> FaultFigures:
    """What the runs of a fault's tests amount to."""
    own = [case for case in cases if case.test in tests]
    tolls = [toll for case in own if (toll := case.toll)]
    recovery_s = [seconds for toll in tolls for seconds in toll.recovery_s]
    return FaultFigures(
        fault,
        sum(case.times for case in own),
        sum(case.passed for case in own),
        len(own),
        _least_to_most([toll.lost for toll in tolls]),
        _least_to_most([toll.begun_again for toll in tolls if toll.begun_again is not None]),
        sum(toll.doubled for toll in tolls) if tolls else None,
        (median(recovery_s), max(recovery_s)) if recovery_s else (),
    )


def soak_of(cases: Iterable[Case]) -> dict[str, int]:
    """Figures of the longest soak; empty where none was run."""
    soaks = [
        {**asdict(case.toll), **json.loads(case.told["soak"])} for case in cases if case.toll and "soak" in case.told
    ]
    longest = max(soaks, key=lambda soak: int(soak["items"]), default={})
    return {name: int(longest.get(name, 0)) for name in SOAK} if longest else {}


def with_figures(page: str, results: Mapping[str, Any]) -> str:
    """The page with the figures of a file of results; a fault that is not in it has none."""
    figures = {row["fault"]: FaultFigures(**row) for row in results["faults"]}
    lines = {}
    for line in _table(page)[2:]:
        row = _split(line)
        cells = figures[row[0]].cells if row[0] in figures else (_NONE,) * (len(HEADINGS) - 3)
        lines[line] = _join((*row[:2], *cells, row[-1]))
    *_, soak = _table(page[page.index("\n## The soak") :])
    lines[soak] = _join([f"{results['soak'].get(name, 0):,}" for name in SOAK])
    return "\n".join(lines.get(line, line) for line in page.split("\n"))


def _table(page: str) -> list[str]:
    """Lines of the first table of a text."""
    return (re.search(r"(?:^\|.*\n)+", page, re.MULTILINE) or [""])[0].splitlines()


def _split(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def _join(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _least_to_most(values: Sequence[float]) -> tuple[float, ...]:
    return (min(values), median(values), max(values)) if values else ()


def _spread(values: Sequence[float]) -> str:
    """Least, median and most; one number where they are one."""
    different = values if len(set(values)) > 1 else values[:1]
    return "–".join(f"{each:g}" for each in different) or _NONE
