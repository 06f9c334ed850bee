"""Which class builds a trained network, found without importing every trainer.

nnU-Net imports all of its trainers, and whatever they import (torchvision, timm), to find one by
its name; one broken installation among them and no model loads. Here their sources are read.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from pydoc import locate
from typing import Any

import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from ..weights import InvalidWeights

BASE_TRAINER = "nnUNetTrainer"
_BUILD = "build_network_architecture"
_NETWORK_PACKAGES = ("dynamic_network_architectures.", "torch.nn.", "nnunetv2.")
"""Where the classes that plans name may come from: naming a class imports its module, and plans come from others."""


@dataclass(frozen=True, slots=True)
class _Trainer:
    module: str
    bases: tuple[str, ...]
    builds: bool


def build_network(
    trainer: str,
    plans: PlansManager,
    configuration: ConfigurationManager,
    channels: tuple[int, int],
    own_trainers: Collection[str] = (),
) -> torch.nn.Module:
    """The network that a trainer trained, without its weights.

    Parameters
    ----------
    trainer : str
        Class name, from the checkpoint.
    plans, configuration
        Of the trained folder.
    channels : tuple of int
        Inputs and outputs.
    own_trainers : collection of str
        Trainers that nnU-Net does not ship and that are known to take the network of the plans.

    Raises
    ------
    InvalidWeights
        If the trainer is not known, or the plans name something that is no part of a network.
    """
    _check_architecture(plans.dataset_name, configuration)
    builder = None if trainer in own_trainers else _builder(trainer)
    if builder is not None:
        network: torch.nn.Module = builder(plans, configuration, *channels, enable_deep_supervision=False)
        return network
    built: torch.nn.Module = get_network_from_plans(
        configuration.network_arch_class_name,
        configuration.network_arch_init_kwargs,
        configuration.network_arch_init_kwargs_req_import,
        *channels,
        allow_init=False,
        deep_supervision=False,
    )
    return built


def _builder(trainer: str) -> Callable[..., torch.nn.Module] | None:
    """The function of the nearest class that builds a network; None where that is nnU-Net's first trainer."""
    known, name = _trainers(), trainer
    while name != BASE_TRAINER:
        if name not in known:
            raise InvalidWeights(trainer, "this trainer is not in nnunetv2, so that its network is not known")
        if known[name].builds:
            return getattr(getattr(import_module(known[name].module), name), _BUILD)  # type: ignore[no-any-return]
        # Python looks through the bases from left to right, and so do we: mixins of nnU-Net build nothing.
        name = next((base for base in known[name].bases if base in known), BASE_TRAINER)
    return None


@lru_cache(maxsize=1)
def _trainers() -> dict[str, _Trainer]:
    """Every trainer class that nnU-Net ships, by name."""
    spec = find_spec("nnunetv2")
    root = Path(next(iter(spec.submodule_search_locations or [""]))) if spec else Path()
    found = {}
    for path in sorted((root / "training" / "nnUNetTrainer").rglob("*.py")):
        module = ".".join(("nnunetv2", *path.relative_to(root).with_suffix("").parts))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                bases = tuple(base.id for base in node.bases if isinstance(base, ast.Name))
                builds = any(isinstance(each, ast.FunctionDef) and each.name == _BUILD for each in node.body)
                found[node.name] = _Trainer(module, bases, builds)
    return found


def _check_architecture(place: str, configuration: ConfigurationManager) -> None:
    """Refuse plans that name anything else than parts of a network."""
    kwargs: dict[str, Any] = configuration.network_arch_init_kwargs
    names = [configuration.network_arch_class_name]
    names += [kwargs[key] for key in configuration.network_arch_init_kwargs_req_import if kwargs.get(key) is not None]
    for name in names:
        if not isinstance(name, str) or not name.startswith(_NETWORK_PACKAGES):
            raise InvalidWeights(place, f"plans.json names {name!r}, which is no part of a network")
        part = locate(name)
        if part is not None and not (isinstance(part, type) and issubclass(part, torch.nn.Module)):
            raise InvalidWeights(place, f"plans.json names {name!r}, which is no torch.nn.Module")
