"""Tables with a separator, whole or not there: CSV for IDC, TSV for TCIA."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ..atomic import replacing


def write_separated(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> Path:
    """Write a table with a header row; its path. Tabs separate where the name ends in ``.tsv``, else commas.

    Raises
    ------
    OSError
        If the disk is full or the folder cannot be written to.
    ValueError
        If a row has a column that is not named.
    """
    delimiter = "\t" if path.suffix == ".tsv" else ","
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", delimiter=delimiter, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({name: _flat(value) for name, value in row.items()})
    return path


def _flat(value: object) -> object:
    """Text on one line, as a cell that every reader of TSV takes."""
    return " ".join(value.split()) if isinstance(value, str) else value
