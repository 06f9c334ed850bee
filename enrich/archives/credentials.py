"""Credentials that cannot be used, for every kind of archive."""

from __future__ import annotations

from ... import Error


class BadCredentials(Error):
    """Credentials that are half given, or given twice; the message holds none of them."""

    code = "BAD_CREDENTIALS"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
