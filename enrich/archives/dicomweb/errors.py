"""What HTTP and DICOMweb answer, as errors of ours: translated once, here."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final, cast

import requests
from pydicom import Dataset
from pydicom.dataelem import RawDataElement

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
from ..http_session import Patience, status_of, told
from ..uids import ObjectUids
from .stow import failure_in, is_out_of_resources

NOT_FOUND: Final = (404, 410)
DENIED: Final = (401, 403)
BUSY_OR_BROKEN: Final = (408, 429)
"""Beside 5xx, the codes after which trying again makes sense."""
_SERVER_ERROR = 500
_INSUFFICIENT_STORAGE = 507
_UNDEFINED_LENGTH = 0xFFFFFFFF


class CutObject(ValueError):
    """An object that ends before the length that one of its elements names."""


def check_whole(dataset: Dataset) -> None:
    """Check that no element of a data set just read is shorter than it says.

    Raises
    ------
    CutObject
        If one is: the object was cut on its way.
    """
    for tag in dataset.keys():  # noqa: SIM118 - items would decode each element
        element = dataset.get_item(tag)
        if not element.is_raw:
            continue
        raw = cast(RawDataElement, element)
        if raw.length != _UNDEFINED_LENGTH and len(raw.value or b"") != raw.length:
            raise CutObject(f"the object is cut within {raw.tag}")


@contextlib.contextmanager
def search_errors(uri: str, patience: Patience) -> Iterator[None]:
    """Translate what a QIDO-RS request raises."""
    try:
        yield
    except requests.RequestException as exc:
        status = status_of(exc)
        if status in DENIED:
            raise AccessDenied(uri, "", _denied(exc, patience)) from exc
        if status in NOT_FOUND:
            raise SourceNotThere(uri, "", f"no DICOMweb service here: {told(exc, patience)}") from exc
        if _may_pass(exc):
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
        if status in DENIED:
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
        if status in DENIED:
            raise AccessDenied(uri, identifier, _denied(exc, patience)) from exc
        failure = failure_in(exc.response)
        reason = told(exc, patience) + (f", {failure}" if failure else "")
        if status == _INSUFFICIENT_STORAGE or is_out_of_resources(exc.response):
            raise NoSpace(uri, identifier, f"not stored: {reason}") from exc
        if _may_pass(exc):
            raise StoreError(uri, identifier, f"not stored: {reason}") from exc
        raise StoreRefused(uri, identifier, f"not stored: {reason}") from exc
    except CutObject as exc:
        raise StoreError(uri, identifier, f"cannot be read back: {exc}") from exc
    except DAMAGE as exc:
        raise StoreError(uri, identifier, f"cannot be read back: {told(exc, patience)}") from exc


def _denied(error: requests.RequestException, patience: Patience) -> str:
    return f"{told(error, patience)}; credentials come from VOXFLEET_DICOMWEB_* or .netrc"


def _may_pass(error: requests.RequestException) -> bool:
    """Whether the same request may succeed later: no answer, a server's own trouble, or too many requests."""
    status = status_of(error)
    if status is not None:
        return status >= _SERVER_ERROR or status in BUSY_OR_BROKEN
    return not isinstance(error, requests.exceptions.SSLError | requests.exceptions.JSONDecodeError)
