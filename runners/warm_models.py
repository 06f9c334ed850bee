"""The models that a process keeps loaded: as many as fit into the memory of its device."""

from __future__ import annotations

import gc
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TypeVar

from .. import Error
from ..models import catalogue
from ..models.memory import ran_out_of_memory
from ..models.model import Model, ModelCard
from .fidelity import Fidelity, check_fidelity, speed_changes

T = TypeVar("T")


class WarmModels:
    """Models on one device; where they do not fit together, those that were used longest ago are let go.

    What a model needs is what its card says, for its weights and for its work: two models fit where
    both could work at once, so that one can surely work beside the other's weights.

    Parameters
    ----------
    device : str
        ``cpu``, ``cuda``, ``cuda:1``, ...
    room : callable
        Gives the bytes of that device that models may take; asked once, before the first of them that needs any.
        One model is kept whatever it needs.
    """

    def __init__(self, device: str, room: Callable[[], int]) -> None:
        self._device, self._room = device, room
        self._kept: OrderedDict[str, Model] = OrderedDict()
        self._fidelity: dict[tuple[str, tuple[tuple[str, str], ...]], Fidelity] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Those that are loaded, the last one used at the end."""
        return tuple(self._kept)

    @cached_property
    def _room_bytes(self) -> int:
        return self._room()

    def use(self, name: str, parameters: Mapping[str, str], work: Callable[[Model], T]) -> T:
        """What the work makes with a model; where memory runs out, once more with the other models let go.

        Raises
        ------
        NotFaithful
            If the parameters make it faster, and it failed its check; see `fidelity`.
        """
        try:
            return work(self._checked(name, parameters))
        except (MemoryError, RuntimeError, Error) as exc:
            if not ran_out_of_memory(exc) or not self._kept.keys() - {name}:
                raise
        self._let_go(lambda: False, keep=name)
        return work(self._checked(name, parameters))

    def _checked(self, name: str, parameters: Mapping[str, str]) -> Model:
        """The model, once it was seen that a faster way of computing leaves its result as it is."""
        model = self._get(name)
        if speed_changes(model.card, parameters):
            asked = name, tuple(sorted(parameters.items()))
            if asked not in self._fidelity:
                self._fidelity[asked] = check_fidelity(model, parameters)
            self._fidelity[asked].judge(model.card.name)
        return model

    def _get(self, name: str) -> Model:
        """The model, loaded now unless it is."""
        if name not in self._kept:
            if needed := self._needs(catalogue.card(name)):
                self._let_go(lambda: self._fits(needed))
            self._kept[name] = catalogue.load(name, self._device)
        self._kept.move_to_end(name)
        return self._kept[name]

    def _let_go(self, enough: Callable[[], bool], keep: str = "") -> None:
        """Let models go, the one used longest ago first, until it is enough or none but `keep` is left."""
        before = len(self._kept)
        for name in self.names:
            if name != keep and not enough():
                del self._kept[name]
        if len(self._kept) < before:
            gc.collect()
            if (torch := sys.modules.get("torch")) is not None and self._device.startswith("cuda"):
                torch.cuda.empty_cache()

    def _fits(self, bytes_: int) -> bool:
        """Whether a model that needs so many bytes fits beside those that are kept."""
        return bytes_ + sum(self._needs(model.card) for model in self._kept.values()) <= self._room_bytes

    def _needs(self, card: ModelCard) -> int:
        """On the device; a network whose card gives no figure for a GPU is taken to need there what it needs here."""
        on_gpu = card.gpu_bytes or (card.memory_bytes if card.weights else 0)
        return on_gpu if self._device.startswith("cuda") else card.memory_bytes


def room_on(device: str, memory_bytes: int) -> int:
    """Bytes that models may take on a device: of a GPU what is free now, else `memory_bytes` of the host."""
    if not device.startswith("cuda"):
        return memory_bytes
    import torch

    free, _ = torch.cuda.mem_get_info(device)
    return int(free)
