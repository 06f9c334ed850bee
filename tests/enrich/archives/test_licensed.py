"""A policy of licences over an archive's search."""

from __future__ import annotations

import pytest
from voxfleet.enrich.archives.archive import RefusedObject, SeriesEntry
from voxfleet.enrich.archives.licensed import LicensedArchive, permits

ENTRIES = (
    SeriesEntry("1", "1.1", "CT", 1, None, "CC BY 4.0", "10.7937/a"),
    SeriesEntry("1", "1.2", "CT", 1, None, "CC BY-NC 3.0", "10.7937/b"),
    SeriesEntry("1", "1.3", "CT", 1),
)


class Listing:
    """An archive as far as a search needs one."""

    uri = "listing"

    def search(self) -> list[SeriesEntry | RefusedObject]:
        """The entries, and one object that cannot be used."""
        return [*ENTRIES, RefusedObject("x", "NOT_DICOM", "reason")]


@pytest.mark.parametrize(
    ("allowed", "licence", "expected"),
    [
        ((), "", True),
        ((), "CC BY-NC 4.0", True),
        (("CC-BY",), "CC BY 4.0", True),
        (("CC-BY",), "CC BY 3.0", True),
        (("cc by 4.0",), "CC BY 4.0", True),
        (("CC-BY-4.0",), "CC BY 3.0", False),
        (("CC-BY",), "CC BY-NC 4.0", False),
        (("CC-BY",), "CC BY-SA 4.0", False),
        (("CC-BY",), "", False),
        (("CC-BY", "CC-BY-NC"), "CC BY-NC 3.0", True),
        (("CC-BY",), "National Library of Medicine Terms and Conditions; May 21, 2019", False),
    ],
)
def test_what_a_policy_lets_through(allowed: tuple[str, ...], licence: str, expected: bool) -> None:
    """A name without version allows all versions, and no licence with more conditions; unknown ones are refused."""
    assert permits(allowed, licence) is expected


def test_refused_series_are_told_with_reason() -> None:
    """Series under other licences become refusals that name the licence; all that is named is kept for citing."""
    archive = LicensedArchive(Listing(), ("CC-BY",))
    found = list(archive.search())
    assert found[0] == ENTRIES[0]
    assert [(each.identifier, each.code) for each in found[1:]] == [
        ("1.2", "LICENCE"),
        ("1.3", "LICENCE"),
        ("x", "NOT_DICOM"),
    ]
    assert "CC BY-NC 3.0" in found[1].reason
    assert archive.told == list(ENTRIES[:2])
