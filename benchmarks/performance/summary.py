"""Several files of results in one table: ``python -m voxfleet.benchmarks.performance.summary NAME ...``.

All of them without names. A script that writes none (a program that another one calls) is passed over.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from rich.console import Console

from . import harness
from .figures import Figure, show_figures
from .harness import Row, show_rows


def documents_of(names: Sequence[str]) -> list[dict[str, Any]]:
    """Files of results by the names of their scripts, in this order; all files where there are no names."""
    paths = [harness.RESULTS / f"{name}.json" for name in names] or sorted(harness.RESULTS.glob("*.json"))
    return [json.loads(path.read_text()) for path in paths if path.is_file()]


def main(arguments: list[str] | None = None) -> int:
    """Print the rows and the figures of all files, and how many targets were met."""
    documents = documents_of(sys.argv[1:] if arguments is None else arguments)
    rows = [Row(**_known(Row, each)) for document in documents for each in document.get("rows", ())]
    figures = [Figure(**_known(Figure, each)) for document in documents for each in document.get("figures", ())]
    if rows:
        show_rows("All that was measured against peers", rows, {})
    if figures:
        show_figures("All that was measured against limits", figures)
    met = [met for met in (*(row.met for row in rows), *(figure.met for figure in figures)) if met is not None]
    if met:
        Console().print(f"{sum(met)} of {len(met)} targets met")
    return 0


def _known(kind: type[Row | Figure], stored: dict[str, Any]) -> dict[str, Any]:
    """What a file says of a row or figure; some scripts write more."""
    return {field.name: stored[field.name] for field in fields(kind) if field.name in stored}


if __name__ == "__main__":
    sys.exit(main())
