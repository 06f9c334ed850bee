"""Whose silence it is, by a clock that is set by hand."""

from __future__ import annotations

import math

import pytest
from voxfleet.cluster.ledgers import contact
from voxfleet.cluster.ledgers.contact import BREAK_S, Contact


def test_a_break_begins_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence before the first heartbeat is none; after it one lasts until an answer, and contact counts from there."""
    now = 1000.0
    monkeypatch.setattr(contact, "_now", lambda: now)
    ours = Contact()
    now += 10 * BREAK_S
    ours.answer()
    ours.begin()
    for _ in range(5):
        now += BREAK_S
        assert ours.lasts_s == math.inf
        ours.answer()
    now += BREAK_S + 1
    assert ours.lasts_s == 0
    ours.begin()
    now += 100
    assert ours.lasts_s == 0, "who asks and gets no answer is cut off still"
    ours.answer()
    now += 7
    assert ours.lasts_s == 7
    ours.answer()
    now += 7
    assert ours.lasts_s == 14
