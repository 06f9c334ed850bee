"""Figures against targets that are numbers and not peers: a table, and a file of results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table

from .harness import Row, show_rows, write_results

WHOLE = 1000
"""Figures from this on are shown in whole numbers, others with three digits."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the results.

    Attributes
    ----------
    target : float or None
        What is aimed at.
    least : bool
        Whether the target is the least that will do, and not the most.
    note : str
        What was run, where the name does not say it.
    """

    name: str
    value: float
    unit: str
    target: float | None = None
    least: bool = False
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None without one."""
        if self.target is None:
            return None
        return self.value >= self.target if self.least else self.value <= self.target


def at_least(name: str, value: float, unit: str, target: float, note: str = "") -> Figure:
    """A figure that should be as large as its target."""
    return Figure(name, value, unit, target, least=True, note=note)


def publish_figures(name: str, title: str, figures: Sequence[Figure]) -> None:
    """Print the figures as a table and write them to ``benchmarks/results``."""
    show_figures(title, figures)
    write_results(name, {"figures": _plain(figures)})


def publish_both(
    name: str, title: str, rows: Sequence[Row], figures: Sequence[Figure], more: Mapping[str, object] | None = None
) -> None:
    """Print rows against peers and figures against limits, and write them to one file of ``benchmarks/results``."""
    show_rows(title, rows, more or {})
    show_figures("Against limits", figures)
    write_results(name, {"rows": [asdict(each) for each in rows], "figures": _plain(figures), **(more or {})})


def show_figures(title: str, figures: Sequence[Figure]) -> None:
    """Print the figures as a table."""
    table = Table(title=title)
    for heading in ("what", "figure", "unit", "target", "met", "note"):
        table.add_column(heading, justify="right" if heading in ("figure", "target", "met") else "left")
    for each in figures:
        target = "-" if each.target is None else f"{'>=' if each.least else '<='} {each.target:g}"
        met = {None: "-", True: "yes", False: "no"}[each.met]
        value = f"{each.value:,.0f}" if each.value >= WHOLE else f"{each.value:.3g}"
        table.add_row(each.name, value, each.unit, target, met, each.note)
    Console().print(table)


def _plain(figures: Sequence[Figure]) -> list[dict[str, object]]:
    return [{**asdict(each), "met": each.met} for each in figures]
