"""Whether an archive's error says that the archive is away or busy, for every object and not for this one."""

from __future__ import annotations

import requests

from .archive import ArchiveError, SearchUnanswered
from .http_answers import may_pass, status_of


def is_outage(error: BaseException) -> bool:
    """Whether an archive did not answer, or answered that it cannot just now (HTTP 408, 429, 5xx; DIMSE alike).

    Such an error says nothing of the object that was on its way: another would have met it, too. An answer
    that was cut or makes no sense does not count as one, nor does what cannot be written to this machine's disk.
    """
    if not isinstance(error, ArchiveError) or not error.retryable:
        return False
    if isinstance(error, SearchUnanswered):
        return True
    cause = error.__cause__
    while isinstance(cause, ArchiveError):
        if isinstance(cause, SearchUnanswered):
            return True
        cause = cause.__cause__
    return cause is not None and _is_silence(cause)


def _is_silence(cause: BaseException) -> bool:
    """Whether a transport's own error says so; transports other than HTTP are extras, not imported for nothing."""
    if isinstance(cause, requests.RequestException):
        cut = isinstance(cause, requests.exceptions.ChunkedEncodingError | requests.exceptions.ContentDecodingError)
        return not cut and may_pass(status_of(cause), cause)
    package = type(cause).__module__.partition(".")[0]
    if package == "obstore":
        from .bucket.errors import answer_of

        return answer_of(cause).may_pass if isinstance(cause, Exception) else False
    if package == "xnat":
        from .xnat.errors import status_of as status_of_xnat

        return isinstance(cause, Exception) and may_pass(status_of_xnat(cause), cause)
    from .dimse.errors import DimseFault, FaultKind

    return isinstance(cause, DimseFault) and cause.kind is FaultKind.PASSING
