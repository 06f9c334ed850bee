"""UIDs and numbers of what we make."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import UID
from voxfleet.enrich.identity import NAMESPACE, derived_uid, series_number, series_offset
from voxfleet.models import catalogue


def test_uid_is_uuid_version_5_under_2_25() -> None:
    """A derived UID is the decimal of RFC 9562's version 5 UUID under 2.25 (PS3.5 B.2), and always the same."""
    expected = uuid.uuid5(NAMESPACE, "abc/seg.series")
    assert expected.version == 5
    assert derived_uid("abc", "seg.series") == f"2.25.{int(expected.hex, 16)}"
    assert derived_uid("abc", "seg.series") == "2.25.56668520379417582238489642098056363732"


@given(st.text(), st.text())
def test_uid_is_valid(key: str, kind: str) -> None:
    """Every derived UID keeps to PS3.5 9.1."""
    assert UID(derived_uid(key, kind)).is_valid


@given(st.text())
def test_offset_leaves_room_for_the_sr(model: str) -> None:
    """A SEG's offset is even, its SR's the next, and both lie within the source's ten thousand."""
    offset = series_offset(model)
    assert offset % 2 == 0
    assert 1 <= offset < offset + 1 <= 9_999


def test_no_two_models_of_the_catalogue_meet() -> None:
    """SEG and SR of every model that can be named get Series Numbers of their own in a study."""
    names = catalogue.names()
    offsets = {series_offset(name) + role for name in names for role in (0, 1)}
    assert len(offsets) == 2 * len(names)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (1, 10_042),  # 1 x 10,000 + 42
        (203, 2_030_042),
        (214_747, 2_147_470_042),
    ],
)
def test_number_is_source_times_ten_thousand_plus_offset(source: int, expected: int) -> None:
    """Series Number is source x 10,000 + offset."""
    assert series_number(source, "1.2.3", 42) == expected


@pytest.mark.parametrize("source", [None, 0, -7, 214_748, 2**31 - 1])
def test_number_without_usable_source_fits_an_is(source: int | None) -> None:
    """A source without a usable number gives a stable one that fits an IS and is far from real ones."""
    number = series_number(source, "1.2.3", 99)
    assert number == series_number(source, "1.2.3", 99)
    assert number != series_number(source, "1.2.4", 99)
    assert 2_000_000_000 <= number <= 2**31 - 1


@given(st.integers())
def test_number_always_fits_an_is(source: int) -> None:
    """No source number leads out of an IS (PS3.5 table 6.2-1)."""
    assert 1 <= series_number(source, "1.2.3", 9_999) <= 2**31 - 1
