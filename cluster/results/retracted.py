"""Which of a run's stored objects were taken back: events of its ledger, which nothing ever changes."""

from __future__ import annotations

from ..ledger import Ledger

KIND = "retracted"


def note_retracted(ledger: Ledger, sop_instance_uid: str, how: str) -> None:
    """Write down that an object was taken back, and how."""
    ledger.event("info", KIND, f"{sop_instance_uid} {how}")


def retracted(ledger: Ledger) -> frozenset[str]:
    """SOP Instance UIDs of all objects of the run that were taken back."""
    return frozenset(each.detail.partition(" ")[0] for each in ledger.events() if each.kind == KIND)
