"""How the Imaging Data Commons wants its data sets cited: from the index, so without a network."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path

from .index import index_folder

_TAG = re.compile(r"<[^>]{1,40}>")


def references_of(uri: str) -> dict[str, str]:
    """DOI in lower case -> reference of one line (authors, year, title, repository, DOI), for all data sets.

    Parameters
    ----------
    uri : str
        Address of the selection, for the error.

    Raises
    ------
    NoIdcIndex
        If no index is installed.
    """
    return {doi.lower(): _plain(text) for doi, text in _told(index_folder(uri)) if doi and text}


def _told(folder: Path) -> Iterator[tuple[str, str]]:
    """DOI and citation, as the tables of collections and of analysis results have them."""
    from pyarrow import parquet

    for row in parquet.read_table(folder / "collections_index.parquet", columns=["sources"]).to_pylist():
        for each in row["sources"] or ():
            yield each.get("source_doi") or "", each.get("citation") or ""
    results = parquet.read_table(folder / "analysis_results_index.parquet", columns=["source_DOI", "citation"])
    for row in results.to_pylist():
        yield row["source_DOI"] or "", row["citation"] or ""


def _plain(text: str) -> str:
    """HTML of a citation as one line of text."""
    return " ".join(html.unescape(_TAG.sub("", text)).split())
