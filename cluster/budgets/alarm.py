"""Alarms: what a run has to say to people who do not watch it, by a webhook."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import Thread
from urllib.parse import urlsplit

import requests

from ... import Error

TIMEOUT_S = (5.0, 10.0)
"""Until the connection stands; until the answer comes."""

LAST_S = 15.0
"""How long the end of a run waits for what is still on its way."""

_LOG = logging.getLogger(__name__)


class BadWebhook(Error):
    """An alarm's address that nothing can be sent to."""

    code = "BAD_WEBHOOK"

    def __init__(self, url: str) -> None:
        super().__init__(url)

    def __str__(self) -> str:
        return "the alarm webhook is no http:// or https:// address"


@contextmanager
def alarms_to(url: str) -> Iterator[Callable[[Mapping[str, str]], None] | None]:
    """What sends an alarm to a webhook, while the block runs; None for an empty address."""
    if not url:
        yield None
        return
    webhook = Webhook(url)
    try:
        yield webhook.send
    finally:
        webhook.close()


class Webhook:
    """Sends alarms as JSON, each by one POST that nobody waits for; one that fails is a line in the log.

    Parameters
    ----------
    url : str
        It may hold a secret: no log and no message shows it.

    Raises
    ------
    BadWebhook
        If the address is none of HTTP.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise BadWebhook(url)
        self._url = url
        self._sending: list[Thread] = []

    def send(self, alarm: Mapping[str, str]) -> None:
        """Begin to send one alarm."""
        self._sending = [thread for thread in self._sending if thread.is_alive()]
        thread = Thread(target=self._post, args=(dict(alarm),), name="alarm", daemon=True)
        thread.start()
        self._sending.append(thread)

    def close(self) -> None:
        """Wait a while for what is still on its way."""
        for thread in self._sending:
            thread.join(LAST_S)

    def _post(self, alarm: dict[str, str]) -> None:
        try:
            requests.post(self._url, json=alarm, timeout=TIMEOUT_S).raise_for_status()
        except requests.RequestException as exc:
            status = "" if exc.response is None else f" {exc.response.status_code}"
            _LOG.warning("an alarm was not delivered: %s%s", type(exc).__name__, status)
