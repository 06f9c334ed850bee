"""The error about a model that is not there fits a line, and offers what may have been meant."""

from __future__ import annotations

from voxfleet.models.catalogue import UnknownModel

KNOWN = ("covid-opacity-hu", "ct-threshold", *(f"totalsegmentator:{task}" for task in ("body", "total", "total_fast")))


def test_a_near_name_is_offered():
    """A slip of the finger, or a task without its package, is met with the names like it."""
    assert "'ct-treshold', perhaps ct-threshold; known" in str(UnknownModel("ct-treshold", KNOWN))
    assert "perhaps totalsegmentator:total or totalsegmentator:total_fast; known" in str(UnknownModel("total", KNOWN))


def test_collections_are_counted_not_listed():
    """Forty tasks of one package are a number."""
    assert str(UnknownModel("lungs", KNOWN)) == (
        "no model 'lungs'; known are covid-opacity-hu, ct-threshold and 3 more, see `voxfleet models`"
    )
