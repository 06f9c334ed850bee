"""The index of the NCI Imaging Data Commons that the package ``idc-index-data`` brings: no network is needed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .... import Error

if TYPE_CHECKING:
    import pyarrow as pa

SCHEME = "idc:"
MEGABYTE = 1_000_000
"""The index gives sizes in decimal megabytes."""
_ADDRESS = re.compile(r"idc:(?P<collection>[A-Za-z0-9_]*)(@(?P<version>[0-9]+(\.[0-9]+)*))?(\?(?P<sql>.+))?", re.DOTALL)


class IdcError(Error):
    """An address of the Imaging Data Commons that names no series, or not in this version of its index."""

    code = "IDC_SELECTION"

    def __init__(self, uri: str, reason: str) -> None:
        super().__init__(uri, reason)

    def __str__(self) -> str:
        return f"{self.args[0]}: {self.args[1]}"


class NoIdcIndex(IdcError):
    """The index is not installed, or in another version."""

    code = "NO_IDC_INDEX"


@dataclass(frozen=True, slots=True)
class IdcSelection:
    """Which series are meant: those of a collection, or those that an SQL query names.

    Attributes
    ----------
    collection : str
        ``collection_id``, e.g. ``nlst``; empty where `sql` selects.
    sql : str
        Query over the table ``index`` whose answer has the column ``SeriesInstanceUID``.
    version : str
        Of idc-index-data: the same query over another version may name other series.
    """

    collection: str
    sql: str
    version: str

    @property
    def uri(self) -> str:
        """``idc:COLLECTION@VERSION`` or ``idc:@VERSION?SQL``: what it names never changes."""
        return f"{SCHEME}{self.collection}@{self.version}" + (f"?{self.sql}" if self.sql else "")

    def table(self, columns: Sequence[str]) -> pa.Table:
        """The given columns of the index for every selected series, in no order.

        Raises
        ------
        IdcError
            If the query cannot be run, or its answer has no column ``SeriesInstanceUID``.
        """
        from pyarrow import dataset

        if self.collection:
            chosen: Any = dataset.field("collection_id") == self.collection
        else:
            chosen = dataset.field("SeriesInstanceUID").isin(self._selected())
        found = _index().to_table(columns=list(columns), filter=chosen)
        if self.collection and not found.num_rows:
            raise IdcError(self.uri, f"no such collection{self._nearest()}")
        return found

    def _selected(self) -> Any:
        """Series Instance UIDs that the query names."""
        import duckdb

        with duckdb.connect(":memory:") as connection:
            connection.register("index", _index())
            # The query comes from a command line: it reads the index and no file, and changes no setting.
            for setting in ("enable_external_access", "python_enable_replacements"):
                connection.execute(f"SET {setting} = false")
            # One thread, so that a LIMIT without ORDER BY gives the same series each time.
            connection.execute("SET threads = 1")
            connection.execute("SET lock_configuration = true")
            try:
                found = connection.execute(self.sql).to_arrow_table()
            except duckdb.Error as exc:
                raise IdcError(self.uri, " ".join(str(exc).split())[:300]) from exc
        if "SeriesInstanceUID" not in found.column_names:
            raise IdcError(self.uri, "the answer of the query has no column SeriesInstanceUID")
        return found["SeriesInstanceUID"].combine_chunks()

    def _nearest(self) -> str:
        names = sorted(set(_index().to_table(columns=["collection_id"])["collection_id"].unique().to_pylist()))
        near = difflib.get_close_matches(self.collection.lower().replace("-", "_"), names, n=3)
        return f"; did you mean {', '.join(near)}?" if near else f" among the {len(names)} of this version"


def selection_of(uri: str) -> IdcSelection:
    """Selection that ``idc:COLLECTION``, ``idc:?SQL`` or either with ``@VERSION`` names, bound to the index here.

    Raises
    ------
    IdcError
        If the address is of another form.
    NoIdcIndex
        If no index is installed, or the address names another version of it.
    """
    match = _ADDRESS.fullmatch(uri)
    if match is None or bool(match["collection"]) == bool(match["sql"]):
        raise IdcError(uri, "an address of the IDC is idc:COLLECTION or idc:?SQL; collections have a-z, 0-9 and _")
    here = index_version(uri)
    if match["version"] and match["version"] != here:
        wanted = f"pip install idc-index-data=={match['version']}"
        raise NoIdcIndex(uri, f"the index that is installed is {here}, which may name other series: {wanted}")
    return IdcSelection(match["collection"], match["sql"] or "", here)


def index_version(uri: str) -> str:
    """Version of the index that is installed; its first number is IDC's own.

    Raises
    ------
    NoIdcIndex
        If none is.
    """
    # 74 MB of index, which most users do without.
    try:
        import idc_index_data
    except ImportError as exc:
        raise NoIdcIndex(uri, "needs the index of the IDC: pip install 'voxfleet[idc]'") from exc
    return str(idc_index_data.__version__)


def index_folder(uri: str) -> Path:
    """Folder of the index and of the smaller tables beside it.

    Raises
    ------
    NoIdcIndex
        If none is installed.
    """
    index_version(uri)
    import idc_index_data

    return Path(idc_index_data.__file__).parent


def _index() -> Any:
    import idc_index_data
    from pyarrow import dataset

    return dataset.dataset(idc_index_data.IDC_INDEX_PARQUET_FILEPATH)
