"""Plots of a benchmark as coordinates of inline SVG: boxes, scatter, Bland-Altman, Dice over cents."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from .axes import Axis, LogAxis, Tick
from .figures import Figures, VolumeAgreement
from .repeatability import BlandAltman

COLORS = ("#5b8def", "#e0913a", "#4caf7a", "#d96a8b", "#8b6fe8", "#2bb3c0", "#a58a3c", "#8a8f98")
WIDTH, LABELS, RIGHT = 1000.0, 280.0, 20.0
ROW, BOX = 26.0, 9.0
"""Height of a structure without models, and of each model's box, in the picture's coordinates."""
MOST_STRUCTURES = 120
MOST_PANELS = 6
SIDE, MARGIN = 300.0, 46.0
"""Of a square panel."""
WHISKER = 1.5
"""Whiskers reach the last value within so many interquartile ranges (Tukey)."""


@dataclass(frozen=True, slots=True)
class Box:
    """One model's values of one structure."""

    color: str
    y: float
    low: float
    q1: float
    median: float
    q3: float
    high: float
    outliers: tuple[float, ...]
    title: str


@dataclass(frozen=True, slots=True)
class BoxPlot:
    """A metric of all structures.

    Attributes
    ----------
    left_out : int
        Structures that there was no room for: the ones with the best medians.
    """

    title: str
    height: float
    rows: tuple[tuple[str, float], ...]
    boxes: tuple[Box, ...]
    ticks: tuple[Tick, ...]
    left_out: int


@dataclass(frozen=True, slots=True)
class Dot:
    """One value of a panel."""

    x: float
    y: float
    color: str
    title: str


@dataclass(frozen=True, slots=True)
class Line:
    """A level of a panel, with its dashes; or a line from corner to corner."""

    y1: float
    y2: float
    color: str
    dashed: bool
    title: str


@dataclass(frozen=True, slots=True)
class Curve:
    """A line through points, as SVG has them."""

    points: str
    color: str
    title: str


@dataclass(frozen=True, slots=True)
class Panel:
    """A square plot."""

    title: str
    x_title: str
    y_title: str
    dots: tuple[Dot, ...]
    lines: tuple[Line, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    curves: tuple[Curve, ...] = ()


def model_colors(figures: Figures) -> dict[str, str]:
    """A colour for each model, in the order of scores."""
    names = dict.fromkeys(score.case.model for score in figures.scores)
    return {name: COLORS[number % len(COLORS)] for number, name in enumerate(names)}


def box_plot(figures: Figures, metric: str, title: str) -> BoxPlot | None:
    """Boxes of each structure and model under the main reference; None without values."""
    colors = model_colors(figures)
    values: dict[str, dict[str, list[float]]] = {}
    for score in figures.scores:
        if score.metric == metric and score.case.reference == figures.reference and score.defined:
            values.setdefault(score.segment, {}).setdefault(score.case.model, []).append(score.value)
    if not values:
        return None
    order = sorted(values, key=lambda name: min(float(np.median(each)) for each in values[name].values()))
    shown = order[:MOST_STRUCTURES]
    highest = max(1.0, *(max(each) for name in shown for each in values[name].values()))
    x = Axis(0.0, highest, LABELS, WIDTH - RIGHT)
    rows: list[tuple[str, float]] = []
    boxes: list[Box] = []
    top = 6.0
    for name in shown:
        step = max(ROW, BOX * (len(values[name]) + 1))
        rows.append((name, round(top + step / 2 + 4, 1)))
        first = top + (step - BOX * len(values[name])) / 2
        boxes += [
            _box(each, x, round(first + BOX * n, 1), colors[model], f"{name}, {model}")
            for n, (model, each) in enumerate(values[name].items())
        ]
        top += step
    return BoxPlot(title, top + 24, tuple(rows), tuple(boxes), x.ticks(5), len(order) - len(shown))


def volume_panel(figures: Figures) -> Panel | None:
    """Volume by the model over volume by the expert, every structure and series, both axes logarithmic."""
    colors = model_colors(figures)
    points = [
        (each, expert, model) for each in figures.volumes for expert, model in each.pairs if expert > 0 and model > 0
    ]
    if not points:
        return None
    ends = [value for _, expert, model in points for value in (expert, model)]
    x = LogAxis(min(ends) / 1.3, max(ends) * 1.3, MARGIN, SIDE)
    y = LogAxis(min(ends) / 1.3, max(ends) * 1.3, SIDE - MARGIN, 8.0)
    dots = tuple(
        Dot(x(expert), y(model), colors[of.model], f"{of.segment}, {of.model}: {expert:.4g} and {model:.4g} mL")
        for of, expert, model in points
    )
    diagonal = Line(SIDE - MARGIN, 8.0, "currentColor", dashed=True, title="the same volume")
    return Panel("All structures", "expert, mL", "model, mL", dots, (diagonal,), x.ticks(), y.ticks())


def bland_altman_panels(figures: Figures) -> tuple[Panel, ...]:
    """Difference of volumes over their mean, a panel for each of the structures that most series have."""
    of_segment: dict[str, list[VolumeAgreement]] = {}
    for each in figures.volumes:
        if each.limits is not None and any(expert or model for expert, model in each.pairs):
            of_segment.setdefault(each.segment, []).append(each)
    order = sorted(of_segment, key=lambda name: max(_weight(each) for each in of_segment[name]), reverse=True)
    colors = model_colors(figures)
    return tuple(_bland_altman(name, of_segment[name], colors, "mL") for name in order[:MOST_PANELS])


def retest_colors(figures: Figures) -> dict[str, str]:
    """A colour for each model and reader with test and retest; models keep theirs."""
    raters = [each.name for each in figures.retest]
    names = dict.fromkeys((*model_colors(figures), *raters))
    colors = {name: COLORS[number % len(COLORS)] for number, name in enumerate(names)}
    return {name: color for name, color in colors.items() if name in raters}


def retest_panels(figures: Figures) -> tuple[Panel, ...]:
    """Second less first scan over their mean, a panel for each of the structures that most patients have."""
    groups: dict[tuple[str, str], list[VolumeAgreement]] = {}
    for each in figures.retest:
        if any(first or second for first, second in each.pairs):
            agreement = VolumeAgreement(each.name, each.structure, each.pairs, each.limits)
            groups.setdefault((each.structure, each.unit), []).append(agreement)
    order = sorted(groups, key=lambda key: max(_weight(each) for each in groups[key]), reverse=True)
    colors = retest_colors(figures)
    return tuple(_bland_altman(key[0], groups[key], colors, key[1], "second less first") for key in order[:MOST_PANELS])


def cost_panel(figures: Figures) -> Panel | None:
    """Mean Dice over cents of a series, of the models that were run."""
    if not figures.priced:
        return None
    colors = model_colors(figures)
    cents = [each for model in figures.priced for each, _ in model.points]
    x, y = Axis(0.0, max(cents) * 1.1 or 1.0, MARGIN, SIDE), Axis(0.0, 1.0, SIDE - MARGIN, 8.0)
    dots = tuple(
        Dot(x(cost), y(dice), colors[model.model], f"{model.model}: {cost:.4g} cents, Dice {dice:.4f}")
        for model in figures.priced
        for cost, dice in model.points
    )
    return Panel("Every series", "cents a series", "mean Dice", dots, (), x.ticks(4), y.ticks(5))


def _box(values: Sequence[float], x: Callable[[float], float], y: float, color: str, name: str) -> Box:
    q1, median, q3 = (float(each) for each in np.quantile(values, (0.25, 0.5, 0.75)))
    reach = WHISKER * (q3 - q1)
    inside = [each for each in values if q1 - reach <= each <= q3 + reach]
    outliers = tuple(x(each) for each in values if not q1 - reach <= each <= q3 + reach)
    title = f"{name}: median {median:.4f}, quartiles {q1:.4f} and {q3:.4f}, {len(values)} series"
    return Box(color, y, x(min(inside)), x(q1), x(median), x(q3), x(max(inside)), outliers, title)


def _weight(each: VolumeAgreement) -> tuple[int, float]:
    """Series, then volume."""
    return len(each.pairs), sum(expert for expert, _ in each.pairs)


def _bland_altman(
    name: str,
    models: Iterable[VolumeAgreement],
    colors: dict[str, str],
    unit: str,
    difference: str = "model less expert",
) -> Panel:
    kept = tuple(models)
    means = [(a + b) / 2 for each in kept for a, b in each.pairs]
    differences = [b - a for each in kept for a, b in each.pairs]
    levels = [level for each in kept if each.limits for level in (each.limits.lower, each.limits.upper)]
    reach = 1.15 * max(abs(value) for value in (*differences, *levels, 1e-6))
    x, y = Axis(0.0, max(means) * 1.08, MARGIN, SIDE), Axis(-reach, reach, SIDE - MARGIN, 8.0)
    dots = tuple(
        Dot(x((a + b) / 2), y(b - a), colors[each.model], f"{each.model}: {a:.4g} and {b:.4g} {unit}")
        for each in kept
        for a, b in each.pairs
    )
    lines = tuple(
        line for each in kept if each.limits for line in _levels(each.limits, y, colors[each.model], each.model, unit)
    )
    return Panel(name, f"mean of both, {unit}", f"{difference}, {unit}", dots, lines, x.ticks(4), y.ticks(5))


def _levels(limits: BlandAltman, y: Callable[[float], float], color: str, model: str, unit: str) -> Iterable[Line]:
    for level, name in ((limits.lower, "lower limit"), (limits.bias, "bias"), (limits.upper, "upper limit")):
        yield Line(y(level), y(level), color, name != "bias", f"{model}, {name} {level:.4g} {unit}")
