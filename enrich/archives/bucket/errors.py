"""What a bucket answers, as errors of ours: translated once, here."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from obstore.exceptions import BaseError

from ..archive import (
    AccessDenied,
    ArchiveError,
    NoSpace,
    NotThere,
    RetrieveError,
    SearchError,
    SearchUnanswered,
    SourceNotThere,
    StoreError,
    StoreRefused,
)

STORE_FAULTS: Final = (BaseError, FileNotFoundError)
"""What obstore raises: for an absent object it is Python's own error."""
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>([A-Za-z0-9.]{1,64})</Code>")
_MESSAGE = re.compile(r"<Message>([^<]{1,200})")
_DENIED: Final = (401, 403)
_MISSING: Final = (404, 410)
_BUSY: Final = (408, 409, 412, 429)
_SERVER_ERROR: Final = 500
_INSUFFICIENT_STORAGE: Final = 507
_OVER: Final = frozenset({"ExpiredToken", "InvalidToken", "TokenRefreshRequired"})
_FULL: Final = frozenset({"InsufficientStorage", "QuotaExceeded", "XMinioStorageFull"})
_MOVED = "Received redirect"
_MISTRUST = "its TLS certificate was not accepted"
_CERTIFICATE = re.compile(r"InvalidCertificate\(\s*(?:Other\(\s*OtherError\(\s*)?([A-Za-z]{1,40})")
"""In what obstore prints of the error behind its own; the name is rustls'."""


class ObjectChanged(Exception):
    """An object that is not the one that the listing told of."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a service said; `status` is None where it said nothing."""

    status: int | None
    code: str
    text: str
    """One line without any header, so without credentials."""

    @property
    def is_denial(self) -> bool:
        """Whether it does not let us in; Amazon says so of a session that is over with 400."""
        return self.status in _DENIED or self.code in _OVER

    @property
    def may_pass(self) -> bool:
        """Whether the same request may succeed later."""
        if self.status is None:
            return not self.text.startswith(_MISTRUST)
        return self.status >= _SERVER_ERROR or self.status in _BUSY


def answer_of(error: Exception) -> Answer:
    """What the service said, from the text of an error of obstore."""
    text = str(error).split("Debug source")[0]
    status, code, message = _STATUS.search(text), _CODE.search(text), _MESSAGE.search(text)
    if status is None:
        told = " ".join(text.split())[:300] or type(error).__name__
        if mistrust := _CERTIFICATE.search(str(error)):
            told = f"{_MISTRUST} ({mistrust[1]}); SSL_CERT_FILE names the file of the authorities that are trusted"
    else:
        said = ": ".join(found[1] for found in (code, message) if found)
        told = " ".join(f"HTTP {status[1]} {said}".split())
    return Answer(int(status[1]) if status else None, code[1] if code else "", told)


@contextlib.contextmanager
def search_errors(uri: str) -> Iterator[None]:
    """Translate what listing a bucket, or reading headers from it, raises."""
    try:
        yield
    except STORE_FAULTS as exc:
        answer = answer_of(exc)
        if answer.is_denial:
            raise AccessDenied(uri, "", _denied(uri, answer)) from exc
        if answer.status in _MISSING:
            raise SourceNotThere(uri, "", f"no such bucket: {answer.text}") from exc
        if _MOVED in answer.text:
            raise SearchError(uri, "", "the bucket is in another region; set AWS_REGION") from exc
        if answer.may_pass:
            raise SearchUnanswered(uri, "", answer.text) from exc
        raise SearchError(uri, "", answer.text) from exc


@contextlib.contextmanager
def retrieve_errors(uri: str, series_instance_uid: str) -> Iterator[None]:
    """Translate what reading objects, or writing them to the local disk, raises."""
    try:
        yield
    except ArchiveError as exc:
        if not isinstance(exc, SearchError):
            raise
        error = RetrieveError if exc.retryable else NotThere
        raise error(uri, series_instance_uid, exc.args[2]) from exc
    except ObjectChanged as exc:
        raise RetrieveError(uri, series_instance_uid, str(exc)) from exc
    except STORE_FAULTS as exc:
        answer = answer_of(exc)
        if answer.is_denial:
            raise AccessDenied(uri, series_instance_uid, _denied(uri, answer)) from exc
        if answer.status in _MISSING:
            raise NotThere(uri, series_instance_uid, f"an object is gone: {answer.text}") from exc
        raise RetrieveError(uri, series_instance_uid, answer.text) from exc
    except OSError as exc:
        raise RetrieveError(uri, series_instance_uid, f"cannot be written here: {exc.strerror}") from exc


@contextlib.contextmanager
def store_errors(uri: str, identifier: str) -> Iterator[None]:
    """Translate what writing an object, or reading it back, raises."""
    try:
        yield
    except ObjectChanged as exc:
        raise StoreError(uri, identifier, f"cannot be read back: {exc}") from exc
    except STORE_FAULTS as exc:
        answer = answer_of(exc)
        if answer.is_denial:
            raise AccessDenied(uri, identifier, _denied(uri, answer)) from exc
        if answer.status == _INSUFFICIENT_STORAGE or answer.code in _FULL:
            raise NoSpace(uri, identifier, f"not stored: {answer.text}") from exc
        if answer.status in _MISSING:
            raise StoreRefused(uri, identifier, f"not stored: no such bucket: {answer.text}") from exc
        if answer.may_pass and _MOVED not in answer.text:
            raise StoreError(uri, identifier, f"not stored: {answer.text}") from exc
        raise StoreRefused(uri, identifier, f"not stored: {answer.text}") from exc
    except OSError as exc:
        raise StoreError(uri, identifier, f"cannot be read back here: {exc.strerror}") from exc


def _denied(uri: str, answer: Answer) -> str:
    if answer.code == "RequestTimeTooSkewed":
        return f"{answer.text}; set this machine's clock"
    if answer.code in _OVER:
        return f"{answer.text}; log in anew, for AWS_SESSION_TOKEN is over"
    names = "AWS_* or ~/.aws/credentials" if uri.startswith(("s3:", "idc:")) else "GOOGLE_APPLICATION_CREDENTIALS"
    return f"{answer.text}; credentials come from {names}"
