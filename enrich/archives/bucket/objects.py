"""The objects of a bucket: listed, read from their beginning or whole, and written if they are absent.

By obstore, the Python binding of Apache Arrow's object_store (Rust): one client for S3 and Google
with conditional puts, ETags, signed payloads and retries that go on within a cut body, without an event
loop and without dependencies. s3fs and gcsfs pin their botocore and aiohttp and have no conditional put
in common; boto3 is for one vendor; cloudpathlib builds on it.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

from ..folder.scan import PART_SUFFIX
from ..header import Header, header_of
from .errors import STORE_FAULTS, ObjectChanged, answer_of
from .store import BucketAddress, BucketPatience, open_store

HEADER_BYTES: Final = 8192
"""Asked for first when a header is wanted; grows while that is too little."""
_GROWTH: Final = 8
RANGE_BYTES: Final = 16 << 20
"""Larger objects are read in pieces of this size, several at once."""
RANGE_READERS: Final = 4
PART_BYTES: Final = 64 << 20
"""Larger objects are written in parts of a quarter of this size, several at once."""
_ETAG_BYTES: Final = 7
"""Of its digest, so that the number of a version fits into 63 bits."""
_NO_RANGES = "non-partial response"
_UNEXPLAINED: Final = (400, 401, 403)
_GONE: Final = (404, 410)


@dataclass(frozen=True, slots=True)
class BucketObject:
    """One object as a listing tells of it."""

    key: str
    """Relative to the prefix of the bucket's address."""
    bytes: int
    version: int
    """A number made of the ETag: another content has another."""


class Bucket:
    """Objects under one prefix of a bucket; what it raises is for `bucket_errors` to translate."""

    def __init__(self, address: BucketAddress, patience: BucketPatience) -> None:
        self._store = open_store(address, patience)
        self._prefix = f"{address.prefix}/" if address.prefix else ""
        self._serves_ranges = True

    def list(self, folder: str = "") -> Iterator[BucketObject]:
        """Every object under a folder of the prefix, by key; half-written ones are left out.

        Raises
        ------
        obstore.exceptions.BaseError
            If the service does not list.
        """
        prefix = (self._prefix + folder).rstrip("/")
        for page in obstore.list(self._store, prefix=prefix or None, chunk_size=1000):
            for meta in page:
                key = meta["path"].removeprefix(self._prefix)
                if not key.endswith(PART_SUFFIX):
                    yield BucketObject(key, meta["size"], version_of(meta["e_tag"], meta["last_modified"]))

    def header(self, found: BucketObject) -> Header:
        """Header of an object from as few of its first bytes as it takes.

        Raises
        ------
        obstore.exceptions.BaseError, FileNotFoundError
            If it cannot be read.
        """
        count = HEADER_BYTES
        while True:
            header = header_of(BytesIO(self._beginning(found, count)))
            if header.code != "UNREADABLE" or count >= found.bytes:
                return header
            count *= _GROWTH

    def fetch(self, found: BucketObject, path: Path) -> None:
        """Write the whole of an object to a file; a large one is read in pieces, several at once.

        Raises
        ------
        ObjectChanged
            If it is not the one that the listing told of, or is cut.
        obstore.exceptions.BaseError, OSError
            If it cannot be read, or not be written to the file.
        """
        with path.open("wb") as file:
            if found.bytes > RANGE_BYTES and self._serves_ranges and self._fetch_pieces(found, file.fileno()):
                return
            result = obstore.get(self._store, self._prefix + found.key)
            check_same(found, result.meta)
            for chunk in result.stream(min_chunk_size=1 << 20):
                file.write(memoryview(chunk))
            if file.tell() != found.bytes:
                raise ObjectChanged(f"{found.key} is cut: {file.tell()} of {found.bytes} bytes came")

    def find(self, key: str) -> BucketObject | None:
        """The object of that key, or None.

        Raises
        ------
        obstore.exceptions.BaseError
            If the service does not say.
        """
        try:
            meta = obstore.head(self._store, self._prefix + key)
        except STORE_FAULTS as exc:
            status = answer_of(exc).status
            if status in _GONE:
                return None
            if status in _UNEXPLAINED:
                # An answer to HEAD has no body: the same question by GET tells the reason.
                obstore.get(self._store, self._prefix + key, options={"range": (0, 1)}).bytes()
            raise
        return BucketObject(key, meta["size"], version_of(meta["e_tag"], meta["last_modified"]))

    def put_new(self, key: str, content: Path) -> bool:
        """Write a file as an object if its key is free; False if it is taken, and then nothing has changed.

        The service itself looks (``If-None-Match: *``, or generation 0), so of several writers one
        wins. A large object is sent in parts under another key and then copied on that condition;
        a service that knows no such copy gets it in one piece.

        Raises
        ------
        obstore.exceptions.BaseError
            If the service refuses it or does not answer.
        """
        path = self._prefix + key
        try:
            if content.stat().st_size > PART_BYTES and self._put_parts(path, content):
                return True
            obstore.put(self._store, path, content, mode="create", use_multipart=False)
        except (AlreadyExistsError, PreconditionError):
            return False
        return True

    def probe(self) -> None:
        """Write an empty object and remove it; that it may not be removed is no fault.

        Raises
        ------
        obstore.exceptions.BaseError
            If it cannot be written.
        """
        path = f"{self._prefix}.probe{PART_SUFFIX}"
        obstore.put(self._store, path, b"")
        with suppress(*STORE_FAULTS):
            obstore.delete(self._store, path)

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no fault.

        Raises
        ------
        obstore.exceptions.BaseError
            If the service refuses it or does not answer.
        """
        with suppress(FileNotFoundError):
            obstore.delete(self._store, self._prefix + key)

    def _beginning(self, found: BucketObject, count: int) -> bytes:
        """First `count` bytes of an object, or all."""
        path, count = self._prefix + found.key, min(count, found.bytes)
        if not count:
            return b""
        if self._serves_ranges:
            try:
                return obstore.get(self._store, path, options={"range": (0, count)}).bytes().to_bytes()
            except BaseError as exc:
                self._give_up_ranges(exc)
        # The service sends all; the connection is closed on it after the first piece.
        for chunk in obstore.get(self._store, path).stream(min_chunk_size=count):
            return bytes(chunk)[:count]
        return b""

    def _fetch_pieces(self, found: BucketObject, descriptor: int) -> bool:
        """Write a large object piece by piece; False if the service gives no pieces."""
        starts = range(0, found.bytes, RANGE_BYTES)
        try:
            self._fetch_piece(found, 0, descriptor)
        except BaseError as exc:
            self._give_up_ranges(exc)
            return False
        with ThreadPoolExecutor(RANGE_READERS) as readers:
            list(readers.map(lambda start: self._fetch_piece(found, start, descriptor), starts[1:]))
        return True

    def _fetch_piece(self, found: BucketObject, start: int, descriptor: int) -> None:
        end = min(start + RANGE_BYTES, found.bytes)
        result = obstore.get(self._store, self._prefix + found.key, options={"range": (start, end)})
        check_same(found, result.meta)
        content = result.bytes()
        if len(content) != end - start:
            raise ObjectChanged(f"{found.key} is cut: {len(content)} of {end - start} bytes came")
        view = memoryview(content)
        while view:
            written = os.pwrite(descriptor, view, start)
            start, view = start + written, view[written:]

    def _give_up_ranges(self, error: BaseError) -> None:
        """Remember a service that answers 200 with parts of objects (rclone does), or raise."""
        if _NO_RANGES not in str(error):
            raise error
        self._serves_ranges = False

    def _put_parts(self, path: str, content: Path) -> bool:
        """Write a large object in parts; False if the service cannot give it its key on condition."""
        part = f"{path}.{secrets.token_hex(8)}{PART_SUFFIX}"
        obstore.put(self._store, part, content, use_multipart=True, chunk_size=PART_BYTES // 4, max_concurrency=4)
        try:
            obstore.copy(self._store, part, path, overwrite=False)
        except (AlreadyExistsError, PreconditionError):
            raise
        except BaseError as exc:
            if answer_of(exc).may_pass and answer_of(exc).status is not None:
                raise
            return False
        finally:
            with suppress(*STORE_FAULTS):
                obstore.delete(self._store, part)
        return True


def version_of(etag: str | None, modified: datetime) -> int:
    """Number of one version of an object; by its ETag, or by its second where the service gives none."""
    name = etag.removeprefix("W/").strip('"') if etag else str(int(modified.timestamp()))
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:_ETAG_BYTES])


def check_same(found: BucketObject, meta: Any) -> None:
    """Raise ObjectChanged unless an answer is about the version of an object that was listed."""
    if (meta["size"], version_of(meta["e_tag"], meta["last_modified"])) != (found.bytes, found.version):
        raise ObjectChanged(f"{found.key} is not what it was when it was listed; search again")
