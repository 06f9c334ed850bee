"""Weights brought to this machine: from a URL, resumed where it broke off, or from a file."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import requests

from .model import ModelCard, ModelError, Weights
from .weights import WrongHash, check_hash, place_of

Progress = Callable[[int, int | None], None]
"""Told the bytes that are there, and all that are wanted where that is known."""

ATTEMPTS = 5
"""Connections that are tried in a row without a byte gained."""
PAUSE_S = 1.0
"""Before the second attempt; twice as long before each further one."""
TIMEOUT_S = (10.0, 60.0)
"""To connect, and between two bytes."""
CHUNK_BYTES = 1 << 16
"""Written at a time; what comes after the last whole one is lost when a connection breaks off."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_OK, _PARTIAL, _RANGE_NOT_SATISFIABLE, _TOO_MANY, _SERVER_ERROR = 200, 206, 416, 429, 500


class FetchFailed(ModelError):
    """A weights file that could not be brought here; what came of it is kept for the next attempt."""

    code = "FETCH_FAILED"
    retryable = True


def source_of(card: ModelCard, weights: Weights, origin: str | None) -> str:
    """URL or path of one weights file.

    Parameters
    ----------
    origin : str or None
        What the user named instead of the card's URL: a file or its URL for a model with one weights
        file; a folder, or a URL that ends in ``/``, that holds files of the card's names.

    Raises
    ------
    FetchFailed
        If one file is named for a model with several; if the card names no place or no SHA-256; if the weights
        are an image, which its engine brings.
    """
    if urlsplit(weights.url).scheme == "docker":
        image = weights.url.removeprefix("docker://")
        raise FetchFailed(card.name, f"an image is brought by its engine; run: podman pull {image} (or docker pull)")
    if not _SHA256.fullmatch(weights.sha256):
        reason = f"its card has no SHA-256 for {weights.file}: what would come could not be checked"
        raise FetchFailed(card.name, reason)
    if not _is_url(weights.url):
        raise FetchFailed(card.name, f"{weights.url} belongs in the model's own folder: nothing is fetched there")
    return source_among(card, weights.url, weights.file, [each.file for each in card.weights], origin)


def source_among(card: ModelCard, url: str, file: str, files: Sequence[str], origin: str | None) -> str:
    """URL or path of one of a model's files; see `source_of`."""
    if origin is None:
        return url
    if origin.endswith("/") and _is_url(origin):
        return origin + file
    if not _is_url(origin) and Path(origin).is_dir():
        return str(Path(origin) / file)
    if len(files) > 1:
        reason = f"{origin} is one file; a folder (or a URL ending in /) with {', '.join(files)} is needed"
        raise FetchFailed(card.name, reason)
    return origin


def fetch(model: str, weights: Weights, source: str, progress: Progress) -> Path:
    """The store's file of these weights, brought from `source` unless it is there already.

    The file appears in the store whole and with the right SHA-256, or not at all. A transfer that breaks
    off is resumed (HTTP ``Range``), within this call and by the next one.

    Raises
    ------
    FetchFailed
        If the source gives no file, or another fetch of the same file is under way.
    WrongHash
        If what came is not what the card names; it is deleted.
    """
    place = place_of(weights)
    if place.is_file():
        try:
            check_hash(model, place, weights.sha256)
        except WrongHash as exc:
            raise WrongHash(model, f"{exc.args[1]}; delete it and fetch again") from exc
        return place
    part = place.with_name(f".{place.name}.part")
    place.parent.mkdir(parents=True, exist_ok=True)
    with alone(model, part) as file:
        if place.is_file():
            # Another process brought it since, and checked it.
            part.unlink()
            return place
        bring(model, source, file, progress)
        file.flush()
        try:
            check_hash(model, part, weights.sha256)
        except ModelError:
            part.unlink()
            raise
        part.replace(place)
    return place


def bring(model: str, source: str, file: IO[bytes], progress: Progress) -> None:
    """Make `file`, opened by `alone`, what lies at a URL or path; from a URL, what is missing of it."""
    if _is_url(source):
        _download(model, source, file, progress)
    else:
        _copy(model, Path(source), file, progress)


def _is_url(source: str) -> bool:
    return urlsplit(source).scheme in ("http", "https")


@contextmanager
def alone(model: str, part: Path) -> Iterator[IO[bytes]]:
    """The unfinished file, opened at its end, for this process alone."""
    while True:
        with part.open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as exc:
                raise FetchFailed(model, f"another process is fetching {part.name} now") from exc
            # Another process may have come to its end since we opened it: then this is its finished file.
            if _is_at(file, part):
                yield file
                return


def _is_at(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _copy(model: str, source: Path, file: IO[bytes], progress: Progress) -> None:
    file.truncate(0)
    try:
        with source.open("rb") as original:
            shutil.copyfileobj(original, file, CHUNK_BYTES)
    except OSError as exc:
        raise FetchFailed(model, f"{source} cannot be read: {exc.strerror}") from exc
    progress(file.tell(), file.tell())


def _download(model: str, url: str, file: IO[bytes], progress: Progress) -> None:
    """Ask again, from where the last answer broke off, until all is there or nothing comes any more."""
    fruitless = 0
    while True:
        before = file.tell()
        try:
            if _receive(model, url, file, progress):
                return
            reason = "the connection broke off"
        except requests.RequestException as exc:
            reason = f"{type(exc).__name__}"
        fruitless = 0 if file.tell() > before else fruitless + 1
        if fruitless >= ATTEMPTS:
            got = f"{file.tell()} bytes are kept, the next fetch goes on from there"
            raise FetchFailed(model, f"{url}: {reason}; {got}")
        time.sleep(PAUSE_S * 2 ** max(0, fruitless - 1))


def _receive(model: str, url: str, file: IO[bytes], progress: Progress) -> bool:
    """Append one answer to the file; whether it is now as long as the server says."""
    there = file.tell()
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={there}-"} if there else {})}
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_S) as answer:
        if answer.status_code == _RANGE_NOT_SATISFIABLE:
            return _no_more(answer, file)
        if answer.status_code == _TOO_MANY or answer.status_code >= _SERVER_ERROR:
            return False
        if answer.status_code not in (_OK, _PARTIAL):
            raise FetchFailed(model, f"{url}: HTTP {answer.status_code} {answer.reason}")
        if not _continues(answer, there):
            file.truncate(0)
            there = 0
        length = answer.headers.get("Content-Length")
        total = there + int(length) if length else None
        for chunk in answer.iter_content(CHUNK_BYTES):
            file.write(chunk)
            progress(file.tell(), total)
    return total is None or file.tell() == total


def _continues(answer: requests.Response, there: int) -> bool:
    """Whether an answer begins where the file ends; servers may send all of it all the same (RFC 9110, 14.2)."""
    return answer.status_code == _PARTIAL and answer.headers.get("Content-Range", "").startswith(f"bytes {there}-")


def _no_more(answer: requests.Response, file: IO[bytes]) -> bool:
    """Whether nothing was left to send; a file that is too long is begun anew."""
    complete = answer.headers.get("Content-Range") == f"bytes */{file.tell()}"
    if not complete:
        file.truncate(0)
    return complete
