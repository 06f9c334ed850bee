"""Name -> model, lazily: nothing heavy is imported until a model is loaded."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.resources import files
from typing import Protocol, cast

from .. import Error
from .card_file import read_card
from .model import Model, ModelCard

ENTRY_POINTS = "voxfleet.models"
"""Group by which other packages add models; each entry point gives a `ModelSource`."""

_ADAPTERS = {
    "covid-opacity-hu": "covid_opacity_hu:load",
    "ct-threshold": "ct_threshold:load",
}
"""Our own models: name -> file in models/adapters and the function that loads it."""


class UnknownModel(Error):
    """No model of this name; says which there are."""

    code = "UNKNOWN_MODEL"

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        super().__init__(name, known)

    def __str__(self) -> str:
        return f"no model {self.args[0]!r}; known are {', '.join(self.args[1])}"


class ModelSource(Protocol):
    """What an entry point of the group `voxfleet.models` gives: a module or object with these two."""

    def card(self) -> ModelCard:
        """What the model declares, without loading it."""
        ...

    def load(self, card: ModelCard, device: str) -> Model:
        """The model on a device: ``cpu``, ``cuda``, ``cuda:1``, ..."""
        ...


def names() -> tuple[str, ...]:
    """Every model that can be loaded by name, sorted; ours win over entry points of the same name."""
    return tuple(sorted({*_ADAPTERS, *_plugged_in()}))


def card(name: str) -> ModelCard:
    """What a model declares about itself, without loading it.

    Raises
    ------
    UnknownModel
        If there is no model of this name.
    """
    if name in _ADAPTERS:
        return read_card(files(__package__) / "cards" / f"{name}.yaml")
    return _source(name).card()


def load(name: str, device: str = "cpu") -> Model:
    """A model ready to segment.

    Parameters
    ----------
    name : str
        One of `names()`.
    device : str
        ``cpu``, ``cuda``, ``cuda:1``, ...; models without weights run on the CPU whatever it says.

    Raises
    ------
    UnknownModel
        If there is no model of this name.
    """
    if name in _ADAPTERS:
        module, function = _ADAPTERS[name].split(":")
        factory = getattr(import_module(f".adapters.{module}", __package__), function)
        return cast(Callable[[ModelCard, str], Model], factory)(card(name), device)
    source = _source(name)
    return source.load(source.card(), device)


def _plugged_in() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}


def _source(name: str) -> ModelSource:
    point = _plugged_in().get(name)
    if point is None:
        raise UnknownModel(name, names())
    return cast(ModelSource, point.load())
