"""ct-threshold on generated and real chests."""

from __future__ import annotations

import highdicom as hd
import numpy as np
import pytest
from voxfleet.enrich.phantom import Phantom, chest_phantom
from voxfleet.models import catalogue
from voxfleet.models.parameters import InvalidParameter
from voxfleet.models.rules.working_grid import InvalidVolume

from .conftest import dice

BODY, RIGHT_LUNG, LEFT_LUNG, AIRWAY, BONE = 1, 2, 3, 4, 5
MODEL = catalogue.load("ct-threshold")

TOTALSEGMENTATOR_RIGHT_LUNG = (12, 13, 14)
TOTALSEGMENTATOR_LEFT_LUNG = (10, 11)
TOTALSEGMENTATOR_BONE = (*range(25, 51), *range(69, 79), *range(92, 118))


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    """A chest of 40 slices with both balls of opacity."""
    return chest_phantom(seed=1)


@pytest.mark.parametrize(
    ("number", "floor"), [(BODY, 0.98), (RIGHT_LUNG, 0.95), (LEFT_LUNG, 0.95), (AIRWAY, 0.85), (BONE, 0.95)]
)
@pytest.mark.parametrize(
    ("shape", "spacing_mm"),
    [((40, 96, 96), (6.0, 4.0, 4.0)), ((48, 128, 128), (6.0, 2.8, 2.8)), ((95, 200, 200), (3.0, 1.8, 1.8))],
)
def test_phantom_anatomy_is_found(shape, spacing_mm, number, floor):
    """Each structure of the phantom is found, on anisotropic grids, the finest of them averaged."""
    phantom = chest_phantom(shape, spacing_mm, seed=2, opacities=())
    found = MODEL.segment(phantom.volume, {})
    assert dice(found.mask(number), phantom.truth.mask(number)) > floor


def test_table_is_no_body(phantom):
    """The two sheets of the phantom's table, 114 mm and more behind its middle, are left out."""
    body = MODEL.segment(phantom.volume, {}).mask(BODY)
    assert not body[:, 78:].any()  # row 78 lies (78 - 47.5) * 4 = 122 mm behind the middle


def test_right_is_the_patients_right(phantom):
    """The right lung lies at smaller LPS x than the left one, and labels carry SNOMED CT's sides."""
    found = MODEL.segment(phantom.volume, {})
    x_mm = [found.labelmap.affine[0] @ [*np.argwhere(found.mask(n)).mean(axis=0), 1.0] for n in (RIGHT_LUNG, LEFT_LUNG)]
    assert x_mm[0] < 0 < x_mm[1]
    assert [found.segments[n - 1].laterality.value for n in (RIGHT_LUNG, LEFT_LUNG)] == ["24028007", "7771000"]


@pytest.mark.parametrize("orientation", ["FAR", "LPH", "RHA", "PLF"])
def test_orientation_does_not_matter(phantom, orientation):
    """A scan stored flipped and permuted gives the same voxels, bit for bit, on its own grid."""
    plain = MODEL.segment(phantom.volume, {}).labelmap
    turned = phantom.volume.to_patient_orientation(orientation)
    found = MODEL.segment(turned, {}).labelmap
    assert found.geometry_equal(turned)
    np.testing.assert_array_equal(plain.to_patient_orientation(orientation).array, found.array)


def test_oblique_scan_gives_the_same_voxels(phantom):
    """A patient lying askew by 20 degrees about two axes changes no voxel of the answer."""
    a, b = np.deg2rad([20.0, 20.0])
    turn = np.eye(4)
    turn[:3, :3] = [[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]]
    tip = np.eye(4)
    tip[:3, :3] = [[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]]
    oblique = hd.Volume(phantom.volume.array, turn @ tip @ phantom.volume.affine, "PATIENT")
    plain, found = (MODEL.segment(volume, {}).labelmap for volume in (phantom.volume, oblique))
    np.testing.assert_allclose(oblique.affine, found.affine)
    np.testing.assert_array_equal(plain.array, found.array)


def test_float_and_padding_change_nothing(phantom):
    """float32 and int16 give the same, and so does air outside the field of view stored as -3024."""
    plain = MODEL.segment(phantom.volume, {}).labelmap.array
    array = phantom.volume.array.astype(np.float32)
    np.testing.assert_array_equal(plain, MODEL.segment(phantom.volume.with_array(array), {}).labelmap.array)
    array[:, :4] = -3024
    np.testing.assert_array_equal(plain, MODEL.segment(phantom.volume.with_array(array), {}).labelmap.array)


def test_same_input_same_output(phantom):
    """Two runs agree bit for bit, and the input is left as it was."""
    before = phantom.volume.array.copy()
    first, second = (MODEL.segment(phantom.volume, {}).labelmap.array for _ in range(2))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(before, phantom.volume.array)


def test_real_chest_agrees_with_the_chest_imaging_platform(cip_ct, cip_lungs):
    """Both lungs together, without the trachea, against the Chest Imaging Platform's whole-lung mask: over 0.97."""
    found = MODEL.segment(cip_ct, {})
    assert dice(found.mask(RIGHT_LUNG) | found.mask(LEFT_LUNG), cip_lungs) > 0.97
    assert 10 < np.count_nonzero(found.mask(AIRWAY)) * np.prod(cip_ct.spacing) / 1000 < 60


@pytest.mark.parametrize(
    ("number", "classes", "floor"),
    [
        (RIGHT_LUNG, TOTALSEGMENTATOR_RIGHT_LUNG, 0.93),
        (LEFT_LUNG, TOTALSEGMENTATOR_LEFT_LUNG, 0.93),
        (BONE, TOTALSEGMENTATOR_BONE, 0.80),
    ],
)
def test_real_abdomen_agrees_with_totalsegmentator(abdomen_ct, abdomen_labels, number, classes, floor):
    """Lung bases of 70 and 40 ml, side by side with litres of bowel gas, and bone."""
    found = MODEL.segment(abdomen_ct, {})
    assert dice(found.mask(number), np.isin(abdomen_labels, classes)) > floor


def test_real_abdomen_body_and_airway(abdomen_ct, abdomen_labels):
    """All that TotalSegmentator labels lies in the body, and gas in stomach and bowel is no airway."""
    found = MODEL.segment(abdomen_ct, {})
    assert np.mean(found.mask(BODY)[abdomen_labels > 0]) > 0.999
    assert not found.mask(AIRWAY).any()


def test_scan_without_lungs_gives_body_and_bone(abdomen_ct):
    """A pelvis has body and bone, and neither lungs nor airways."""
    pelvis = abdomen_ct[:, :, :40]
    found = MODEL.segment(pelvis, {})
    assert [bool(found.mask(n).any()) for n in (BODY, RIGHT_LUNG, LEFT_LUNG, AIRWAY, BONE)] == [
        True,
        False,
        False,
        False,
        True,
    ]


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.full((4, 5, 6), 40, dtype=np.int16), "no air"),
        (np.full((4, 5, 6), np.nan, dtype=np.float32), "not finite"),
        (np.full((4, 5, 6), 1000, dtype=np.uint16), "no air"),
    ],
)
def test_what_is_no_ct_is_refused(array, reason):
    """NaN, and values that cannot be Hounsfield units, are refused with the reason, and are not retried."""
    with pytest.raises(InvalidVolume, match=reason) as caught:
        MODEL.segment(hd.Volume(array, np.eye(4), "PATIENT"), {})
    assert (caught.value.code, caught.value.refused, caught.value.retryable) == ("INVALID_VOLUME", True, False)


@pytest.mark.parametrize("shape", [(1, 5, 6), (3, 1, 1), (2, 2, 2)])
def test_air_alone_gives_nothing(shape):
    """A volume of nothing but air, however small, has no body in it."""
    array = np.full(shape, -1000, dtype=np.int16)
    assert not MODEL.segment(hd.Volume(array, np.eye(4), "PATIENT"), {}).labelmap.array.any()


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"lung": "-500"}, "known are lung_hu"),
        ({"lung_hu": "dark"}, "is no number"),
        ({"lung_hu": "nan"}, "not finite"),
    ],
)
def test_bad_parameters_are_named(phantom, parameters, reason):
    """An unknown parameter, and a value that is no number, are errors that say so."""
    with pytest.raises(InvalidParameter, match=reason):
        MODEL.segment(phantom.volume, parameters)
