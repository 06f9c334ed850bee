"""What XNAT, HTTP and xnatpy answer, as errors of ours: translated once, here."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from http.client import responses
from typing import Final

import requests
from xnat.exceptions import (
    XNATAuthError,
    XNATConnectionError,
    XNATError,
    XNATExpiredCredentialsError,
    XNATLoginFailedError,
    XNATResponseError,
)

from ..archive import (
    AccessDenied,
    ArchiveError,
    NoSpace,
    NotThere,
    RetrieveError,
    SearchError,
    SearchUnanswered,
    SourceNotThere,
    StoreConflict,
    StoreError,
    StoreRefused,
)
from ..header import DAMAGE
from ..http_answers import CONFLICT, DENIED, INSUFFICIENT_STORAGE, NOT_FOUND, may_pass, told
from ..http_session import Patience
from ..object_file import CutObject
from .session import NotUnderstood

FAULTS: Final = (requests.RequestException, XNATError)
"""What a request raises."""
_ADVICE: Final = "; credentials come from VOXFLEET_XNAT_USER and VOXFLEET_XNAT_PASSWORD or .netrc"


class UnsafeAnswer(RetrieveError):
    """The archive gave something that no archive should: paths that lead out, or far more than it announced."""

    code = "UNSAFE_ANSWER"
    next_step = "take nothing from it before those who run it have looked"
    retryable = False


def status_of(error: Exception) -> int | None:
    """HTTP status code behind an error of requests or of xnatpy, or None if there was no answer."""
    if isinstance(error, XNATResponseError):
        return int(error.status_code)
    response = getattr(error, "response", None)
    return None if response is None else int(response.status_code)


@contextlib.contextmanager
def search_errors(uri: str, patience: Patience) -> Iterator[None]:
    """Translate what a listing raises."""
    try:
        yield
    except FAULTS as exc:
        status, reason = status_of(exc), _reason(exc, patience)
        if _denied(exc):
            raise AccessDenied(uri, "", reason + _ADVICE) from exc
        if status in NOT_FOUND:
            raise SourceNotThere(uri, "", f"no such project, or no XNAT here: {reason}") from exc
        if may_pass(status, exc):
            raise SearchUnanswered(uri, "", reason) from exc
        raise SearchError(uri, "", reason) from exc
    except NotUnderstood as exc:
        raise SearchError(uri, "", f"the answer cannot be understood: {exc}") from exc


@contextlib.contextmanager
def retrieve_errors(uri: str, series_instance_uid: str, patience: Patience) -> Iterator[None]:
    """Translate what a download, or reading what it gave, raises."""
    try:
        yield
    except ArchiveError:
        raise
    except FAULTS as exc:
        reason = _reason(exc, patience)
        if _denied(exc):
            raise AccessDenied(uri, series_instance_uid, reason + _ADVICE) from exc
        if status_of(exc) in NOT_FOUND:
            raise NotThere(uri, series_instance_uid, reason) from exc
        raise RetrieveError(uri, series_instance_uid, reason) from exc
    except CutObject as exc:
        raise RetrieveError(uri, series_instance_uid, str(exc)) from exc
    except OSError as exc:
        raise RetrieveError(uri, series_instance_uid, f"cannot be written here: {exc.strerror}") from exc
    except DAMAGE as exc:
        raise RetrieveError(uri, series_instance_uid, _reason(exc, patience)) from exc


@contextlib.contextmanager
def store_errors(uri: str, identifier: str, patience: Patience) -> Iterator[None]:
    """Translate what storing, or looking before and after it, raises."""
    try:
        yield
    except RetrieveError as exc:
        raise StoreError(uri, identifier, f"cannot be read back: {exc.args[2]}") from exc
    except ArchiveError:
        raise
    except FAULTS as exc:
        status, reason = status_of(exc), f"not stored: {_reason(exc, patience)}"
        if _denied(exc):
            raise AccessDenied(uri, identifier, reason + _ADVICE) from exc
        if status == CONFLICT:
            raise StoreConflict(uri, identifier, reason) from exc
        if status == INSUFFICIENT_STORAGE:
            raise NoSpace(uri, identifier, reason) from exc
        raise (StoreError if may_pass(status, exc) else StoreRefused)(uri, identifier, reason) from exc
    except OSError as exc:
        raise StoreError(uri, identifier, f"cannot be read or written here: {exc.strerror}") from exc
    except DAMAGE as exc:
        raise StoreError(uri, identifier, f"cannot be read back: {_reason(exc, patience)}") from exc


def _denied(error: Exception) -> bool:
    return isinstance(error, XNATLoginFailedError | XNATExpiredCredentialsError) or status_of(error) in DENIED


def _reason(error: Exception, patience: Patience) -> str:
    """One sentence without a URL; xnatpy's own messages quote whole answers."""
    status = status_of(error)
    if status is not None:
        return f"answered {status} {responses.get(status, '')}".strip()
    if isinstance(error, XNATLoginFailedError | XNATExpiredCredentialsError):
        return "the login was refused, or the password has expired"
    if isinstance(error, XNATAuthError):
        return "it does not say whether we are logged in"
    if isinstance(error, XNATConnectionError):
        return "no connection, or it broke before an answer"
    return str(error) if isinstance(error, NotUnderstood) else told(error, patience)
