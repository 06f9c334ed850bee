"""Models by name, and the cards they declare."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from pydicom.sr._concepts_dict import concepts
from voxfleet.models import card_file, catalogue

CARDS = Path(card_file.__file__).parent / "cards"
SNOMED_ONLY = {"95436008"}
"""SNOMED CT concepts that no DICOM context group holds."""


def test_names_are_the_cards_on_disk():
    """Every card has a model, and every model of ours a card."""
    assert (
        set(catalogue.names())
        >= {path.stem for path in CARDS.glob("*.yaml")}
        == {"covid-opacity-hu", "ct-threshold", "meshnet-gwm"}
    )


def test_every_adapter_is_in_the_catalogue():
    """Each file of models/adapters is what loads a model, a family or a collection, and each of these has its file."""
    families = [place for places in catalogue._FAMILIES.values() for place in places[1:]]
    named = {place.partition(":")[0] for place in (*catalogue._ADAPTERS.values(), *families)}
    files = {path.stem for path in (CARDS.parent / "adapters").glob("[!_]*.py")}
    assert named | set(catalogue._COLLECTIONS.values()) == files


@pytest.mark.parametrize("name", ["ct-threshold", "covid-opacity-hu"])
def test_loaded_model_shows_its_card(name):
    """A model loads by name and carries the card of that name, weight-free and for CT."""
    card = catalogue.load(name).card
    assert card == catalogue.card(name)
    assert (card.name, card.modality, card.weights_sha256, card.gpu_bytes) == (name, ("CT",), "none", 0)
    assert "not a diagnosis" in card.intended_use
    assert all("doi:10." in citation for citation in card.citations)


@pytest.mark.parametrize("name", ["ct-threshold", "covid-opacity-hu", "meshnet-gwm"])
def test_codes_are_those_of_dicom(name):
    """Codes of all segments stand in DICOM PS3.16, but for the one SNOMED CT concept named here."""
    known = {
        (value, scheme) for scheme in ("SCT", "DCM") for meanings in concepts[scheme].values() for value in meanings
    }
    for segment in catalogue.card(name).segments:
        for code in (segment.type, segment.laterality, segment.anatomic_region):
            if code is not None and code.value not in SNOMED_ONLY:
                assert (code.value, code.scheme_designator) in known, code


def test_unknown_name_lists_the_known():
    """A name that is no model gives an error with those that are."""
    for ask in (catalogue.card, catalogue.load):
        with pytest.raises(catalogue.UnknownModel, match="no model 'lungs'; known are covid-opacity-hu, ct-threshold"):
            ask("lungs")


def test_third_party_model_is_found(monkeypatch):
    """An entry point of the group `voxfleet.models` adds a model, loaded on the device asked for."""

    class Source:
        @staticmethod
        def card():
            return catalogue.card("ct-threshold")

        @staticmethod
        def load(card, device):
            return (card.name, device)

    monkeypatch.setattr(EntryPoint, "load", lambda self: Source)
    point = EntryPoint("other", "somewhere:source", catalogue.ENTRY_POINTS)
    monkeypatch.setattr(catalogue, "entry_points", lambda *, group: [point] if group == catalogue.ENTRY_POINTS else [])
    assert "other" in catalogue.names()
    assert catalogue.card("other").name == "ct-threshold"
    assert catalogue.load("other", "cuda:1") == ("ct-threshold", "cuda:1")


def test_nothing_heavy_is_imported():
    """Loading a weight-free model imports neither torch nor ray nor radiomics."""
    code = (
        "import sys; from voxfleet.models import catalogue; catalogue.load('covid-opacity-hu');"
        "print([m for m in ('torch', 'ray', 'radiomics', 'skimage') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
