"""What other libraries say in our processes: never a value out of a header."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import TextIO

_TALKERS = ("pydicom", "highdicom", "urllib3.connectionpool")
"""Loggers whose messages quote patients' names and dates, or addresses that are made of a Patient ID (XNAT's)."""
_LOG = logging.getLogger(__name__)


def be_discreet() -> None:
    """Silence the loggers that quote values, and let a warning be told by its kind and place alone.

    For the beginning of a process of ours, not for a library that others call: it changes what
    `warnings` does everywhere.
    """
    for name in _TALKERS:
        logger = logging.getLogger(name)
        logger.setLevel(logging.CRITICAL + 1)
        # When pydicom is imported, which may be later, it sets its own logger's level.
        logger.disabled = True
    warnings.showwarning = _told


def _told(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Log where a warning was raised; its text, which may quote a header, is left out."""
    del message, file, line
    place = Path(filename)
    _LOG.info("%s at %s/%s:%d", category.__name__, place.parent.name, place.name, lineno)
