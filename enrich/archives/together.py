"""The instances of a series stored together: looked for at once, sent side by side, read back at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import astuple
from pathlib import Path
from threading import Event
from typing import Final, Protocol, runtime_checkable

from ..digest import dataset_digest, file_sha256, plain_file_digest
from ..encoding.encoded import NotPlain
from ..series import Instance, Series
from .archive import NoSpace, StoredObject, StoreError
from .header import DAMAGE
from .object_file import opened
from .storing import Outgoing, checked_uids
from .uids import ObjectUids, is_uid

SENDERS: Final = 4
"""Instances sent at once."""
PLAIN_BYTES: Final = 16 << 20
"""Larger files are never in memory as a whole."""
_UIDS: Final = (0x0020000D, 0x0020000E, 0x00080018, 0x00080016)
"""Study, series, instance and class, as `ObjectUids` has them."""


@runtime_checkable
class StoresTogether(Protocol):
    """An archive that stores the instances of a series together in less time than one after another."""

    def store_together(self, series: Series) -> list[StoredObject]:
        """Store the instances of a series, each as its file is; gives those that were read back and found equal.

        What is not among them may be there or not: `store` stores it, or tells why it cannot.

        Raises
        ------
        ArchiveError
            If the archive does not answer, lets nobody in or is full.
        """
        ...


def side_by_side(series: Series, uri: str, send: Callable[[Outgoing], None]) -> list[Outgoing]:
    """Read and send the instances of a series, several at once; gives those of which nothing speaks against it.

    After a fault that may pass, nothing more is begun.

    Parameters
    ----------
    send : callable
        Sends one object unless it is there; raises `StoreError` for what the archive refuses.

    Raises
    ------
    NoSpace, AccessDenied
        Of the first instance that meets it.
    """
    over = Event()

    def sent(instance: Instance) -> Outgoing | None:
        outgoing = None if over.is_set() else outgoing_of(instance, uri)
        if outgoing is None:
            return None
        try:
            send(outgoing)
        except StoreError as exc:
            if exc.retryable or isinstance(exc, NoSpace):
                over.set()  # the archive may be gone: no other instance is to wait for it too
            if isinstance(exc, NoSpace):
                raise
            return None
        except BaseException:
            over.set()  # here already: who waits for the outcomes may learn of it late
            raise
        return outgoing

    with ThreadPoolExecutor(SENDERS) as senders:
        try:
            return [each for each in senders.map(sent, series.instances) if each is not None]
        except BaseException:
            over.set()
            raise


def outgoing_of(instance: Instance, uri: str) -> Outgoing | None:
    """The object in a file, to be sent as it is; None if it cannot be."""
    try:
        uids, digest = _read(instance.path, uri)
    except (StoreError, OSError, *DAMAGE):
        return None
    return Outgoing(uids, digest, instance.path, instance.bytes)


def given_back(series: Series, outgoing: Sequence[Outgoing], files: Iterable[Path]) -> Iterator[Outgoing]:
    """Objects that came back equal among the files that an archive gave; each file is removed.

    Most archives give the very bytes that they were sent, which is seen without decoding anything.
    """
    expected = {each.uids.sop_instance_uid: each for each in outgoing}
    sent = {each.sha256: expected.get(each.sop_instance_uid) for each in series.instances}
    for path in files:
        same = sent.get(file_sha256(path)) or _equal(expected, path)
        path.unlink()
        if same is not None:
            yield same


def _equal(expected: dict[str, Outgoing], path: Path) -> Outgoing | None:
    """Object whose data set a file holds, whatever its encoding; None if it is another one, or damaged."""
    try:
        uids, digest = _read(path, "")
    except (StoreError, *DAMAGE):
        return None
    found = expected.get(uids.sop_instance_uid)
    return found if found is not None and (found.uids, found.digest) == (uids, digest) else None


def _read(path: Path, uri: str) -> tuple[ObjectUids, str]:
    """UIDs and digest of the object in a file; from its bytes alone where that is enough, in a third of the time.

    Raises
    ------
    StoreRefused, OSError, or one of `header.DAMAGE`
        If there is no usable object in it.
    """
    if path.stat().st_size <= PLAIN_BYTES:
        with suppress(NotPlain):
            digest, texts = plain_file_digest(path.read_bytes(), _UIDS)
            uids = ObjectUids(*(texts.get(tag, "") for tag in _UIDS))
            if all(map(is_uid, astuple(uids))):
                return uids, digest
    with opened(path) as dataset:
        return checked_uids(dataset, uri), dataset_digest(dataset)
