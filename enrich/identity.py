"""UIDs that the same work gives again: the key of idempotence made into DICOM UIDs."""

from __future__ import annotations

import uuid

NAMESPACE = uuid.UUID("5f0d2c1e-6c39-5d0a-9b0e-6f1f2f6d8a11")
"""Name space of our version 5 UUIDs (RFC 9562); never changes."""


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
