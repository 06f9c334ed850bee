"""Bearer tokens (RFC 6750) that we fetch ourselves: kept, fetched anew before they expire, and once when refused."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Final

import requests
from requests.auth import AuthBase

EARLY_S: Final = 60.0
"""A token is fetched anew this long before it expires."""
EARLY_SHARE: Final = 0.2
"""Or this share of its life, if that is shorter."""
_UNAUTHORIZED = 401


class TokenRefused(requests.RequestException):
    """Whoever gives tokens gives us none; the message holds no secret."""


class TokenUnanswered(requests.ConnectionError):
    """Whoever gives tokens does not answer, or says that it cannot just now."""


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token and the seconds for which it is good from now on."""

    value: str = field(repr=False)
    life_s: float


class TokenAuth(AuthBase):
    """Puts a token into each request.

    Parameters
    ----------
    fetch : callable
        Gives a new token; raises `TokenRefused` or `TokenUnanswered`.
    clock : callable
        Seconds that only go forward.
    """

    def __init__(self, fetch: Callable[[], Token], clock: Callable[[], float] = time.monotonic) -> None:
        self._fetch, self._clock = fetch, clock
        self._lock = Lock()
        self._value, self._good_until = "", 0.0

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Set the Authorization field, and look at the answer."""
        request.headers["Authorization"] = f"Bearer {self._current()}"
        request.register_hook("response", self._answered)
        return request

    def __repr__(self) -> str:
        return "TokenAuth(...)"

    def _current(self) -> str:
        with self._lock:
            if self._clock() >= self._good_until:
                token = self._fetch()
                self._value = token.value
                self._good_until = self._clock() + token.life_s - min(EARLY_S, EARLY_SHARE * token.life_s)
            return self._value

    def _answered(self, response: requests.Response, **sending: Any) -> requests.Response:
        """Send a request that was answered with 401 once more, with a new token."""
        scheme, _, refused = str(response.request.headers.get("Authorization", "")).partition(" ")
        if response.status_code != _UNAUTHORIZED or scheme != "Bearer":
            return response  # also where a redirect led to another host, which is not to have our token
        _ = response.content  # read, so that the connection can be used again
        response.close()
        self._forget(refused)
        again = response.request.copy()
        again.headers["Authorization"] = f"Bearer {self._current()}"
        body: Any = again.body
        if hasattr(body, "seek"):
            body.seek(0)
        answer: requests.Response = response.connection.send(again, **sending)
        answer.history.append(response)
        answer.request = again
        return answer

    def _forget(self, refused: str) -> None:
        """Have the next request fetch a token, unless another thread has done so."""
        with self._lock:
            if self._value == refused:
                self._good_until = 0.0
