"""Sizes of the series of a collection: from an archive's search, or from the index of the IDC."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ... import Error
from ...enrich.archives.archive import RefusedObject, SeriesEntry
from ...enrich.archives.idc.index import MEGABYTE, SCHEME, IdcError, selection_of
from ...enrich.archives.opening import open_archive


class NoSizes(Error):
    """A collection whose series cannot be sized: none of the kind wanted, none of known size, or no index."""

    code = "NO_SIZES"

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(source, reason)

    def __str__(self) -> str:
        return f"{self.args[0]}: {self.args[1]}"


@dataclass(frozen=True, slots=True, eq=False)
class SeriesSizes:
    """What the series of a collection weigh.

    Attributes
    ----------
    slices : ndarray
        Instances of each series, shape (n,), the largest first.
    bytes : ndarray
        Bytes of each series, shape (n,), in the same order.
    unknown : int
        Series of which the archive told no number or no bytes, and for which means of the others stand.
    origin : str
        Where the sizes were read.
    """

    source: str
    slices: npt.NDArray[np.float64]
    bytes: npt.NDArray[np.float64]
    unknown: int
    origin: str

    @property
    def number(self) -> int:
        """How many series."""
        return int(self.slices.size)


def sizes_of(source: str, modalities: Collection[str], least_instances: int = 1) -> SeriesSizes:
    """Sizes of the series of the given modalities.

    Parameters
    ----------
    source : str
        URI of an archive; ``idc:COLLECTION`` and ``idc:?SQL`` are looked up in the index that the package
        ``idc-index-data`` holds, without a network.
    least_instances : int
        Series of fewer instances are left out.

    Raises
    ------
    NoSizes
        If no such series is there, or none of known size; or the index is not installed.
    SearchError, AccessDenied
        If the archive cannot be listed.
    """
    if source.startswith(SCHEME):
        slices, size, origin = _of_idc(source, modalities)
    else:
        archive = open_archive(source)
        entries = (entry for entry in archive.search() if not isinstance(entry, RefusedObject))
        slices, size = _of_entries(entry for entry in entries if entry.modality in modalities)
        archive.close()
        origin = f"search of {archive.uri}"
    if not slices.size:
        raise NoSizes(source, f"no series of {' or '.join(sorted(modalities))} is there, which the model takes")
    return _sizes(source, slices, size, least_instances, origin)


def _of_entries(entries: Iterable[SeriesEntry]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Instances and bytes of each series; NaN for what is not known."""
    known = [(entry.instances or np.nan, entry.bytes or np.nan) for entry in entries]
    table = np.array(known, dtype=np.float64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _of_idc(source: str, modalities: Collection[str]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], str]:
    try:
        selection = selection_of(source)
        table = selection.table(("instanceCount", "series_size_MB", "Modality"))
    except IdcError as exc:
        raise NoSizes(source, exc.args[1]) from exc
    kept = np.isin(table["Modality"].to_numpy(), list(modalities))
    slices = table["instanceCount"].to_numpy().astype(np.float64)[kept]
    return slices, table["series_size_MB"].to_numpy()[kept] * MEGABYTE, f"idc-index-data {selection.version}"


def _sizes(
    source: str,
    slices: npt.NDArray[np.float64],
    size: npt.NDArray[np.float64],
    least_instances: int,
    origin: str,
) -> SeriesSizes:
    """The sizes in order, with means where one is unknown."""
    kept = ~(slices < least_instances)
    slices, size = slices[kept], size[kept]
    if not slices.size:
        raise NoSizes(source, f"no series of {least_instances} instances or more is there")
    if np.isnan(slices).all():
        raise NoSizes(source, f"the archive tells the number of instances of none of {slices.size} series")
    unknown = int((np.isnan(slices) | np.isnan(size)).sum())
    slices = np.where(np.isnan(slices), np.nanmean(slices), slices)
    # Half a megabyte: a CT slice of 512 x 512 pixels of 16 bits.
    per_slice = 524_288.0 if np.isnan(size).all() else float(np.nansum(size) / slices[~np.isnan(size)].sum())
    size = np.where(np.isnan(size), slices * per_slice, size)
    order = np.argsort(-slices, kind="stable")
    return SeriesSizes(source, slices[order], size[order], unknown, origin)
