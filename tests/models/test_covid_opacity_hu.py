"""covid-opacity-hu on generated opacities and on real lungs."""

from __future__ import annotations

import pickle

import highdicom as hd
import numpy as np
import pytest
from voxfleet.enrich.phantom import CONSOLIDATION_BALL, GROUND_GLASS_BALL, chest_phantom
from voxfleet.enrich.phantom_anatomy import Opacity
from voxfleet.models import catalogue
from voxfleet.models.rules.opacity import NoLung
from voxfleet.models.segmentation import Segmentation

from .conftest import dice

RIGHT_LUNG, LEFT_LUNG, RIGHT_GLASS, RIGHT_SOLID, LEFT_GLASS, LEFT_SOLID = range(1, 7)
MODEL = catalogue.load("covid-opacity-hu")
GRIDS = [((40, 96, 96), (6.0, 4.0, 4.0)), ((48, 128, 128), (6.0, 2.8, 2.8)), ((95, 200, 200), (3.0, 1.8, 1.8))]


def volume_ml(segmentation: Segmentation, number: int) -> float:
    """Millilitres of one segment."""
    return np.count_nonzero(segmentation.mask(number)) * float(np.prod(segmentation.labelmap.spacing)) / 1000


@pytest.mark.parametrize(("shape", "spacing_mm"), GRIDS)
def test_balls_of_known_volume_are_measured(shape, spacing_mm):
    """33.5 ml of ground glass on the right and 14.1 ml of consolidation on the left, within 10 % of the truth."""
    phantom = chest_phantom(shape, spacing_mm, seed=1)
    found = MODEL.segment(phantom.volume, {})
    assert volume_ml(found, RIGHT_GLASS) == pytest.approx(volume_ml(phantom.truth, 6), rel=0.1)
    assert volume_ml(found, LEFT_SOLID) == pytest.approx(volume_ml(phantom.truth, 9), rel=0.1)
    assert dice(found.mask(RIGHT_LUNG), phantom.truth.mask(2)) > 0.95
    assert dice(found.mask(LEFT_LUNG), phantom.truth.mask(3)) > 0.95


@pytest.mark.parametrize(("shape", "spacing_mm"), GRIDS)
def test_healthy_phantom_has_next_to_none(shape, spacing_mm):
    """Vessels, airway walls and the pleura's partial volume make less than 0.1 % of the lungs."""
    found = MODEL.segment(chest_phantom(shape, spacing_mm, seed=5, opacities=()).volume, {})
    opacity = sum(volume_ml(found, number) for number in (RIGHT_GLASS, RIGHT_SOLID, LEFT_GLASS, LEFT_SOLID))
    assert opacity < 0.001 * (volume_ml(found, RIGHT_LUNG) + volume_ml(found, LEFT_LUNG))


@pytest.mark.parametrize(("shape", "spacing_mm"), GRIDS)
def test_consolidation_at_the_chest_wall_is_lung(shape, spacing_mm):
    """Of a dense ball that the pleura cuts more than 60 % is found, and not a voxel beyond the lung."""
    ball = Opacity((0.0, 20.0, 118.0), 18.0, 20)
    phantom = chest_phantom(shape, spacing_mm, seed=3, opacities=(ball,))
    found, truth = MODEL.segment(phantom.volume, {}).mask(LEFT_SOLID), phantom.truth.mask(9)
    assert np.mean(found[truth]) > 0.6
    assert not (found & ~phantom.truth.mask(3)).any()


def test_opacities_share_the_lung(cip_ct):
    """Each lung contains its opacities, which lie nowhere else, and no voxel is in both lungs."""
    found = MODEL.segment(cip_ct, {})
    assert [segment.contains for segment in found.segments[:2]] == [(3, 4), (5, 6)]
    assert not (found.mask(RIGHT_LUNG) & found.mask(LEFT_LUNG)).any()


def test_real_lungs_without_pneumonia(cip_ct, cip_lungs):
    """Lungs as the Chest Imaging Platform sees them; under 1 % is dense, where bands alone find 5 times that."""
    found = MODEL.segment(cip_ct, {})
    lungs = found.mask(RIGHT_LUNG) | found.mask(LEFT_LUNG)
    assert dice(lungs, cip_lungs) > 0.95
    dense = np.isin(found.labelmap.array, (RIGHT_GLASS, RIGHT_SOLID, LEFT_GLASS, LEFT_SOLID))
    bands = (cip_ct.array >= -700) & (cip_ct.array <= 100) & lungs
    assert np.count_nonzero(dense) < 0.01 * np.count_nonzero(lungs)
    assert np.count_nonzero(bands) > 5 * np.count_nonzero(dense)


def test_bands_are_parameters():
    """Ground glass of -550 HU is consolidation once the border is moved to -600 HU."""
    phantom = chest_phantom(seed=1, opacities=(GROUND_GLASS_BALL,))
    found = MODEL.segment(phantom.volume, {"consolidation_hu": "-600"})
    assert volume_ml(found, RIGHT_GLASS) < 0.2 * volume_ml(found, RIGHT_SOLID)


def test_turned_scan_gives_the_same():
    """Stored feet first, right to left and transposed: the same voxels on its own grid."""
    volume = chest_phantom(seed=1, opacities=(GROUND_GLASS_BALL, CONSOLIDATION_BALL)).volume
    turned = volume.to_patient_orientation("RFA")
    expected = MODEL.segment(volume, {}).labelmap.to_patient_orientation("RFA").array
    np.testing.assert_array_equal(expected, MODEL.segment(turned, {}).labelmap.array)


def test_no_lung_is_refused(abdomen_ct):
    """A pelvis is refused with NO_LUNG, by an error that survives pickling."""
    with pytest.raises(NoLung, match="no aerated lung") as caught:
        MODEL.segment(abdomen_ct[:, :, :40], {})
    error = pickle.loads(pickle.dumps(caught.value))
    assert (error.code, error.refused, error.retryable) == ("NO_LUNG", True, False)


def test_no_lung_in_air():
    """A volume of nothing but air has no lung."""
    with pytest.raises(NoLung):
        MODEL.segment(hd.Volume(np.full((3, 4, 5), -1000, dtype=np.int16), np.eye(4), "PATIENT"), {})
