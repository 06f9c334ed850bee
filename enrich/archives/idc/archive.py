"""The NCI Imaging Data Commons (IDC) as an archive: chosen offline by its index, read from its public buckets."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ...series import Series
from ..archive import NotThere, RefusedObject, SeriesEntry
from ..bucket.errors import retrieve_errors
from ..bucket.objects import Bucket
from ..bucket.series import fetch_series
from ..bucket.store import BucketAddress, BucketPatience
from ..read_only import ReadOnly
from ..whole import whole_or_nothing
from .index import MEGABYTE, IdcSelection

ENDPOINT: Final = "VOXFLEET_IDC_ENDPOINT"
"""Variable with the address of an S3 service that mirrors IDC's buckets."""
AMAZON: Final = "https://s3.us-east-1.amazonaws.com"
"""Where IDC's buckets are."""
_COLUMNS: Final = (
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "instanceCount",
    "series_size_MB",
    "license_short_name",
    "source_DOI",
    "aws_bucket",
    "crdc_series_uuid",
)


@dataclass(frozen=True, slots=True)
class IdcSeries:
    """One series of the index, and where its objects lie: ``BUCKET/FOLDER/<crdc_instance_uuid>.dcm``."""

    entry: SeriesEntry
    bucket: str
    folder: str
    """``crdc_series_uuid``, which names one version of the series."""


class IdcArchive(ReadOnly):
    """Series of the IDC that a selection names; only read, without credentials.

    Nothing but `retrieve` needs a network.

    Parameters
    ----------
    selection : IdcSelection
        Of a collection or by SQL; bound to one version of the index.
    patience : BucketPatience
        Time-outs and retries.
    """

    def __init__(self, selection: IdcSelection, patience: BucketPatience | None = None) -> None:
        self._selection = selection
        self._patience = patience or BucketPatience()
        self._series: dict[str, IdcSeries] = {}
        self._buckets: dict[str, Bucket] = {}

    @property
    def uri(self) -> str:
        """``idc:COLLECTION@VERSION`` or ``idc:@VERSION?SQL``, with the version of the index."""
        return self._selection.uri

    def search(self) -> Iterator[SeriesEntry | RefusedObject]:
        """Every selected series, ordered by UID, with size, licence and the DOI to cite.

        Raises
        ------
        IdcError
            If the collection is not there or the query cannot be run.
        """
        return iter([each.entry for _, each in sorted(self._known().items())])

    @whole_or_nothing
    def retrieve(self, entry: SeriesEntry, into: Path) -> Series:
        """Copy the series into `into`, as ``INSTANCE.dcm``, byte for byte, several objects at once.

        Raises
        ------
        NotThere
            If the selection has no such series, or the bucket no object of it.
        RetrieveError, AccessDenied
            If the service does not answer, or instances are not as many as the index says.
        """
        found = self._known().get(entry.series_instance_uid)
        if found is None:
            raise NotThere(self.uri, entry.series_instance_uid, "the selection has no such series")
        bucket = self._bucket(found.bucket)
        with retrieve_errors(self.uri, entry.series_instance_uid):
            objects = [each for each in bucket.list(f"{found.folder}/") if each.key.endswith(".dcm")]
            return fetch_series(bucket, self.uri, entry, objects, into)

    def close(self) -> None:
        """Let go of connections."""
        self._buckets.clear()

    def _known(self) -> dict[str, IdcSeries]:
        """Series Instance UID -> series; read from the index once."""
        if not self._series:
            for row in self._selection.table(_COLUMNS).to_batches():
                for each in map(_series, *(row[name].to_pylist() for name in _COLUMNS)):
                    self._series[each.entry.series_instance_uid] = each
        return self._series

    def _bucket(self, name: str) -> Bucket:
        if name not in self._buckets:
            endpoint = os.environ.get(ENDPOINT, AMAZON)
            self._buckets[name] = Bucket(BucketAddress("s3", name, "", endpoint, anonymous=True), self._patience)
        return self._buckets[name]


def _series(  # noqa: PLR0913, PLR0917 - the columns of the index
    study: str,
    series: str,
    modality: str,
    instances: int,
    megabytes: float | None,
    licence: str | None,
    doi: str | None,
    bucket: str,
    folder: str,
) -> IdcSeries:
    size = None if megabytes is None else round(megabytes * MEGABYTE)
    return IdcSeries(
        SeriesEntry(study, series, modality or "", instances, size, licence or "", doi or ""), bucket, folder
    )
