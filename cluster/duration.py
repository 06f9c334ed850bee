"""Durations as people write them for a command."""

from __future__ import annotations

import re

import typer

_HOURS = {"s": 1 / 3600, "m": 1 / 60, "h": 1.0, "d": 24.0}


def hours_of(text: str) -> float:
    """Hours of a duration such as ``8h``, ``90m``, ``2d``.

    Raises
    ------
    typer.BadParameter
        If the text is none.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd])", text.strip())
    if match is None or float(match[1]) == 0:
        raise typer.BadParameter(f"{text!r} is no duration such as 8h, 90m or 2d")
    return float(match[1]) * _HOURS[match[2]]
