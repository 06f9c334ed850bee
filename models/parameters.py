"""Parameters of a run: those of the card, with the caller's changes, as numbers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from math import isfinite

from .model import ModelCard, ModelError


class InvalidParameter(ModelError):
    """A parameter that the model does not know, or a value that is no number."""

    code = "INVALID_PARAMETER"


def numbers(card: ModelCard, parameters: Mapping[str, str], besides: Collection[str] = ()) -> dict[str, float]:
    """Every parameter of the card as a number, but for those named in `besides`, which are none.

    Raises
    ------
    InvalidParameter
        If a name is not the card's or a value is no finite number.
    """
    for name in parameters:
        if name not in card.parameters:
            known = ", ".join(card.parameters)
            raise InvalidParameter(card.name, f"no parameter {name!r}; known are {known}")
    return {
        name: _number(card.name, name, parameters.get(name, text))
        for name, text in card.parameters.items()
        if name not in besides
    }


def check_numbers(card: ModelCard, changes: Mapping[str, str]) -> None:
    """Refuse a change that is no number where the card's own value is one; raises InvalidParameter."""
    for name, text in changes.items():
        try:
            float(card.parameters[name])
        except ValueError:
            continue
        _number(card.name, name, text)


def _number(model: str, name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError as exc:
        raise InvalidParameter(model, f"parameter {name}: {text!r} is no number") from exc
    if not isfinite(value):
        raise InvalidParameter(model, f"parameter {name}: {text!r} is not finite")
    return value
