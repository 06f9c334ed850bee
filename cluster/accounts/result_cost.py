"""Cost in provenance: what each result cost, by which price, written into its own document."""

from __future__ import annotations

import json
from pathlib import Path

from ...enrich.atomic import write_text
from ...runners.request import file_name
from ...runners.results import PROVENANCE
from ..run_folder import RunFolder
from ..status.figures import RunSummary, SeriesRow
from .spent import told_by


def add_costs(folder: RunFolder, summary: RunSummary) -> int:
    """Write into every completed result's provenance what it cost; how many documents were changed.

    The activity gets ``vf:usd`` (over all attempts, its part of start-up, idle and drain in it),
    ``vf:price_source`` and ``vf:price_dated``, as `enrich.prov_json` writes a CostStatement: of the nodes that its
    attempts were on, the oldest day of several. A document that says so already is left as it is; one of another
    price is formed again.
    """
    completed = [row for row in summary.series if row.result == "completed"]
    return sum(_add_cost(_document_of(folder, row), row, summary) for row in completed)


def _document_of(folder: RunFolder, row: SeriesRow) -> Path:
    return folder.results / row.series_instance_uid / file_name(row.model) / PROVENANCE


def _add_cost(path: Path, row: SeriesRow, summary: RunSummary) -> bool:
    """Whether the document was changed; one that is not there (a result of another machine) is no error."""
    if not path.is_file():
        return False
    document = json.loads(path.read_text(encoding="utf-8"))
    source, dated = told_by(summary.prices.get(row.key, (summary.price,)))
    facts = {"vf:usd": str(row.usd_loaded), "vf:price_source": source, "vf:price_dated": dated.isoformat()}
    changed = False
    for name, activity in document["activity"].items():
        mine = name.startswith(f"work:{row.key}-") and "-stage-" not in name
        if mine and any(activity.get(fact) != value for fact, value in facts.items()):
            activity.update(facts)
            changed = True
    if changed:
        write_text(path, json.dumps(document, indent=1) + "\n")
    return changed
