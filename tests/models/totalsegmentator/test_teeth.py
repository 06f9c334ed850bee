"""Codes of jaws and teeth, against DICOM's own table and the package's classes."""

from __future__ import annotations

import pytest

pytest.importorskip("totalsegmentator")

from pydicom.sr._cid_dict import cid_concepts
from pydicom.sr._concepts_dict import concepts
from totalsegmentator.map_to_binary import class_map
from voxfleet.models.codes import PRIVATE_SCHEME
from voxfleet.models.totalsegmentator.codes import coded

TEETH = [name for name in class_map["teeth"].values() if "_fdi" in name and "canal" not in name and "pulp" not in name]
PULPS = [name for name in class_map["teeth"].values() if "pulp" in name]


def meaning_in_dicom(value: str) -> str:
    """Of a code of CID 4018, in lower case."""
    (meaning,) = (found[value][0] for name in cid_concepts[4018]["SCT"] if value in (found := concepts["SCT"][name]))
    return str(meaning).lower()


@pytest.mark.parametrize("name", TEETH)
def test_a_tooth_has_its_code(name):
    """The words of a class are those of its code in CID 4018, Teeth."""
    jaw, side, *kind = name.rpartition("_fdi")[0].split("_")
    meaning = meaning_in_dicom(coded(name).type.value)
    expected = [{"upper": "maxillary", "lower": "mandibular"}[jaw], side, *kind, "tooth"]
    # DICOM leaves out this one word for one of the teeth.
    known = meaning.replace("left lateral tooth", "left lateral incisor tooth").removeprefix("permanent ")
    assert known.split() == expected


def test_all_permanent_teeth_are_there():
    """32 teeth, each with a code of its own, and 32 pulps, each in its tooth."""
    assert len({coded(name).type for name in TEETH}) == len(TEETH) == 32
    assert {coded(name).type.scheme_designator for name in PULPS} == {PRIVATE_SCHEME}
    for pulp in PULPS:
        bare, _, fdi = pulp.replace("_pulp", "").rpartition("_fdi")
        assert coded(pulp).region == coded(f"{bare}_fdi{int(fdi) - 100}").type
    assert len(PULPS) == 32
