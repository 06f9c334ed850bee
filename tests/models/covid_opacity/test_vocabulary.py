"""RICORD's labels and their codes."""

from __future__ import annotations

from voxfleet.enrich.features.feature_codes import PRIVATE_SCHEME
from voxfleet.models import codes as model_codes
from voxfleet.models.covid_opacity import vocabulary


def test_labels_are_ricords():
    """The labels of instances in MIDRC-RICORD-1a_annotations_labelgroup_all_2020-Dec-8.json."""
    assert {each.label for each in vocabulary.FINDINGS} == {
        "Atelectasis",
        "Infectious cavity",
        "Infectious opacity",
        "Infectious TIB/micronodules",
        "Noninfectious nodule/mass",
        "Other noninfectious opacity",
    }


def test_codes_are_told_apart():
    """Every label has a code of its own that an SH holds; private ones are of the project's one scheme."""
    codes = [each.code for each in vocabulary.FINDINGS]
    assert len({code.value for code in codes}) == len(codes)
    assert all(len(code.value) <= 16 for code in codes)
    assert {code.scheme_designator for code in codes} == {"SCT", PRIVATE_SCHEME}
    assert model_codes.PRIVATE_SCHEME == PRIVATE_SCHEME
