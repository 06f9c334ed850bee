"""What HTTP answers: kinds of status codes, and what went wrong in one sentence."""

from __future__ import annotations

import ssl
from typing import Final

import requests

from .http_session import Patience
from .tokens import TokenRefused, TokenUnanswered

UNAUTHORIZED: Final = 401
DENIED: Final = (UNAUTHORIZED, 403)
NOT_FOUND: Final = (404, 410)
CONFLICT: Final = 409
BUSY_OR_BROKEN: Final = (408, 429)
"""Beside 5xx, the codes after which trying again makes sense."""
SERVER_ERROR: Final = 500
INSUFFICIENT_STORAGE: Final = 507
_TRUST: Final = "REQUESTS_CA_BUNDLE names the file of the authorities that are trusted"
_LASTING: Final = (requests.exceptions.JSONDecodeError, TokenRefused)
_SENTENCES: Final[tuple[tuple[type[Exception], str], ...]] = (
    (requests.ConnectTimeout, "no connection within {patience.connect_s:g} s"),
    (requests.ReadTimeout, "no answer within {patience.read_s:g} s"),
    (requests.exceptions.SSLError, "no TLS connection, or it broke"),
    (requests.exceptions.ChunkedEncodingError, "the connection broke in the middle of an answer"),
    (requests.ConnectionError, "no connection, or it broke before an answer"),
)
"""In this order: each kind before the kinds that it is a case of."""


def status_of(error: requests.RequestException) -> int | None:
    """HTTP status code behind an error, or None if there was no answer."""
    return None if error.response is None else error.response.status_code


def may_pass(status: int | None, error: Exception) -> bool:
    """Whether the same request may succeed later: no answer, a server's own trouble, or too many requests."""
    if status is not None:
        return status >= SERVER_ERROR or status in BUSY_OR_BROKEN
    return not isinstance(error, _LASTING) and not _mistrust(error)


def is_denied(error: requests.RequestException) -> bool:
    """Whether we are not let in: by the archive, or by whoever gives the tokens for it."""
    return status_of(error) in DENIED or isinstance(error, TokenRefused)


def told(error: Exception, patience: Patience) -> str:
    """One sentence on what went wrong, without URL and so without anything that a URL may hold."""
    if isinstance(error, TokenRefused | TokenUnanswered):
        return str(error)
    if mistrust := _mistrust(error):
        return f"its TLS certificate was not accepted ({mistrust}); {_TRUST}"
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"answered {error.response.status_code} {error.response.reason or ''}".strip()
    if isinstance(error, requests.ConnectionError) and "Read timed out" in str(error):
        return f"no answer within {patience.read_s:g} s"
    for kind, sentence in _SENTENCES:
        if isinstance(error, kind):
            return sentence.format(patience=patience)
    return f"the answer cannot be understood ({type(error).__name__})"


def _mistrust(error: BaseException | None) -> str:
    """Why a certificate was not accepted; empty if that is not what went wrong."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return error.verify_message.rstrip(".")
        error = error.__cause__ or error.__context__
    return ""
