"""Series of an archive become workitems; what is no image is passed over, what is broken is told."""

from __future__ import annotations

from dataclasses import replace

import pytest
from voxfleet.enrich.archives.archive import RefusedObject, SeriesEntry
from voxfleet.models import catalogue
from voxfleet.models.parameters import InvalidParameter
from voxfleet.runners.worklist import LabelmapCannotOverlap, UnknownParameter, wish, worklist


class Listing:
    """An archive that lists what it is given."""

    uri = "dir:/listing"

    def __init__(self, *found):
        self.found = found

    def search(self):
        """What was given."""
        return iter(self.found)


def entry(uid: str, modality: str) -> SeriesEntry:
    """A series of ten instances."""
    return SeriesEntry("1.2", uid, modality, 10)


def test_each_series_and_model_make_a_workitem():
    """Two models over CT and PT give four workitems with four keys; SEG and SR of ours give none."""
    archive = Listing(entry("1.1", "CT"), entry("1.2", "PT"), entry("1.3", "SEG"), entry("1.4", "SR"))
    wishes = tuple(wish(catalogue.card(name), {}, "BINARY", repair=False) for name in catalogue.names()[:2])
    items = list(worklist(archive, wishes, "dir:/target"))
    assert [(item.series_instance_uid, item.model) for item in items] == [
        (uid, each.card.name) for uid in ("1.1", "1.2") for each in wishes
    ]
    assert len({item.key for item in items}) == 4


def test_refused_objects_pass_through():
    """What the search could not use is handed on as it is."""
    refused = RefusedObject("a.txt", "NOT_DICOM", "no DICM prefix")
    asked = wish(catalogue.card("ct-threshold"), {}, "BINARY", repair=False)
    assert list(worklist(Listing(refused), (asked,), "")) == [refused]


def test_the_key_depends_on_what_decides_the_result_only():
    """Source and target leave the key as it is; repair, parameters and the features asked for change it."""
    card = catalogue.card("covid-opacity-hu")
    name = next(iter(card.parameters))

    def key(target: str = "", **change) -> str:
        options = {"changes": {}, "segmentation_type": "BINARY", "repair": False, "features": ""} | change
        asked = wish(card, **options)
        (item,) = worklist(Listing(entry("1.1", "CT")), (asked,), target)
        return item.key

    assert key() == key(target="dir:/elsewhere")
    assert len({key(), key(repair=True), key(changes={name: "-1"}), key(features="{}"), key(features="[]")}) == 5


def test_unknown_parameter_is_refused_with_the_known_ones():
    """A misspelt parameter is an error that lists the right ones."""
    with pytest.raises(UnknownParameter, match="no parameter 'hounsfeld'"):
        wish(catalogue.card("covid-opacity-hu"), {"hounsfeld": "1"}, "BINARY", repair=False)


def test_labelmap_of_overlapping_segments_is_refused_before_any_compute():
    """The lungs contain their opacities, which a label map cannot hold."""
    with pytest.raises(LabelmapCannotOverlap, match="--seg binary"):
        wish(catalogue.card("covid-opacity-hu"), {}, "LABELMAP", repair=False)


@pytest.mark.parametrize("value", ["abc", "", "nan", "inf"])
def test_a_value_that_is_no_number_is_refused_before_any_series(value):
    """A parameter that is a number on the card takes finite numbers only."""
    with pytest.raises(InvalidParameter, match="parameter vessel_radius_mm"):
        wish(catalogue.card("covid-opacity-hu"), {"vessel_radius_mm": value}, "BINARY", repair=False)


def test_a_value_that_is_text_on_the_card_stays_free():
    """A model may have parameters that are words."""
    card = replace(catalogue.card("ct-threshold"), parameters={"mode": "fast"})
    assert wish(card, {"mode": "slow"}, "BINARY", repair=False).parameters == (("mode", "slow"),)
