"""Name -> model, lazily: nothing heavy is imported until a model is loaded."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol, cast

from .. import Error
from .card_file import read_card
from .model import Model, ModelCard

ENTRY_POINTS = "voxfleet.models"
"""Group by which other packages add models; each entry point gives a `ModelSource`."""

_ADAPTERS = {
    "covid-opacity-hu": "covid_opacity_hu:load",
    "ct-threshold": "ct_threshold:load",
    "meshnet-gwm": "meshnet:load",
}
"""Our own models: name -> file in models/adapters and the function that loads it."""

_FAMILIES = {
    "container": ("container.card:card", "container:load"),
    "covid-opacity": ("covid_opacity.card:card", "covid_opacity:load"),
    "monai": ("monai_card:card", "monai_bundle:load"),
    "nnunet": ("nnunet.card:card", "nnunet:load"),
}
"""Models that lie in a folder, named ``family:folder``: what reads their card (in models/), what loads them."""

_COLLECTIONS = {"totalsegmentator": "totalsegmentator"}
"""Models named PACKAGE:TASK, where the package is installed: file in models/adapters with what `_Collection` has."""

SUGGESTIONS = 3
"""Names that the error about an unknown model offers."""


class UnknownModel(Error):
    """No model of this name; says which there are."""

    code = "UNKNOWN_MODEL"

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        super().__init__(name, known)

    def __str__(self) -> str:
        name, known = self.args
        near = [each for each in known if get_close_matches(name, (each, each.rpartition(":")[2]), 1)][:SUGGESTIONS]
        hint = f", perhaps {' or '.join(near)}" if near else ""
        alone = [each for each in known if ":" not in each]
        more = f" and {len(known) - len(alone)} more, see `voxfleet models`" if len(alone) < len(known) else ""
        return f"no model {name!r}{hint}; known are {', '.join(alone)}{more}"


class ModelNeedsPackage(Error):
    """A model whose library is not installed; says which extra brings it."""

    code = "MISSING_PACKAGE"

    def __init__(self, adapter: str, package: str) -> None:
        super().__init__(adapter, package)

    def __str__(self) -> str:
        adapter, package = self.args
        return f"{adapter} needs {package}, which is not installed: pip install 'voxfleet[all]'"


class _Collection(Protocol):
    """A file of models/adapters that gives several models."""

    def names(self) -> tuple[str, ...]: ...

    def card(self, name: str) -> ModelCard: ...

    def load(self, card: ModelCard, device: str) -> Model: ...

    def archives_folder(self) -> Path: ...


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
    collected = {name for package in _COLLECTIONS for name in _names_of(package)}
    return tuple(sorted({*_ADAPTERS, *_plugged_in(), *collected}))


def card(name: str) -> ModelCard:
    """What a model declares about itself, without loading it.

    Raises
    ------
    UnknownModel
        If there is no model of this name.
    """
    if name in _ADAPTERS:
        return read_card(files(__package__) / "cards" / f"{name}.yaml")
    family, _, folder = name.partition(":")
    if family in _FAMILIES and folder:
        return cast(Callable[[Path], ModelCard], _function(f".{_FAMILIES[family][0]}"))(Path(folder))
    if (collection := _collection_of(name)) is not None:
        return collection.card(name)
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
    adapter = _ADAPTERS.get(name) or _FAMILIES.get(name.partition(":")[0], ("", ""))[1]
    if adapter:
        return cast(Callable[[ModelCard, str], Model], _function(f".adapters.{adapter}"))(card(name), device)
    if (collection := _collection_of(name)) is not None:
        return collection.load(collection.card(name), device)
    source = _source(name)
    return source.load(source.card(), device)


def archives_folder(name: str) -> Path | None:
    """Where archives of a model's weights are unpacked; None for a model that has none."""
    collection = _collection_of(name)
    return None if collection is None else collection.archives_folder()


def _function(place: str) -> object:
    """What stands behind ``module:function``, the module below this package; a library that is absent is named.

    Raises
    ------
    ModelNeedsPackage
        If the module needs a package that is not installed.
    """
    module, function = place.split(":")
    try:
        return getattr(import_module(module, __package__), function)
    except ModuleNotFoundError as exc:
        raise ModelNeedsPackage(place.rpartition(".")[2].partition(":")[0], str(exc.name)) from exc


def _names_of(package: str) -> tuple[str, ...]:
    return () if find_spec(package) is None else _collection(package).names()


def _collection(package: str) -> _Collection:
    return cast(_Collection, import_module(f".adapters.{_COLLECTIONS[package]}", __package__))


def _collection_of(name: str) -> _Collection | None:
    """The collection that has a model of this name."""
    package = name.partition(":")[0]
    return _collection(package) if package in _COLLECTIONS and name in _names_of(package) else None


def _plugged_in() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}


def _source(name: str) -> ModelSource:
    point = _plugged_in().get(name)
    if point is None:
        raise UnknownModel(name, names())
    return cast(ModelSource, point.load())
