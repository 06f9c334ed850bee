"""Whose images a run uses: licence and DOI of every source series, kept with the run."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence

from ..enrich.archives.archive import SeriesEntry
from ..enrich.archives.idc.citing import references_of
from ..enrich.archives.idc.index import SCHEME
from ..enrich.archives.licensed import permits
from ..enrich.atomic import replacing, write_text
from .run_folder import RunFolder

SOURCES = "sources.csv"
CITATIONS = "CITATIONS.txt"
IDC_CITATION = (
    "Fedorov A, Longabaugh WJR, Pot D, et al. National Cancer Institute Imaging Data Commons: Toward Transparency, "
    "Reproducibility, and Scalability in Imaging Artificial Intelligence. RadioGraphics 2023;43(12):e230180. "
    "https://doi.org/10.1148/rg.230180"
)
"""What IDC asks its users to cite."""
_COLUMNS = ("series_instance_uid", "study_instance_uid", "modality", "instances", "licence", "doi", "allowed")


def keep_sources(folder: RunFolder, source: str, told: Sequence[SeriesEntry], allowed: tuple[str, ...]) -> None:
    """Write ``sources.csv`` and ``CITATIONS.txt`` into a run's folder; nothing, if the archive names neither.

    Parameters
    ----------
    source : str
        URI of the archive; for the IDC it holds the version of the index.
    told : sequence of SeriesEntry
        Series whose licence or DOI the archive names.
    allowed : tuple of str
        Licences that the run's policy lets through.
    """
    if not told:
        return
    with replacing(folder.path / SOURCES) as path, path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        writer.writerows(_row(each, allowed) for each in told)
    used = [each for each in told if permits(allowed, each.licence)]
    write_text(folder.path / CITATIONS, "".join(f"{line}\n" for line in _citations(source, used)))


def citations(folder: RunFolder) -> tuple[str, ...]:
    """Lines of ``CITATIONS.txt``; none, if the source asks for no citation."""
    path = folder.path / CITATIONS
    return tuple(path.read_text(encoding="utf-8").splitlines()) if path.is_file() else ()


def _row(entry: SeriesEntry, allowed: tuple[str, ...]) -> tuple[str | int, ...]:
    verdict = "yes" if permits(allowed, entry.licence) else "no"
    identity = (entry.series_instance_uid, entry.study_instance_uid, entry.modality, entry.instances)
    return (*identity, entry.licence, entry.doi, verdict)


def _citations(source: str, used: Sequence[SeriesEntry]) -> list[str]:
    """One line for each DOI with its licences and its reference where that is known, then what the archive asks for."""
    counts = Counter((each.doi, each.licence) for each in used)
    known = references_of(source) if source.startswith(SCHEME) else {}
    lines = [f"source: {source}"]
    for (doi, licence), number in sorted(counts.items()):
        cited = f"cite {known.get(doi.lower(), f'https://doi.org/{doi}')}" if doi else "no DOI"
        lines.append(f"{number} series under {licence or 'no licence that is named'}: {cited}")
    if source.startswith(SCHEME):
        lines.append(f"cite {IDC_CITATION}")
    return lines
