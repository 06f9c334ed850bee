"""Model cards read from YAML, each key checked."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml
from pydicom.sr.coding import Code

from .. import Error
from .measured import Measured, MeasuredSeries
from .model import ModelCard, Weights
from .segmentation import InvalidSegmentation, Segment

_CARD: dict[str, type] = {
    "name": str,
    "version": str,
    "description": str,
    "intended_use": str,
    "modality": list,
    "body_part": str,
    "algorithm_family": str,
    "segments": list,
    "weights": list,
    "parameters": dict,
    "memory_bytes": int,
    "gpu_bytes": int,
    "code_licence": str,
    "weights_licence": str,
    "citations": list,
}
_CARD_OPTIONAL: dict[str, type] = {"commercial_use": bool, "reproducibility": str, "measured": dict}
_SEGMENT: dict[str, type] = {
    "number": int,
    "label": str,
    "name": str,
    "category": list,
    "type": list,
    "color": list,
}
_SEGMENT_OPTIONAL: dict[str, type] = {"laterality": list, "anatomic_region": list, "contains": list}
_WEIGHTS: dict[str, type] = {"url": str, "sha256": str}
_MEASURED: dict[str, type] = {"machine": str, "date": date, "series": list}


class InvalidCard(Error):
    """A model card that cannot be read, or whose keys are not those of the schema."""

    code = "INVALID_CARD"

    def __init__(self, file: str, key: str, reason: str) -> None:
        super().__init__(file, key, reason)

    def __str__(self) -> str:
        file, key, reason = self.args
        return f"{file}: {key}: {reason}" if key else f"{file}: {reason}"


def read_card(path: Path | Traversable) -> ModelCard:
    """The model card in a YAML file.

    Raises
    ------
    InvalidCard
        If the file is not there or no YAML, a key is unknown, missing or of the wrong type,
        or the segments are not numbered 1..N.
    """
    return _card(path.name, _content(path))


def read_card_and(path: Path | Traversable, block: str) -> tuple[ModelCard, object]:
    """The model card in a YAML file that holds one more key, and what stands under that.

    Raises
    ------
    InvalidCard
        As for `read_card`; and if the key is missing.
    """
    content = _content(path)
    if not isinstance(content, dict) or block not in content:
        raise InvalidCard(path.name, block, "missing key")
    return _card(path.name, {key: value for key, value in content.items() if key != block}), content[block]


def _content(path: Path | Traversable) -> object:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as exc:
        raise InvalidCard(path.name, "", f"cannot be read: {exc}") from exc


def _card(file: str, content: object) -> ModelCard:
    card = checked(file, "", content, _CARD, _CARD_OPTIONAL)
    segments = tuple(_segment(file, number, item) for number, item in enumerate(card["segments"], start=1))
    weights = [checked(file, f"weights[{n}]", item, _WEIGHTS, {}) for n, item in enumerate(card["weights"])]
    return ModelCard(
        **{key: card[key] for key, kind in _CARD.items() if kind in (str, int)},
        modality=_texts(file, "modality", card["modality"]),
        segments=segments,
        weights=tuple(Weights(item["url"], item["sha256"]) for item in weights),
        parameters=_parameters(file, card["parameters"]),
        citations=_texts(file, "citations", card["citations"]),
        commercial_use=card.get("commercial_use", True),
        reproducibility=card.get("reproducibility", ""),
        measured=_measured(file, card["measured"]) if "measured" in card else None,
    )


def _segment(file: str, number: int, item: object) -> Segment:
    where = f"segments[{number - 1}]"
    found = checked(file, where, item, _SEGMENT, _SEGMENT_OPTIONAL)
    if found["number"] != number:
        raise InvalidCard(file, f"{where}.number", f"{found['number']}, where {number} comes next")
    color = found["color"]
    if len(color) != 3 or not all(isinstance(part, int) and 0 <= part <= 255 for part in color):  # noqa: PLR2004
        raise InvalidCard(file, f"{where}.color", f"{color} is not three numbers of 0 to 255")
    codes = {
        key: _code(file, f"{where}.{key}", found[key])
        for key in ("category", "type", "laterality", "anatomic_region")
        if key in found
    }
    try:
        return Segment(
            number=number,
            label=found["label"],
            name=found["name"],
            color=(color[0], color[1], color[2]),
            contains=tuple(found.get("contains", ())),
            **codes,
        )
    except InvalidSegmentation as exc:
        raise InvalidCard(file, where, str(exc)) from exc


def _measured(file: str, item: object) -> Measured:
    """Series written as [slices, seconds, seconds of the GPU, bytes read, bytes stored]."""
    found = checked(file, "measured", item, _MEASURED, {})
    series = []
    for number, row in enumerate(found["series"]):
        where = f"measured.series[{number}]"
        numbers = isinstance(row, list) and all(isinstance(each, int | float) and each >= 0 for each in row)
        if not numbers or len(row) != 5 or min(row[:2]) == 0:  # noqa: PLR2004
            raise InvalidCard(file, where, "a series is written [slices, seconds, GPU seconds, bytes in, bytes out]")
        series.append(MeasuredSeries(*row))
    return Measured(found["machine"], found["date"], tuple(series))


def _code(file: str, key: str, item: list[object]) -> Code:
    """A code written as [value, scheme, meaning]."""
    if len(item) != 3:  # noqa: PLR2004
        raise InvalidCard(file, key, "a code is written [value, scheme, meaning]")
    return Code(str(item[0]), str(item[1]), str(item[2]))


def _texts(file: str, key: str, items: list[object]) -> tuple[str, ...]:
    for item in items:
        if not isinstance(item, str):
            raise InvalidCard(file, key, f"{item!r} is not text")
    return tuple(str(item) for item in items)


def _parameters(file: str, items: dict[object, object]) -> dict[str, str]:
    for key, value in items.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise InvalidCard(file, f"parameters.{key}", f"{value!r} is not text: put it in quotes")
    return {str(key): str(value) for key, value in items.items()}


def checked(
    file: str, where: str, item: object, needed: Mapping[str, type], optional: Mapping[str, type]
) -> dict[str, Any]:
    """The item, if it is a mapping of exactly these keys and types; InvalidCard names the first that is not."""
    if not isinstance(item, dict):
        raise InvalidCard(file, where, f"a mapping is needed, not {type(item).__name__}")
    prefix = f"{where}." if where else ""
    for key in item:
        if key not in needed and key not in optional:
            raise InvalidCard(file, f"{prefix}{key}", "unknown key")
    for key in needed:
        if key not in item:
            raise InvalidCard(file, f"{prefix}{key}", "missing key")
    for key, value in item.items():
        kind = needed.get(key) or optional[key]
        if not isinstance(value, kind) or isinstance(value, bool) is not (kind is bool):
            raise InvalidCard(file, f"{prefix}{key}", f"{kind.__name__} is needed, not {type(value).__name__}")
    return item
