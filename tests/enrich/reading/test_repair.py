"""Repair, on phantoms whose truth is a formula and on real tilted and gapped CT."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import SimpleITK
from pydicom import dcmread
from scipy import ndimage
from voxfleet.enrich.geometry import GeometryRefused, Refusal
from voxfleet.enrich.series import read_volume

TILT = math.radians(18)
TILTED = (1.0, 0.0, 0.0, 0.0, math.cos(TILT), math.sin(TILT))
SPACING = (1.25, 1.25)
CENTRE_MM, RADIUS_MM = np.array([30.0, 40.0, 38.0]), 20.0
OUTSIDE = -9999.0
BALL_MM3 = 4 / 3 * math.pi * RADIUS_MM**3


def ramp(points_mm):
    """Linear field, which linear interpolation gives back exactly."""
    return 3.0 * points_mm[..., 0] - 2.0 * points_mm[..., 1] + 5.0 * points_mm[..., 2]


def ball(points_mm):
    """Smooth ball of 1000 HU: half its value lies on the sphere."""
    distance = np.linalg.norm(points_mm - CENTRE_MM, axis=-1)
    return 1000 / (1 + np.exp((distance - RADIUS_MM) / 0.7)) - 500


def points(positions, shape, orientation):
    """Places of all voxels (k, j, i, 3) by PS3.3 C.7.6.2.1-1."""
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    j, i = np.mgrid[: shape[0], : shape[1]]
    plane = j[..., None] * SPACING[0] * column + i[..., None] * SPACING[1] * row
    return np.array(positions)[:, None, None] + plane


def grid_points(volume):
    """Places of all voxels of a volume (k, j, i, 3)."""
    indices = np.stack(np.meshgrid(*[np.arange(n) for n in volume.spatial_shape], indexing="ij"), axis=-1)
    return volume.map_indices_to_reference(indices.reshape(-1, 3)).reshape(*indices.shape)


def write_field(write_ct, field, z_mm, orientation, shape=(70, 50)):
    """Series of a field sampled at the slices' own voxels."""
    positions = [(0.0, 0.0, z) for z in z_mm]
    stored = np.rint(field(points(positions, shape, orientation))).astype(np.int16)
    return write_ct(stored, positions, orientation=orientation, spacing=SPACING)


def test_tilt_straightened_to_the_formula(write_ct, series_of):
    """Away from the border each voxel of the straight grid has the field's value at its own place, to rounding."""
    files = write_field(write_ct, ramp, np.arange(0, 60, 2.0), TILTED)
    image = read_volume(series_of(files), repair=True)
    places = grid_points(image.volume)
    corners = np.array([header.ImagePositionPatient for header in image.headers], float)[:, None, None]
    row_index = (places - corners) @ np.array(TILTED[3:]) / SPACING[0]
    scanned = (row_index >= 0) & (row_index <= 69)
    assert scanned.sum() >= 29 / 30 * (30 * 70 * 50)  # at most one of 70 rows of each slice is lost between voxels
    difference = np.abs(image.volume.array - ramp(places))[scanned]
    assert difference.max() <= 1.0  # two roundings of half a unit


def test_tilted_ball_has_its_volume_and_centre(write_ct, series_of):
    """A ball scanned under 18 degrees of tilt is a ball again: volume within 1 %, centre within 0.1 mm."""
    files = write_field(write_ct, ball, np.arange(0, 80, 1.5), TILTED)
    image = read_volume(series_of(files), repair=True)
    inside = image.volume.array > 0
    centre = grid_points(image.volume)[inside].mean(axis=0)
    volume_mm3 = np.count_nonzero(inside) * math.prod(image.volume.spacing)
    assert volume_mm3 == pytest.approx(BALL_MM3, rel=0.01)
    np.testing.assert_allclose(centre, CENTRE_MM, atol=0.1)


def test_tilted_ball_is_wrong_without_repair(write_ct, series_of):
    """The same slices are refused as they are: stacked as if straight they would be sheared."""
    files = write_field(write_ct, ball, np.arange(0, 80, 1.5), TILTED)
    with pytest.raises(GeometryRefused, match=r"18\.00 degrees") as caught:
        read_volume(series_of(files))
    assert caught.value.code == Refusal.GANTRY_TILT


def test_straightened_slices_stay_in_their_planes(write_ct, series_of):
    """Slice k of the repaired volume lies in the plane of header k, so results may refer to it."""
    image = read_volume(series_of(write_field(write_ct, ball, np.arange(0, 30, 1.5), TILTED)), repair=True)
    normal = np.cross(TILTED[:3], TILTED[3:])
    for k, header in enumerate(image.headers):
        corner = image.volume.map_indices_to_reference(np.array([[k, 0, 0]]))[0]
        assert (corner - np.array(header.ImagePositionPatient, float)) @ normal == pytest.approx(0, abs=1e-4)


def test_repair_says_what_it_did(write_ct, series_of):
    """The sentences bear the tilt, the shift and the matrix before and after."""
    image = read_volume(series_of(write_field(write_ct, ball, np.arange(0, 30, 1.5), TILTED)), repair=True)
    # 28.5 mm of table travel x sin 18 degrees = 8.81 mm in the plane, 7.05 rows of 1.25 mm: 8 more rows
    assert image.repairs == (
        "Gantry tilt of 18.00 degrees straightened: slices shifted in their planes by up to 8.81 mm "
        "with linear interpolation, matrix 70x50 made 78x50.",
    )


@pytest.mark.parametrize(
    ("z_mm", "planes", "spacing_mm"),
    [
        ([0, 2, 4, 8, 10, 12], 7, 2.0),  # one missing: six gaps of 2 mm
        ([0, 2, 4, 10, 12, 14], 8, 2.0),  # two missing
        ([0, 2, 4, 6.9, 8, 10], 6, 2.0),  # one out of place
        ([0, 1.9, 4, 6, 8.1, 10, 12.2], 7, 12.2 / 6),  # span 12.2, usual gap 2: six gaps
    ],
)
def test_gaps_made_even(write_ct, series_of, z_mm, planes, spacing_mm):
    """Planes at even gaps have the field's value at their own place; first and last stay where they were."""
    axial = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    image = read_volume(series_of(write_field(write_ct, ramp, z_mm, axial, (20, 30))), repair=True)
    assert image.volume.spatial_shape == (planes, 20, 30)
    assert image.volume.spacing[0] == pytest.approx(spacing_mm)
    np.testing.assert_allclose(image.volume.array, ramp(grid_points(image.volume)), atol=1.0)
    assert len(image.headers) == len(z_mm)
    assert f"{len(z_mm)} slices read, {planes} in the volume" in image.repairs[0]


def test_slices_at_even_places_are_untouched(write_ct, series_of):
    """Filling a missing slice changes no slice that was there."""
    axial = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    stored = np.random.default_rng(1).integers(-1000, 1000, (5, 9, 8), dtype=np.int16)
    files = write_ct(stored, [(0.0, 0.0, z) for z in (0, 2, 6, 8, 10)], orientation=axial)
    array = read_volume(series_of(files), repair=True).volume.array
    np.testing.assert_array_equal(array[[0, 1, 3, 4, 5]], stored)
    np.testing.assert_allclose(array[2], (stored[1].astype(float) + stored[2]) / 2, atol=0.5)


def test_tilt_and_gap_together(write_ct, series_of):
    """A tilted stack with a missing slice is straightened, then filled."""
    image = read_volume(
        series_of(write_field(write_ct, ball, [*range(0, 40, 2), *range(42, 80, 2)], TILTED)), repair=True
    )
    assert len(image.repairs) == 2
    assert np.count_nonzero(image.volume.array > 0) * math.prod(image.volume.spacing) == pytest.approx(
        BALL_MM3, rel=0.02
    )


def test_equal_duplicates_are_dropped(write_ct, series_of):
    """A slice sent twice counts once, and is said to have been dropped."""
    stored = np.arange(6 * 12, dtype=np.int16).reshape(6, 3, 4)
    stored[3] = stored[2]
    files = write_ct(stored, [(0.0, 0.0, z) for z in (0, 2, 4, 4, 6, 8)])
    image = read_volume(series_of(files), repair=True)
    np.testing.assert_array_equal(image.volume.array, stored[[0, 1, 2, 4, 5]])
    assert len(image.headers) == 5
    assert image.repairs == ("1 slices dropped: equal in position and pixels to others.",)


def test_too_few_without_duplicates(write_ct, series_of):
    """Four slices of which two are the same are no volume of four."""
    files = write_ct(np.zeros((4, 3, 3), np.int16), [(0.0, 0.0, z) for z in (0, 2, 2, 4)])
    with pytest.raises(GeometryRefused, match="3 slices without duplicates") as caught:
        read_volume(series_of(files), repair=True)
    assert caught.value.code == Refusal.TOO_FEW_SLICES


def test_same_file_twice_is_dropped(write_ct, series_of):
    """The same instance listed twice is refused, and dropped by repair."""
    files = write_ct(np.zeros((4, 3, 3), np.int16), [(0.0, 0.0, z) for z in (0, 2, 4, 6)])
    series = series_of([*files, files[1]])
    with pytest.raises(GeometryRefused) as caught:
        read_volume(series)
    assert caught.value.code == Refusal.DUPLICATE_INSTANCE
    assert read_volume(series, repair=True).volume.spatial_shape == (4, 3, 3)


def test_differing_duplicates_are_refused(write_ct, series_of):
    """Two different slices at one place cannot be told apart: no repair chooses between them."""
    stored = np.arange(5 * 12, dtype=np.int16).reshape(5, 3, 4)
    files = write_ct(stored, [(0.0, 0.0, z) for z in (0, 2, 4, 4, 6)])
    with pytest.raises(GeometryRefused, match="differ in their pixels") as caught:
        read_volume(series_of(files), repair=True)
    assert caught.value.code == Refusal.DUPLICATE_POSITION


def test_a_wide_gap_is_not_invented(write_ct, series_of):
    """Beyond three missing slices nothing is filled in."""
    files = write_ct(np.zeros((6, 3, 3), np.int16), [(0.0, 0.0, z) for z in (0, 2, 4, 14, 16, 18)])
    with pytest.raises(GeometryRefused, match=r"10\.000 mm, usually 2\.000") as caught:
        read_volume(series_of(files), repair=True)
    assert caught.value.code == Refusal.MISSING_SLICE


def test_regular_series_is_not_repaired(write_ct, series_of):
    """Repair changes nothing where nothing is wrong."""
    stored = np.arange(4 * 9, dtype=np.int16).reshape(4, 3, 3)
    image = read_volume(series_of(write_ct(stored, [(0.0, 0.0, z) for z in (0, 2, 4, 6)])), repair=True)
    assert image.repairs == ()
    np.testing.assert_array_equal(image.volume.array, stored)


def test_absent_frame_of_reference_is_derived(write_ct, series_of):
    """A series without Frame of Reference UID gets one of its own, the same each time, also in the headers."""
    files = write_ct(
        np.zeros((4, 3, 3), np.int16), [(0.0, 0.0, z) for z in (0, 2, 4, 6)], changes={"FrameOfReferenceUID": ""}
    )
    one, other = (read_volume(series_of(files), repair=True) for _ in range(2))
    uid = one.volume.frame_of_reference_uid
    assert uid == other.volume.frame_of_reference_uid
    assert {str(header.FrameOfReferenceUID) for header in one.headers} == {uid}
    assert re.fullmatch(r"2\.25\.\d+", uid)
    assert uid in one.repairs[0]


def test_real_gantry_tilt(hard_data, series_of):
    """A real tilted head CT is straightened as ITK resamples each of its slices."""
    files = sorted((hard_data / "failing" / "gantrytilting" / "001").iterdir())
    # the table moves along z, the column rises by its third cosine: the tilt is its arc sine
    tilt = abs(math.degrees(math.asin(float(dcmread(files[0]).ImageOrientationPatient[5]))))
    image = read_volume(series_of(files), repair=True)
    assert f"tilt of {tilt:.2f} degrees" in image.repairs[0]
    for k, header in enumerate(image.headers):
        expected = _resampled_by_itk(header.filename, image.volume, k)
        covered = ndimage.binary_erosion(expected > OUTSIDE, iterations=2)  # ITK reaches half a voxel further
        assert covered.mean() > 0.9
        assert np.abs(image.volume.array[k] - expected)[covered].max() <= 1.0


def _resampled_by_itk(path, volume, k):
    """One slice on the plane k of a volume, by ITK's linear interpolation; OUTSIDE where there is none."""
    header = dcmread(path)
    column, row = (float(v) for v in header.PixelSpacing)
    pixels = header.pixel_array * float(header.RescaleSlope) + float(header.RescaleIntercept)
    plane = SimpleITK.GetImageFromArray(pixels)
    plane.SetSpacing((row, column))
    directions = np.array(header.ImageOrientationPatient, float).reshape(2, 3)
    corner = volume.map_indices_to_reference(np.array([[k, 0, 0]]))[0] - np.array(header.ImagePositionPatient, float)
    size = (volume.spatial_shape[2], volume.spatial_shape[1])
    origin = tuple(float(v) for v in directions @ corner)
    resampled = SimpleITK.Resample(
        plane, size, SimpleITK.Transform(), SimpleITK.sitkLinear, origin, (row, column), (1, 0, 0, 1), -9999.0
    )
    return SimpleITK.GetArrayFromImage(resampled)
