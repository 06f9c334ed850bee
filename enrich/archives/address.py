"""What is wrong with the address of an archive, or with what is installed for it."""

from __future__ import annotations

from ... import Error


class BadArchiveUri(Error):
    """A URI that cannot be an archive's address; the message holds no credentials."""

    code = "BAD_ARCHIVE_URI"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)


class MissingExtra(Error):
    """An archive whose library is not installed."""

    code = "MISSING_EXTRA"

    def __init__(self, scheme: str, extra: str) -> None:
        super().__init__(scheme, extra)

    def __str__(self) -> str:
        scheme, extra = self.args
        return f"archives {scheme}: need a library that is not installed: pip install 'voxfleet[{extra}]'"
