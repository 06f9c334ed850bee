"""UIDs and numbers of what we make."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import UID
from voxfleet.enrich.identity import NAMESPACE, derived_uid, series_number, series_offset


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
    """A SEG's offset is even, its SR's the next, and both lie within the source's hundred."""
    offset = series_offset(model)
    assert offset % 2 == 0
    assert 1 <= offset < offset + 1 <= 99


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (1, 142),  # 1 x 100 + 42
        (203, 20342),
        (21_474_835, 2_147_483_542),
    ],
)
def test_number_is_source_times_hundred_plus_offset(source: int, expected: int) -> None:
    """Series Number is source x 100 + offset, as in the published collection."""
    assert series_number(source, "1.2.3", 42) == expected


@pytest.mark.parametrize("source", [None, 0, -7, 21_474_837, 2**31 - 1])
def test_number_without_usable_source_fits_an_is(source: int | None) -> None:
    """A source without a usable number gives a stable one that fits an IS and is far from real ones."""
    number = series_number(source, "1.2.3", 99)
    assert number == series_number(source, "1.2.3", 99)
    assert number != series_number(source, "1.2.4", 99)
    assert 100_000_000 < number <= 2**31 - 1


@given(st.integers())
def test_number_always_fits_an_is(source: int) -> None:
    """No source number leads out of an IS (PS3.5 table 6.2-1)."""
    assert 1 <= series_number(source, "1.2.3", 99) <= 2**31 - 1
