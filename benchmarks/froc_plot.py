"""The FROC plot of a benchmark."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .axes import Axis, LogAxis, Tick
from .figures import Figures
from .frocs import ModelFroc
from .metrics.froc import RATES
from .plots import COLORS, MARGIN, SIDE, Curve, Dot, Panel
from .readings import ONE_READER


def froc_colors(figures: Figures) -> dict[str, str]:
    """A colour for each detector and reader."""
    names = [_of_froc(each) for each in figures.frocs]
    return {name: COLORS[number % len(COLORS)] for number, name in enumerate(names)}


def froc_panel(figures: Figures) -> Panel | None:
    """Sensitivity over false positives a scan, a staircase, with the values at LUNA16's rates."""
    if not figures.frocs:
        return None
    colors = froc_colors(figures)
    x, y = LogAxis(RATES[0] / 1.15, RATES[-1] * 1.15, MARGIN, SIDE), Axis(0.0, 1.0, SIDE - MARGIN, 8.0)
    dots = tuple(
        Dot(x(rate), y(found), colors[_of_froc(each)], f"{_of_froc(each)}: {found:.4f} at {rate:g} a scan")
        for each in figures.frocs
        for rate, found, _ in each.at
    )
    curves = tuple(Curve(_staircase(each, x, y), colors[_of_froc(each)], _of_froc(each)) for each in figures.frocs)
    ticks = tuple(Tick(x(rate), f"{rate:g}" if rate >= 1 else f"1/{1 / rate:g}") for rate in RATES)
    return Panel("FROC", "false positives a scan", "sensitivity", dots, (), ticks, y.ticks(5), curves)


def _of_froc(each: ModelFroc) -> str:
    return each.model if each.reference == ONE_READER else f"{each.model}, {each.reference}"


def _staircase(each: ModelFroc, x: Callable[[float], float], y: Callable[[float], float]) -> str:
    """Corners of a curve between the least and the greatest rate."""
    inner = [float(rate) for rate in np.unique(each.curve.false_positives) if RATES[0] < rate < RATES[-1]]
    level = y(each.curve.sensitivity_at(RATES[0]))
    corners = [(x(RATES[0]), level)]
    for rate in (*inner, RATES[-1]):
        corners.append((x(rate), level))
        level = y(each.curve.sensitivity_at(rate))
        corners.append((x(rate), level))
    return " ".join(f"{across},{down}" for across, down in corners)
