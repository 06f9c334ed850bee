"""UIDs and series numbers that the same work gives again: the key of idempotence made into DICOM."""

from __future__ import annotations

import hashlib
import uuid

NAMESPACE = uuid.UUID("5f0d2c1e-6c39-5d0a-9b0e-6f1f2f6d8a11")
"""Name space of our version 5 UUIDs (RFC 9562); never changes."""
SERIES_NUMBER_STEP = 10_000
"""Our series are numbered source x 10,000 + offset: room for 4,999 models, which draw their places without a search.

The published collection, of one model, has source x 100; a hundred leaves 49 places, and of ten
models two would meet in two studies of three.
"""
HIGHEST_SOURCE_NUMBER = (2**31 - 1) // SERIES_NUMBER_STEP - 1
"""Highest Series Number whose products still fit an IS (PS3.5 table 6.2-1)."""
LOWEST_SUBSTITUTE = 200_000
"""Numbers that stand in for a source without a usable one start here, far from real ones."""


def derived_uid(key: str, kind: str) -> str:
    """UID under 2.25 (PS3.5 B.2) that depends on nothing but `key` and `kind`.

    Parameters
    ----------
    key : str
        The workitem's key (digest of series, model, weights, parameters, platform version).
    kind : str
        What is named: ``seg.series``, ``seg.instance``, ``sr.instance``, ``tracking.7``, ...
    """
    return f"2.25.{uuid.uuid5(NAMESPACE, f'{key}/{kind}').int}"


def series_offset(model: str) -> int:
    """Even number of 2 to 9,998 that stays with a model's name: its SEG's place among the source's ten thousand."""
    digest = int.from_bytes(hashlib.sha256(model.encode()).digest()[:8], "big")
    return 2 + 2 * (digest % (SERIES_NUMBER_STEP // 2 - 1))


def series_number(source_number: int | None, series_instance_uid: str, offset: int) -> int:
    """Series Number (0020,0011) of a product: source x 10,000 + offset.

    Parameters
    ----------
    source_number : int or None
        Series Number of the source; where it is absent, below 1 or too large for an IS, a
        number drawn from the source's UID takes its place.
    series_instance_uid : str
        Of the source.
    offset : int
        `series_offset` for the SEG, one more for its SR.
    """
    if source_number is None or not 1 <= source_number <= HIGHEST_SOURCE_NUMBER:
        digest = int.from_bytes(hashlib.sha256(series_instance_uid.encode()).digest()[:8], "big")
        source_number = LOWEST_SUBSTITUTE + digest % (HIGHEST_SOURCE_NUMBER - LOWEST_SUBSTITUTE)
    return source_number * SERIES_NUMBER_STEP + offset
