"""Durations as people write them for a command."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

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


def named_seconds(texts: Iterable[str], names: Collection[str]) -> tuple[tuple[str, float], ...]:
    """Seconds by name, from texts such as ``segment=45m``.

    Raises
    ------
    typer.BadParameter
        If a name is none of `names`, or what follows is no duration.
    """
    found = []
    for text in texts:
        name, _, duration = text.partition("=")
        if name not in names:
            raise typer.BadParameter(f"{text!r}: give NAME=DURATION; there are {', '.join(names)}")
        found.append((name, hours_of(duration) * 3600))
    return tuple(found)
