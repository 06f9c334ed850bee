"""A score that exists can be counted."""

from __future__ import annotations

import math
import pickle

import pytest
from voxfleet.benchmarks.score import Case, InvalidScore, Score

CASE = Case("P1", "1.2.3", "model")


def test_undefined_is_told_from_failed():
    """NaN is no value; a failure has one."""
    assert not Score(CASE, "liver", "dice", math.nan, "1").defined
    assert Score(CASE, "liver", "dice", 0.0, "1", "GANTRY_TILT").defined


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("liver", "dice", math.inf, "1"), "value is inf"),
        (("", "dice", 1.0, "1"), "segment, metric or unit is empty"),
        (("liver", "dice", 1.0, ""), "segment, metric or unit is empty"),
        (("liver", "dice", math.nan, "1", "CRASH"), "a failure has a reason and the metric's worst value"),
        (("liver", "dice", 0.0, "1", ""), "a failure has a reason and the metric's worst value"),
    ],
)
def test_what_is_refused(arguments, reason):
    """No infinite value, no nameless score, no failure without reason or value."""
    with pytest.raises(InvalidScore, match=reason):
        Score(CASE, *arguments)


def test_case_names_all():
    """A case without patient could not be resampled."""
    with pytest.raises(InvalidScore, match=r"series 1\.2\.3: its patient_id is empty") as caught:
        Case("", "1.2.3", "model")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
