"""A table of labels (YAML): codes for the names of formats that have none, names for the numbers of label maps.

.. code-block:: yaml

    labels: 1
    values: {1: GTV}
    codes:
      GTV_Mass_CT: {type: ["108369006", SCT, Neoplasm], anatomic_region: ["61685007", SCT, Lower limb]}
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydicom.sr.coding import Code

from .errors import InvalidReference
from .reference import CodedName, Reading

SCHEMA_VERSION = 1
_KEYS = {"labels", "values", "codes"}
_CODES = {"category", "type", "laterality", "anatomic_region"}
_CODE_PARTS = 3


class InvalidLabelTable(InvalidReference):
    """A table of labels that cannot be read, or whose keys are not those of the schema."""

    code = "INVALID_LABEL_TABLE"


def read_label_table(path: Path, *, threshold: float = 0.5) -> Reading:
    """How files are read with the names and codes of a table.

    Raises
    ------
    InvalidLabelTable
        If the file is not there or no YAML, or a key is unknown, missing or of the wrong kind.
    """
    source = str(path)
    try:
        top = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as exc:
        raise InvalidLabelTable(source, f"cannot be read: {exc}") from exc
    if not isinstance(top, dict) or top.get("labels") != SCHEMA_VERSION or set(top) - _KEYS:
        raise InvalidLabelTable(source, f"needs 'labels: {SCHEMA_VERSION}' and may have {', '.join(sorted(_KEYS))}")
    values, codes = top.get("values") or {}, top.get("codes") or {}
    if not isinstance(values, dict) or not all(isinstance(k, int) and k > 0 for k in values):
        raise InvalidLabelTable(source, "values: each is a number above 0 and its name")
    if not isinstance(codes, dict):
        raise InvalidLabelTable(source, "codes: a mapping of names to codes is needed")
    return Reading(
        threshold,
        {str(name): _coded(source, str(name), item) for name, item in codes.items()},
        {number: str(name) for number, name in values.items()},
    )


def _coded(source: str, name: str, item: object) -> CodedName:
    if not isinstance(item, dict) or "type" not in item or set(item) - _CODES:
        raise InvalidLabelTable(source, f"codes.{name}: needs type and may have {', '.join(sorted(_CODES - {'type'}))}")
    return CodedName(**{key: _code(source, f"codes.{name}.{key}", value) for key, value in item.items()})


def _code(source: str, where: str, item: Any) -> Code:
    if not isinstance(item, list) or len(item) != _CODE_PARTS or not all(isinstance(part, str) for part in item):
        raise InvalidLabelTable(source, f'{where}: a code is written ["value", scheme, meaning], all three as text')
    return Code(*item)
