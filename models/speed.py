"""What may make a network faster and change its result a little: off unless asked for.

``precision: default``
    As the package that trained the network computes; or ``float32``, ``bfloat16``, ``float16`` for its
    convolutions.
``compile: no``
    ``yes`` compiles the network with ``torch.compile`` when it is first used, which needs a C++ compiler.
``batch: 1``
    Tiles of one image that go through the network together, 1 to 64: more of them fill a large GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .model import ModelCard
from .parameters import InvalidParameter

PRECISIONS = ("default", "float32", "bfloat16", "float16")
DEFAULTS = {"batch": "1", "compile": "no", "precision": "default"}
"""The parameters by which a card offers it."""
LARGEST_BATCH = 64


@dataclass(frozen=True, slots=True)
class Speed:
    """How a network computes.

    Attributes
    ----------
    precision : str
        One of `PRECISIONS`.
    compiled : bool
        Whether by ``torch.compile``.
    batch : int
        Tiles that go through the network together.
    """

    precision: str = "default"
    compiled: bool = False
    batch: int = 1


AS_TRAINED = Speed()
"""As the package that trained the network computes."""


def speed_of(card: ModelCard, parameters: Mapping[str, str]) -> Speed:
    """What the parameters of a card that offers it, with the caller's changes, ask for.

    Raises
    ------
    InvalidParameter
        If a value is none of those above.
    """
    asked = (parameters.get(name, card.parameters[name]) for name in ("precision", "compile", "batch"))
    precision, compile_, batch = asked
    if precision not in PRECISIONS:
        raise InvalidParameter(card.name, f"parameter precision: {precision!r} is none of {', '.join(PRECISIONS)}")
    if compile_ not in ("yes", "no"):
        raise InvalidParameter(card.name, f"parameter compile: {compile_!r} is neither yes nor no")
    if not (batch.isdecimal() and 1 <= int(batch) <= LARGEST_BATCH):
        raise InvalidParameter(card.name, f"parameter batch: {batch!r} is not 1 to {LARGEST_BATCH}")
    return Speed(precision, compile_ == "yes", int(batch))


def without_speed(card: ModelCard, parameters: Mapping[str, str]) -> dict[str, str]:
    """The parameters with the card's own values wherever they only make it faster."""
    return {
        name: card.parameters[name] if name in DEFAULTS and name in card.parameters else value
        for name, value in parameters.items()
    }
