"""What HTTP and DICOMweb answer, as errors of ours: translated once, here."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import requests

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
from ..header import DAMAGE
from ..http_answers import INSUFFICIENT_STORAGE, NOT_FOUND, is_denied, may_pass, status_of, told
from ..http_session import Patience
from ..object_file import CutObject
from ..uids import ObjectUids
from .stow import failure_in, is_out_of_resources


@contextlib.contextmanager
def search_errors(uri: str, patience: Patience) -> Iterator[None]:
    """Translate what a QIDO-RS request raises."""
    try:
        yield
    except requests.RequestException as exc:
        status = status_of(exc)
        if is_denied(exc):
            raise AccessDenied(uri, "", _denied(exc, patience)) from exc
        if status in NOT_FOUND:
            raise SourceNotThere(uri, "", f"no DICOMweb service here: {told(exc, patience)}") from exc
        if may_pass(status, exc):
            raise SearchUnanswered(uri, "", told(exc, patience)) from exc
        raise SearchError(uri, "", told(exc, patience)) from exc
    except DAMAGE as exc:
        raise SearchError(uri, "", told(exc, patience)) from exc


@contextlib.contextmanager
def retrieve_errors(uri: str, series_instance_uid: str, patience: Patience) -> Iterator[None]:
    """Translate what a WADO-RS request, or writing what it gives, raises."""
    try:
        yield
    except ArchiveError:
        raise
    except requests.RequestException as exc:
        status = status_of(exc)
        if is_denied(exc):
            raise AccessDenied(uri, series_instance_uid, _denied(exc, patience)) from exc
        if status in NOT_FOUND:
            raise NotThere(uri, series_instance_uid, told(exc, patience)) from exc
        raise RetrieveError(uri, series_instance_uid, told(exc, patience)) from exc
    except CutObject as exc:
        raise RetrieveError(uri, series_instance_uid, str(exc)) from exc
    except OSError as exc:
        raise RetrieveError(uri, series_instance_uid, f"cannot be written here: {exc.strerror}") from exc
    except DAMAGE as exc:
        raise RetrieveError(uri, series_instance_uid, told(exc, patience)) from exc


@contextlib.contextmanager
def store_errors(uri: str, uids: ObjectUids, patience: Patience) -> Iterator[None]:
    """Translate what STOW-RS, or looking for the object before and after, raises."""
    identifier = uids.sop_instance_uid
    try:
        yield
    except ArchiveError:
        raise
    except requests.RequestException as exc:
        status = status_of(exc)
        if is_denied(exc):
            raise AccessDenied(uri, identifier, _denied(exc, patience)) from exc
        failure = failure_in(exc.response)
        reason = told(exc, patience) + (f", {failure}" if failure else "")
        if status == INSUFFICIENT_STORAGE or is_out_of_resources(exc.response):
            raise NoSpace(uri, identifier, f"not stored: {reason}") from exc
        if may_pass(status, exc):
            raise StoreError(uri, identifier, f"not stored: {reason}") from exc
        raise StoreRefused(uri, identifier, f"not stored: {reason}") from exc
    except CutObject as exc:
        raise StoreError(uri, identifier, f"cannot be read back: {exc}") from exc
    except OSError as exc:
        raise StoreError(uri, identifier, f"cannot be read or written here: {exc.strerror}") from exc
    except DAMAGE as exc:
        raise StoreError(uri, identifier, f"cannot be read back: {told(exc, patience)}") from exc


def _denied(error: requests.RequestException, patience: Patience) -> str:
    return f"{told(error, patience)}; credentials come from VOXFLEET_DICOMWEB_* or .netrc"
