"""Opacity and lungs, however an expert or a model codes them."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.sr.coding import Code
from voxfleet.benchmarks.crosswalk import load_crosswalk
from voxfleet.benchmarks.opacity import lungs_of, opacity_of
from voxfleet.benchmarks.pairing import outlined, pair_structures
from voxfleet.benchmarks.references.packed_mask import pack
from voxfleet.benchmarks.references.reference import Annotation, Origin, Structure
from voxfleet.enrich.phantom import Phantom, chest_phantom
from voxfleet.models.codes import LUNG

OPACITY = Structure(1, "Infectious opacity", type=Code("112001", "DCM", "Opacity"), anatomic_region=LUNG)


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    """A chest with ground glass and consolidation: labels 6 to 9, within the lungs 2 and 3."""
    return chest_phantom((24, 64, 64), (12.0, 5.6, 5.6), seed=1)


@pytest.fixture(scope="module")
def truth(phantom: Phantom) -> Annotation:
    """Its truth as an annotation."""
    structures = tuple(
        Structure(s.number, s.name, s.category, s.type, s.laterality, s.anatomic_region) for s in phantom.truth.segments
    )
    shape = phantom.volume.spatial_shape
    masks = {each.number: pack(phantom.truth.mask(each.number), shape) for each in structures}
    geometry = phantom.volume.get_geometry()
    return Annotation("1.2.3", "", Origin("truth", "phantom"), geometry, structures, masks)


def test_phantom_by_its_truth(phantom: Phantom, truth: Annotation) -> None:
    """The opacity is four segments together, the lungs are both with the opacity in them."""
    labels = phantom.truth.labelmap.array
    opacity, lungs = opacity_of(truth), lungs_of(truth, load_crosswalk())
    assert opacity is not None
    assert lungs is not None
    assert opacity.voxels == np.count_nonzero(labels >= 6)
    assert lungs.voxels == np.count_nonzero(np.isin(labels, (2, 3, 6, 7, 8, 9)))


def test_opacity_without_lungs(truth: Annotation) -> None:
    """A reader who drew an opacity only has no lungs; one who drew lungs only no opacity."""
    geometry, mask = truth.geometry, truth.masks[6]
    reader = Annotation("1.2.3", "", Origin("reader", "MD.ai JSON"), geometry, (OPACITY,), {1: mask})
    found = opacity_of(reader)
    assert found is not None
    assert found.voxels == mask.voxels
    assert lungs_of(reader, load_crosswalk()) is None
    lungs = (Structure(1, "lung", type=LUNG),)
    only = Annotation("1.2.3", "", Origin("reader", "MD.ai JSON"), geometry, lungs, {1: truth.masks[2]})
    assert opacity_of(only) is None
    assert lungs_of(only, load_crosswalk()) is not None


def test_one_opacity_is_all_kinds_of_the_model(truth: Annotation) -> None:
    """RICORD's opacity pairs with ground glass and consolidation of both lungs together."""
    (pair,) = pair_structures([OPACITY], outlined(truth), load_crosswalk()).pairs
    assert {*pair.prediction.numbers} == {6, 7, 8, 9}
