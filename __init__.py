"""Imaging-AI models over whole DICOM collections, with the results given back to the archive."""

from __future__ import annotations

from typing import ClassVar

__version__ = "0.1.0"


class Error(Exception):
    """Base of every error that Voxfleet raises on purpose.

    Each subclass stands beside the code that raises it, passes every argument to
    ``super().__init__`` (Ray and our own worker processes pickle errors) and says
    three things that the ledger records.

    Attributes
    ----------
    code : str
        Reason in capitals, e.g. ``GANTRY_TILT``; stable, for machines.
    retryable : bool
        Whether the same work may succeed when tried again.
    refused : bool
        Whether the input breaks a rule (nothing failed, and nothing is to be tried again).
    """

    code: str = "ERROR"
    retryable: ClassVar[bool] = False
    refused: ClassVar[bool] = False
