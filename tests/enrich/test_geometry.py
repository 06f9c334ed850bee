"""The gate, on slices written down by hand."""

from __future__ import annotations

import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from voxfleet.enrich.geometry import GeometryRefused, Refusal, Slice, check_geometry

SERIES = "1.2.3"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def axial(z_mm: float, number: int, **changes: object) -> Slice:
    """One axial slice at a height, with `changes`."""
    one = Slice(
        series_instance_uid=SERIES,
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        sop_instance_uid=f"{SERIES}.{number}",
        frame_of_reference_uid="1.2.9",
        image_type=("ORIGINAL", "PRIMARY", "AXIAL"),
        rows=4,
        columns=6,
        position_mm=(-10.0, -20.0, z_mm),
        orientation=AXIAL,
        pixel_spacing_mm=(0.5, 0.75),
    )
    return replace(one, **changes)  # type: ignore[arg-type]


def stack(*z_mm: float) -> list[Slice]:
    """Axial slices at these heights, numbered from 1."""
    return [axial(z, number) for number, z in enumerate(z_mm, start=1)]


def refusal(slices: list[Slice]) -> GeometryRefused:
    """Refusal of these slices."""
    with pytest.raises(GeometryRefused) as caught:
        check_geometry(slices)
    return caught.value


def test_affine_by_hand():
    """Slices in any order give the affine of PS3.3 C.7.6.2.1.1, k ascending along row x column."""
    grid = check_geometry([axial(z, n) for n, z in enumerate((7.0, 1.0, 5.0, 3.0), start=1)])
    expected = [[0, 0, 0.75, -10], [0, 0.5, 0, -20], [2, 0, 0, 1], [0, 0, 0, 1]]
    assert grid.order == (1, 3, 2, 0)
    assert grid.shape == (4, 4, 6)
    np.testing.assert_array_equal(grid.affine, expected)


@pytest.mark.parametrize(
    ("z_mm", "expected"),
    [
        ((0, 2, 4, 6, 8), None),
        ((0, 2.01, 4, 6.01, 8), None),  # gaps 2.01 and 1.99: 0.5 % of the mean 2
        ((0, 0.62, 1.25, 1.87, 2.5), None),  # 0.625 mm written with two decimals: 0.8 %
        ((0, 0.3, 0.61, 0.9, 1.2), None),  # 0.3 mm so: 3 %, but 0.01 mm
        ((0, 2.03, 4, 6, 8), Refusal.UNEVEN_SPACING),  # 2.03: 1.5 % more than 2
        ((0, 2, 4, 8, 10), Refusal.MISSING_SLICE),  # 4 = 2 x 2
        ((0, 2, 4, 6, 12, 14, 16), Refusal.MISSING_SLICE),  # 6 = 3 x 2
        ((0, 2, 4, 7, 9), Refusal.UNEVEN_SPACING),  # 3 = 1.5 x 2
        ((0, 2, 4, 4, 6), Refusal.DUPLICATE_POSITION),
        ((0, 2, 4), Refusal.TOO_FEW_SLICES),
        ((), Refusal.TOO_FEW_SLICES),
    ],
)
def test_gaps(z_mm, expected):
    """Gaps within 1 % (or 0.01 mm) of their mean pass; others are missing slices, uneven, or duplicates."""
    slices = stack(*z_mm)
    if expected is None:
        assert check_geometry(slices).shape[0] == len(z_mm)
    else:
        assert refusal(slices).code == expected


def test_missing_slice_is_told_where():
    """The message counts the missing slices and names the instance before the gap."""
    error = refusal(stack(0, 2, 4, 6, 12, 14, 16))
    assert error.detail == "2 slices are missing: a gap of 6.000 mm, usually 2.000, after instance 1.2.3.4"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"image_type": ("ORIGINAL", "PRIMARY", "LOCALIZER")}, Refusal.LOCALIZER),
        ({"image_type": ("DERIVED", "SECONDARY", "CSA MIP")}, Refusal.PROJECTION),
        ({"series_instance_uid": "1.2.4"}, Refusal.MIXED_SERIES),
        ({"sop_class_uid": "1.2.840.10008.5.1.4.1.1.4"}, Refusal.MIXED_SOP_CLASS),
        ({"frame_of_reference_uid": "1.2.8"}, Refusal.MIXED_FRAME_OF_REFERENCE),
        ({"frame_of_reference_uid": ""}, Refusal.MIXED_FRAME_OF_REFERENCE),
        ({"rows": 5}, Refusal.MIXED_MATRIX),
        ({"orientation": (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)}, Refusal.MIXED_ORIENTATION),
        ({"orientation": (math.cos(1e-3), math.sin(1e-3), 0.0, -math.sin(1e-3), math.cos(1e-3), 0.0)},
         Refusal.MIXED_ORIENTATION),
        ({"pixel_spacing_mm": (0.5, 0.751)}, Refusal.MIXED_SPACING),
        ({"pixel_spacing_mm": (0.0, 0.75)}, Refusal.INVALID_ATTRIBUTE),
        ({"position_mm": (0.0, 0.0, math.nan)}, Refusal.INVALID_ATTRIBUTE),
        ({"orientation": (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)}, Refusal.INVALID_ATTRIBUTE),
        ({"sop_instance_uid": "1.2.3.1"}, Refusal.DUPLICATE_INSTANCE),
        ({"position_mm": (-10.0, -19.0, 4.0)}, Refusal.SCATTERED_POSITIONS),
    ],
)  # fmt: skip
def test_one_odd_slice(change, expected):
    """One slice among six that breaks a rule refuses the series, and the message names an instance."""
    slices = stack(0, 2, 4, 6, 8, 10)
    slices[2] = replace(slices[2], **change)
    error = refusal(slices)
    assert error.code == expected
    assert f"{SERIES}." in error.detail
    assert "\n" not in str(error)


def test_no_frame_of_reference():
    """A series that names no frame of reference at all lies nowhere."""
    assert refusal([replace(s, frame_of_reference_uid="") for s in stack(0, 2, 4, 6)]).code == "MISSING_ATTRIBUTE"


def test_geometry_faults_come_before_a_missing_frame_of_reference():
    """The fault that matters more is told."""
    slices = [replace(s, frame_of_reference_uid="") for s in stack(0, 2, 4, 8)]
    assert refusal(slices).code == Refusal.MISSING_SLICE


def test_small_deviations_pass():
    """Cosines, spacings and corners that differ in their last digits are equal."""
    slices = stack(0, 2, 4, 6)
    slices[1] = replace(slices[1], orientation=(1.0, 0.00005, 0.0, -0.00005, 1.0, 0.0))
    slices[2] = replace(slices[2], position_mm=(-10.05, -20.05, 4.0), pixel_spacing_mm=(0.50001, 0.75))
    assert check_geometry(slices).shape == (4, 4, 6)


@pytest.mark.parametrize("degrees", [-30, -15.5, 1, 14, 30])
def test_gantry_tilt(degrees):
    """Tilted slices stacked along the table are refused with the tilt in degrees."""
    tilt = math.radians(degrees)
    tilted = (1.0, 0.0, 0.0, 0.0, math.cos(tilt), math.sin(tilt))
    error = refusal([replace(s, orientation=tilted) for s in stack(*range(0, 60, 3))])
    assert error.code == Refusal.GANTRY_TILT
    assert f"{abs(degrees):.2f} degrees" in error.detail


def test_oblique_is_no_tilt():
    """Oblique slices stacked along their own normal pass."""
    tilt = math.radians(20)
    oblique = (1.0, 0.0, 0.0, 0.0, math.cos(tilt), math.sin(tilt))
    normal = np.array([0.0, -math.sin(tilt), math.cos(tilt)])
    slices = [replace(axial(0, n), orientation=oblique, position_mm=tuple(3.0 * n * normal)) for n in range(1, 9)]
    grid = check_geometry(slices)
    np.testing.assert_allclose(grid.affine[:3, 0], 3 * normal, atol=1e-12)


def test_refusal_survives_pickling_and_is_final():
    """A refusal crosses a process border with its code and is never tried again."""
    error = refusal(stack(0, 2, 4, 8))
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.code, again.detail) == (str(error), "MISSING_SLICE", error.detail)
    assert again.refused
    assert not again.retryable


def test_every_refusal_has_a_rule():
    """Each code has its one sentence for people."""
    assert all(code.rule.endswith(".") and "\n" not in code.rule for code in Refusal)


@settings(max_examples=60, deadline=None)
@given(
    quaternion=st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda q: np.linalg.norm(q) > 0.1),
    spacing=st.tuples(*[st.floats(0.2, 6.0)] * 3),
    origin=st.tuples(*[st.floats(-500, 500)] * 3),
    order=st.permutations(range(7)),
)
def test_any_orientation(quaternion, spacing, origin, order):
    """For every rotation, anisotropy and order, a voxel lies where its slice's header puts it (C.7.6.2.1-1)."""
    w, x, y, z = np.array(quaternion) / np.linalg.norm(quaternion)
    rotation = np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ])  # fmt: skip
    row, column, normal = rotation.T
    positions = [np.array(origin) + n * spacing[0] * normal for n in order]
    orientation = tuple(float(v) for v in (*row, *column))
    slices = [
        replace(
            axial(0, n + 1), position_mm=tuple(map(float, p)), orientation=orientation, pixel_spacing_mm=spacing[1:]
        )
        for n, p in enumerate(positions)
    ]
    grid = check_geometry(slices)
    for k in range(7):
        header = slices[grid.order[k]]
        for j, i in ((0, 0), (3, 0), (0, 5), (3, 5)):
            expected = np.array(header.position_mm) + i * header.pixel_spacing_mm[1] * row
            expected = expected + j * header.pixel_spacing_mm[0] * column
            np.testing.assert_allclose((grid.affine @ [k, j, i, 1])[:3], expected, atol=1e-6)
    assert np.linalg.det(grid.affine[:3, :3]) != 0
