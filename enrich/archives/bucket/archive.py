"""A bucket of S3 (``s3://``) or of Google Cloud Storage (``gs://``) as an archive."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from pydicom import Dataset

from ...series import Series
from ..archive import RefusedObject, RetrieveError, SeriesEntry, StoredObject
from ..folder.found_series import by_instance, found_series, one_each
from ..folder.index import FoundFile
from ..object_file import digest_if_whole
from ..storing import Outgoing, prepared, store_if_absent
from ..together import given_back, side_by_side
from ..uids import ObjectUids, is_uid
from ..whole import whole_or_nothing
from .errors import ObjectChanged, retrieve_errors, search_errors, store_errors
from .objects import Bucket, BucketObject
from .search import index_of, refresh
from .series import fetch_series
from .store import BucketAddress, BucketPatience


class S3Archive:
    """The DICOM files (PS3.10) under one prefix of a bucket; stored as ``STUDY/SERIES/INSTANCE.dcm``.

    A search lists the bucket and reads the first bytes of objects that the index of this machine does
    not know (`folder.index`); it groups them as the folder archive does. A series that lies as `store`
    would have laid it is retrieved without any index.

    Parameters
    ----------
    address : BucketAddress
        Bucket and prefix; the bucket must exist, the prefix need not.
    patience : BucketPatience
        Time-outs and retries.
    """

    def __init__(self, address: BucketAddress, patience: BucketPatience | None = None) -> None:
        self._address = address
        self._bucket = Bucket(address, patience or BucketPatience())
        self._index = index_of(address)

    @property
    def uri(self) -> str:
        """``s3://bucket/prefix`` or ``gs://bucket/prefix``."""
        return self._address.uri

    def search(self) -> Iterator[SeriesEntry | RefusedObject]:
        """Every series under the prefix, ordered by UID, then what cannot be used, by key.

        Raises
        ------
        SourceNotThere, SearchUnanswered, SearchError, AccessDenied
            If the bucket is not there or cannot be listed.
        """
        with search_errors(self.uri):
            passing = refresh(self._bucket, self._index)
            found = list(found_series(self._index, self._equal, passing))
        yield from found

    @whole_or_nothing
    def retrieve(self, entry: SeriesEntry, into: Path) -> Series:
        """Copy the series into `into`, as ``INSTANCE.dcm``, byte for byte, several objects at once.

        Raises
        ------
        NotThere
            If the bucket holds no object of the series.
        RetrieveError, AccessDenied
            If the service does not answer, an object changed since it was listed, or instances are
            not as many as the search said.
        """
        with retrieve_errors(self.uri, entry.series_instance_uid):
            objects = self._objects(entry)
            try:
                return fetch_series(self._bucket, self.uri, entry, objects, into)
            except (ObjectChanged, FileNotFoundError):
                # Forgotten, so that the next try looks anew.
                for each in objects:
                    folder, _, name = each.key.rpartition("/")
                    self._index.replace(folder, [name], [])
                raise

    def store(self, dataset: Dataset) -> StoredObject:
        """Write one object to ``STUDY/SERIES/INSTANCE.dcm`` if that key is free, read it back, compare.

        Raises
        ------
        StoreConflict
            If another object has that key; it is left as it was.
        StoreRefused, NoSpace, ReadBackDiffers, StoreError, AccessDenied
            If the object could not be stored or came back changed.
        """
        with (
            prepared(dataset, self.uri) as outgoing,
            store_errors(self.uri, outgoing.uids.sop_instance_uid),
        ):
            uids, key = outgoing.uids, _key(outgoing.uids)
            already_there = store_if_absent(
                self.uri,
                uids,
                outgoing.digest,
                held=lambda: self._digest(key),
                send=lambda: self._bucket.put_new(key, outgoing.path),
            )
            return uids.stored(f"{self.uri}/{key}", outgoing.digest, outgoing.bytes, already_there=already_there)

    def store_together(self, series: Series) -> list[StoredObject]:
        """Store a series, several objects at once; see `StoresTogether`.

        Raises
        ------
        SearchError, NoSpace, AccessDenied
            If the bucket cannot be listed or written to.
        """
        with search_errors(self.uri):
            laid = self._bucket.list(f"{series.study_instance_uid}/{series.series_instance_uid}/")
            held = {each.key for each in laid}
        with tempfile.TemporaryDirectory(prefix="voxfleet-") as folder:

            def sent(outgoing: Outgoing) -> None:
                key, uid = _key(outgoing.uids), outgoing.uids.sop_instance_uid
                with store_errors(self.uri, uid):
                    if key not in held:
                        self._bucket.put_new(key, outgoing.path)
                    found = self._bucket.find(key)
                    if found is not None:
                        self._bucket.fetch(found, Path(folder) / f"{uid}.dcm")

            outgoing = side_by_side(series, self.uri, sent)
            return [
                each.uids.stored(
                    f"{self.uri}/{_key(each.uids)}", each.digest, each.bytes, already_there=_key(each.uids) in held
                )
                for each in given_back(series, outgoing, Path(folder).iterdir())
            ]

    def digest_at(self, uri: str) -> str | None:
        """Digest of the data set at an address that `store` gave; None if none is there, empty if it is no object.

        Raises
        ------
        RetrieveError, AccessDenied
            If the service does not say.
        """
        with retrieve_errors(self.uri, uri):
            return self._digest(uri.removeprefix(f"{self.uri}/"))

    def remove(self, uri: str) -> None:
        """Delete the object at an address that `store` gave; one that is not there is no fault.

        Raises
        ------
        StoreRefused, StoreError, AccessDenied
            If the service does not do it.
        """
        with store_errors(self.uri, uri):
            self._bucket.delete(uri.removeprefix(f"{self.uri}/"))

    def probe(self) -> None:
        """Write an empty object, which is removed again.

        Raises
        ------
        NoSpace, StoreRefused, StoreError, AccessDenied
            If that cannot be done.
        """
        with store_errors(self.uri, ""):
            self._bucket.probe()

    def close(self) -> None:
        """Close the index; connections go with the archive."""
        self._index.close()

    def _objects(self, entry: SeriesEntry) -> list[BucketObject]:
        """Object of each instance; the bucket is listed only if nothing else tells."""
        laid = self._laid_out(entry)
        if len(laid) == entry.instances:
            return laid
        files = self._index.files_of(entry.series_instance_uid)
        if len(one_each(files)) != entry.instances:
            with search_errors(self.uri):
                refresh(self._bucket, self._index)
            files = self._index.files_of(entry.series_instance_uid)
        for instance, group in by_instance(files):
            if not self._equal(group):
                raise RetrieveError(self.uri, entry.series_instance_uid, f"two objects differ and are both {instance}")
        return [BucketObject(each.path, each.bytes, each.mtime_ns) for each in one_each(files)]

    def _laid_out(self, entry: SeriesEntry) -> list[BucketObject]:
        """Objects of a series that lie where `store` lays them."""
        if not (is_uid(entry.study_instance_uid) and is_uid(entry.series_instance_uid)):
            return []
        found = []
        for each in self._bucket.list(f"{entry.study_instance_uid}/{entry.series_instance_uid}/"):
            instance, _, ending = each.key.rpartition("/")[2].rpartition(".")
            if ending == "dcm" and is_uid(instance):
                found.append(each)
        return found

    def _digest(self, key: str) -> str | None:
        """Digest of the data set under a key; None if none is there, empty if it is no object."""
        found = self._bucket.find(key)
        if found is None:
            return None
        with tempfile.TemporaryDirectory(prefix="voxfleet-") as folder:
            path = Path(folder) / "object.dcm"
            self._bucket.fetch(found, path)
            return digest_if_whole(path)

    def _equal(self, group: list[FoundFile]) -> bool:
        """Whether objects under several keys hold one data set."""
        if len({(each.bytes, each.mtime_ns) for each in group}) == 1:
            return True
        return len({self._digest(each.path) for each in group}) == 1


def _key(uids: ObjectUids) -> str:
    """Under which an object is stored."""
    return f"{uids.study_instance_uid}/{uids.series_instance_uid}/{uids.sop_instance_uid}.dcm"
