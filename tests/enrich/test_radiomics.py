"""Radiomics equal pyradiomics', feature by feature and segment by segment."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import highdicom as hd
import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from voxfleet.enrich import radiomics
from voxfleet.enrich.features import pyradiomics_engine
from voxfleet.enrich.features.feature_codes import RADIOMICS
from voxfleet.enrich.features.first_order import NotFinite
from voxfleet.models.codes import ANATOMICAL_STRUCTURE, LUNG, MORPHOLOGICALLY_ABNORMAL_STRUCTURE
from voxfleet.models.segmentation import Segment, Segmentation

sitk = pytest.importorskip("SimpleITK")
pytest.importorskip("radiomics")
from radiomics.featureextractor import RadiomicsFeatureExtractor  # noqa: E402 - after the check that it is there

RELATIVE, ABSOLUTE = 1e-6, 1e-9
NEARLY_FLAT_MM = 1e-5
"""pyradiomics takes the root of rounding noise where a segment has no thickness; ours is 0 there."""
FLAT_FEATURES = {"shape_LeastAxisLength", "shape_MinorAxisLength", "shape_Flatness", "shape_Elongation"}


def make_volume(array, spacing=(1.0, 1.0, 1.0)):
    """Volume of slices along z."""
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = *spacing, 1
    return hd.Volume(array, affine, "PATIENT")


def make_segmentation(volume, labels, contains=None, findings=()):
    """Segmentation with as many segments as the label map needs."""
    contains = contains or {}
    count = max([int(labels.max()), *contains])
    kinds = (ANATOMICAL_STRUCTURE, MORPHOLOGICALLY_ABNORMAL_STRUCTURE)
    segments = tuple(
        Segment(n, f"S{n}", f"s{n}", kinds[n in findings], LUNG, (1, 2, 3), contains=contains.get(n, ()))
        for n in range(1, count + 1)
    )
    dtype = np.uint8 if count < 256 else np.uint16
    return Segmentation(volume.with_array(labels.astype(dtype)), segments)


def assert_equal_to_pyradiomics(volume, segmentation):
    """Both engines give the same measurements for the same segments, and fail in the same features."""
    ours, theirs = radiomics.measure(volume, segmentation), pyradiomics_engine.measure(volume, segmentation)
    assert {(f.segment_number, f.name) for f in theirs.failed} == {(f.segment_number, f.name) for f in ours.failed}
    assert [(m.segment_number, m.name) for m in theirs.measurements] == [
        (m.segment_number, m.name) for m in ours.measurements
    ]
    for expected, actual in zip(theirs.measurements, ours.measurements, strict=True):
        flat = expected.name in FLAT_FEATURES and actual.value < NEARLY_FLAT_MM
        tolerance = NEARLY_FLAT_MM if flat else ABSOLUTE
        assert actual.value == pytest.approx(expected.value, rel=RELATIVE, abs=tolerance), expected
        assert (actual.concept, actual.unit) == (expected.concept, expected.unit)
    return ours


def noise(shape, seed=0):
    """CT-like noise, int16."""
    return np.random.default_rng(seed).normal(40, 60, shape).astype(np.int16)


def ball(shape, centre, radius):
    """Filled ellipsoid as booleans."""
    grid = np.indices(shape).reshape(3, -1).T
    return ((((grid - centre) / radius) ** 2).sum(axis=1) <= 1).reshape(shape)


SHAPE = (9, 14, 12)


def one_voxel():
    """A single voxel."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[4, 5, 6] = 1
    return labels


def one_line():
    """Voxels in a row."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[4, 5, 2:9] = 1
    return labels


def one_slice():
    """An ellipse in one slice."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[4] = ball(SHAPE, (4, 6, 5), (3, 4, 3))[4]
    return labels


def touching_the_border():
    """Two segments that fill the label map."""
    labels = np.ones(SHAPE, np.uint8)
    labels[:, :4] = 2
    return labels


def holes():
    """A hollow ellipsoid with a voxel in its middle."""
    labels = ball(SHAPE, (4, 6, 5), (4, 6, 5)).astype(np.uint8)
    labels[ball(SHAPE, (4, 6, 5), (2, 3, 2))] = 0
    labels[4, 6, 5] = 1
    return labels


def two_components():
    """One segment in two places."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:3, 1:4, 1:3] = 1
    labels[6:8, 9:13, 8:11] = 1
    return labels


def corners_that_touch():
    """Cubes that share a corner or an edge: the mesh's ambiguous patterns."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:4, 2:4, 2:4] = 1
    labels[4:6, 4:6, 4:6] = 1
    labels[4:6, 2:4, 4:6] = 2
    return labels


def every_voxel_another():
    """Salt and pepper of four segments."""
    return np.random.default_rng(3).integers(0, 5, SHAPE).astype(np.uint8)


def shifted_slices():
    """Parts in neighbouring slices that do not overlap."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[3, 1:4, 1:3] = 1
    labels[4, 10:13, 8:11] = 1
    return labels


def diagonals():
    """Voxels along a diagonal, two that share a corner, and a plane askew to the grid."""
    labels = np.zeros(SHAPE, np.uint8)
    steps = np.arange(7)
    labels[steps, steps + 1, steps + 2] = 1
    labels[[0, 1], [13, 12], [0, 1]] = 2
    labels[steps, 12 - steps] = 3
    return labels


CASES = [
    one_voxel, one_line, one_slice, touching_the_border, holes, two_components, corners_that_touch,
    every_voxel_another, shifted_slices, diagonals,
]  # fmt: skip


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (3.27, 0.7, 1.3)])
@pytest.mark.parametrize("case", CASES)
def test_synthetic_regions(case, spacing):
    """Small, thin, hollow, divided and border regions give pyradiomics' values, isotropic or not."""
    volume = make_volume(noise(SHAPE), spacing)
    assert_equal_to_pyradiomics(volume, make_segmentation(volume, case()))


def test_axes_without_extent_are_zero():
    """Where voxel centres lie on a line or in a plane, at any angle to the grid, the axes across it are 0."""
    volume = make_volume(noise(SHAPE), (3.27, 0.7, 1.3))
    measured = radiomics.measure(volume, make_segmentation(volume, diagonals()))
    values = {(m.segment_number, m.name.removeprefix("shape_")): m.value for m in measured.measurements}
    across = {(1, "MinorAxisLength"), (1, "Elongation"), (2, "MinorAxisLength"), (2, "Elongation")}
    across |= {(number, name) for number in (1, 2, 3) for name in ("LeastAxisLength", "Flatness")}
    of_axes = {key for key in values if key[1].endswith("AxisLength") or key[1] in ("Elongation", "Flatness")}
    assert {key for key in of_axes if values[key] == 0} == across


def oblique_turn():
    """A rotation about two axes."""
    turn, c, s = np.eye(4), math.cos(0.4), math.sin(0.4)
    turn[:2, :2] = [[c, -s], [s, c]]
    turn[1:3, 1:3] = turn[1:3, 1:3] @ [[c, -s], [s, c]]
    turn[:3, :3] = np.linalg.qr(turn[:3, :3])[0]
    return turn


def write_nifti(path, array, affine):
    """File of an array (k, j, i) and its affine to LPS, which NIfTI wants as (i, j, k) to RAS."""
    to_ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine @ np.eye(4)[:, [2, 1, 0, 3]]
    nib.save(nib.Nifti1Image(np.ascontiguousarray(array.T), to_ras), path)
    return path


def test_oblique_grid_changes_nothing():
    """Only the spacing counts: the same voxels on a rotated grid give the same values."""
    labels = holes()
    straight = make_volume(noise(SHAPE), (2.0, 0.8, 0.8))
    oblique = hd.Volume(straight.array, oblique_turn() @ straight.affine, "PATIENT")
    expected = [m.value for m in radiomics.measure(straight, make_segmentation(straight, labels)).measurements]
    actual = [m.value for m in radiomics.measure(oblique, make_segmentation(oblique, labels)).measurements]
    assert actual == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("case", [one_slice, touching_the_border, holes, two_components])
def test_oblique_and_anisotropic_files_in_pyradiomics(tmp_path, case):
    """pyradiomics, given files with an oblique orientation, finds what ours finds on the oblique volume."""
    straight = make_volume(noise(SHAPE), (2.5, 0.9, 0.7))
    oblique = hd.Volume(straight.array, oblique_turn() @ straight.affine, "PATIENT")
    segmentation = make_segmentation(oblique, case())
    measured = radiomics.measure(oblique, segmentation)
    image = write_nifti(tmp_path / "image.nii.gz", oblique.array, oblique.affine)
    extractor = RadiomicsFeatureExtractor(**pyradiomics_engine.SETTINGS)
    extractor.disableAllFeatures()
    extractor.enableFeaturesByName(shape=[], firstorder=[])
    for number in range(1, int(case().max()) + 1):
        mask = write_nifti(tmp_path / f"{number}.nii.gz", (case() == number).astype(np.uint8), oblique.affine)
        theirs = extractor.execute(str(image), str(mask))
        for m in (m for m in measured.measurements if m.segment_number == number):
            expected = float(theirs[f"original_{m.name}"]) - (3 if m.name == "firstorder_Kurtosis" else 0)
            tolerance = NEARLY_FLAT_MM if m.name in FLAT_FEATURES else ABSOLUTE
            assert m.value == pytest.approx(expected, rel=RELATIVE, abs=tolerance), m.name


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint16, np.int32])
def test_other_voxel_types(dtype):
    """Floats with fractions and other integers are measured as pyradiomics measures them."""
    array = np.abs(np.random.default_rng(5).normal(300, 90, SHAPE)).astype(dtype)
    volume = make_volume(array, (2.0, 1.0, 1.0))
    assert_equal_to_pyradiomics(volume, make_segmentation(volume, every_voxel_another()))


def test_integers_of_a_wide_range():
    """Integers too far apart for a table of counters are sorted instead, with equal values."""
    array = np.random.default_rng(5).integers(-200_000_000, 200_000_000, SHAPE).astype(np.int32)
    array //= 100_000
    array[0, 0, 0] = 2_000_000_000
    volume = make_volume(array)
    assert_equal_to_pyradiomics(volume, make_segmentation(volume, holes()))


def test_flat_region():
    """One value throughout: no spread, skewness 0, and excess kurtosis of pyradiomics' 0 less 3."""
    volume = make_volume(np.full(SHAPE, -75, np.int16))
    measured = assert_equal_to_pyradiomics(volume, make_segmentation(volume, holes()))
    values = {m.name: m.value for m in measured.measurements}
    assert (values["firstorder_Variance"], values["firstorder_Skewness"], values["firstorder_Kurtosis"]) == (0, 0, -3)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(*[st.integers(1, 9)] * 3),
    numbers=st.integers(1, 4),
    smooth=st.booleans(),
    spacing=st.tuples(*[st.floats(0.3, 5)] * 3),
)
def test_random_blobs(seed, shape, numbers, smooth, spacing):
    """Any label map on any grid gives pyradiomics' values."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, numbers + 1, shape)
    if smooth:
        labels = np.minimum(labels, np.roll(labels, 1, axis=int(generator.integers(3))))
    volume = make_volume(generator.integers(-1000, 1000, shape).astype(np.int16), spacing)
    if labels.any():
        assert_equal_to_pyradiomics(volume, make_segmentation(volume, labels))


def test_segments_that_contain_others():
    """A voxel counts for its own segment and for all that contain it."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:8, 1:13, 1:11] = 1
    labels[2:7, 2:7, 2:10] = 2
    labels[2:7, 8:12, 2:10] = 3
    labels[3:5, 3:6, 4:8] = 4
    labels[3:6, 9:11, 4:8] = 5
    volume = make_volume(noise(SHAPE), (2.5, 0.9, 0.9))
    contains = {1: (2, 3, 4, 5), 2: (4,), 3: (5,)}
    segmentation = make_segmentation(volume, labels, contains, findings=(4, 5))
    assert_equal_to_pyradiomics(volume, segmentation)


def test_involvement():
    """Findings take up their voxels' share of the smallest structure around them; organs in organs do not."""
    labels = np.zeros((4, 10, 10), np.uint8)
    labels[:, :, :] = 1  # body, 400 voxels in all
    labels[:2] = 2  # lung, 200 voxels in all
    labels[0, 0] = 3  # ground glass, 10 voxels
    labels[0, 1:4] = 4  # consolidation, 30 voxels
    volume = make_volume(noise(labels.shape))
    segmentation = make_segmentation(volume, labels, {1: (2, 3, 4), 2: (3, 4), 6: (5,)}, findings=(3, 4, 5))
    measured = radiomics.measure(volume, segmentation)
    shares = [(m.segment_number, m.name, m.value) for m in measured.measurements if m.name.startswith("involvement")]
    assert shares == [
        (2, "involvement_Percent", pytest.approx(20)),  # (10 + 30) / 200
        (3, "involvement_PercentOfStructure", pytest.approx(5)),  # 10 / 200
        (4, "involvement_PercentOfStructure", pytest.approx(15)),  # 30 / 200
    ]
    assert {m.unit.value for m in measured.measurements if m.name.startswith("involvement")} == {"%"}


def test_lung_without_findings_is_not_involved():
    """A structure whose findings are all absent has 0 percent, not nothing."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:5, 2:6, 2:6] = 1
    volume = make_volume(noise(SHAPE))
    measured = radiomics.measure(volume, make_segmentation(volume, labels, {1: (2,), 2: ()}, findings=(2,)))
    assert [m.value for m in measured.measurements if m.name == "involvement_Percent"] == [0.0]


def test_absent_segments_have_no_measurements():
    """Segment numbers stay as they are when classes are absent; an empty label map gives nothing."""
    labels = np.zeros(SHAPE, np.uint8)
    volume = make_volume(noise(SHAPE))
    empty = make_segmentation(volume, labels, {4: ()})
    assert radiomics.measure(volume, empty) == radiomics.Measured(())
    labels[2:4, 2:6, 2:7] = 3
    measured = radiomics.measure(volume, make_segmentation(volume, labels, {5: ()}))
    assert {m.segment_number for m in measured.measurements} == {3}
    assert [m.name for m in measured.measurements] == [feature.name for feature in RADIOMICS]


def test_single_voxel_fails_openly():
    """A segment of one voxel has 32 failed features with the reason, and the next segment is untouched."""
    labels = one_slice() * 2
    labels[0, 0, 0] = 1
    volume = make_volume(noise(SHAPE))
    measured = radiomics.measure(volume, make_segmentation(volume, labels))
    assert {m.segment_number for m in measured.measurements} == {2}
    assert [f.name for f in measured.failed] == [feature.name for feature in RADIOMICS]
    assert {f.reason for f in measured.failed} == {"a region of 1 x 1 x 1 voxels has no radiomics features"}


def test_more_than_255_segments():
    """uint16 label maps are measured like uint8."""
    labels = np.zeros((4, 40, 40), np.uint16)
    labels[1:3] = np.arange(400).repeat(4).reshape(40, 40)
    volume = make_volume(noise(labels.shape))
    segmentation = make_segmentation(volume, labels)
    chosen = np.isin(labels, [1, 256, 399])
    few = make_segmentation(volume, np.where(chosen, labels, 0))
    theirs = pyradiomics_engine.measure(volume, few)
    ours = {(m.segment_number, m.name): m.value for m in radiomics.measure(volume, segmentation).measurements}
    for m in theirs.measurements:
        tolerance = NEARLY_FLAT_MM if m.name in FLAT_FEATURES else ABSOLUTE
        assert ours[m.segment_number, m.name] == pytest.approx(m.value, rel=RELATIVE, abs=tolerance)


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_not_a_number_is_an_error(broken):
    """A NaN or infinity inside a segment is refused by name; outside it is nobody's business."""
    array = noise(SHAPE).astype(np.float32)
    array[0, 0, 0] = broken
    volume = make_volume(array)
    radiomics.measure(volume, make_segmentation(volume, holes()))
    labels = holes()
    labels[0, 0, 0] = 2
    with pytest.raises(NotFinite, match="label 2 has 1 voxels"):
        radiomics.measure(volume, make_segmentation(volume, labels))


def test_other_grid_is_an_error():
    """A label map that is not on the volume's grid is refused."""
    volume = make_volume(noise(SHAPE), (1.0, 1.0, 1.0))
    other = make_volume(noise(SHAPE), (1.0, 1.0, 1.1))
    with pytest.raises(radiomics.GeometryDiffers):
        radiomics.measure(volume, make_segmentation(other, holes()))


@pytest.mark.parametrize("case", ["brain1", "breast1"])
def test_pyradiomics_baseline(shared_data, case):
    """The images that pyradiomics tests itself on give its baselines within its own tolerance of 3 %."""
    folder = shared_data / "radiomics" / "pyradiomics"
    image, mask = (sitk.ReadImage(str(folder / f"{case}_{kind}.nrrd")) for kind in ("image", "label"))
    volume = make_volume(sitk.GetArrayFromImage(image), image.GetSpacing()[::-1])
    segmentation = make_segmentation(volume, sitk.GetArrayFromImage(mask))
    measured = assert_equal_to_pyradiomics(volume, segmentation)
    values = {m.name: m.value for m in measured.measurements}
    for kind in ("shape", "firstorder"):
        for name, expected in baseline(folder / "baseline" / f"baseline_{kind}.csv", case).items():
            # The baseline's energies are of voxels shifted by 2000.
            if f"{kind}_{name}" in values and name not in {"Energy", "TotalEnergy", "RootMeanSquared"}:
                offset = 3 if name == "Kurtosis" else 0
                assert values[f"{kind}_{name}"] + offset == pytest.approx(expected, rel=0.03), name


def baseline(path: Path, case: str) -> dict[str, float]:
    """One case of a table whose columns are cases."""
    with path.open() as lines:
        return {
            row["featureName"].split("_")[-1]: float(row[case])
            for row in csv.DictReader(lines)
            if row["featureName"].startswith("original_")
        }


@pytest.mark.parametrize("name", ["lm-64", "wholeLung-64"])
def test_real_chest_ct(shared_data, name):
    """All regions of a real chest CT's label maps."""
    folder = shared_data / "tiny-chest-ct-cip"
    image, mask = (sitk.ReadImage(str(folder / f"{part}.nrrd")) for part in ("ct-64", name))
    array = sitk.GetArrayFromImage(image)
    _, labels = np.unique(sitk.GetArrayFromImage(mask), return_inverse=True)
    volume = make_volume(array.astype(np.int16), image.GetSpacing()[::-1])
    assert_equal_to_pyradiomics(volume, make_segmentation(volume, labels.reshape(array.shape)))


@pytest.mark.slow
def test_totalsegmentator_example(shared_data):
    """The segments under 6,000 voxels of a real TotalSegmentator result."""
    folder = shared_data / "totalsegmentator-example"
    image, mask = (
        np.asanyarray(nib.load(folder / f"{part}.nii.gz").dataobj)[::-1, ::-1].T
        for part in ("example_ct", "example_seg")
    )
    labels = np.unique(mask, return_inverse=True)[1].reshape(mask.shape)
    sizes = np.bincount(labels.ravel())
    labels = np.where(sizes[labels] < 6000, labels, 0)
    volume = make_volume(np.ascontiguousarray(image[: len(labels)]).astype(np.int16), (3.0, 3.0, 3.0))
    measured = assert_equal_to_pyradiomics(volume, make_segmentation(volume, labels))
    assert len({m.segment_number for m in measured.measurements}) > 25


IBSI_NAMES = {
    "firstorder_Mean": "stat_mean", "firstorder_Variance": "stat_var", "firstorder_Skewness": "stat_skew",
    "firstorder_Kurtosis": "stat_kurt", "firstorder_Median": "stat_median", "firstorder_Minimum": "stat_min",
    "firstorder_Maximum": "stat_max", "firstorder_Range": "stat_range", "firstorder_Energy": "stat_energy",
    "firstorder_RootMeanSquared": "stat_rms", "firstorder_MeanAbsoluteDeviation": "stat_mad",
    "firstorder_InterquartileRange": "stat_iqr", "firstorder_10Percentile": "stat_p10",
    "firstorder_90Percentile": "stat_p90", "firstorder_RobustMeanAbsoluteDeviation": "stat_rmad",
    "shape_MeshVolume": "morph_volume", "shape_VoxelVolume": "morph_vol_approx",
    "shape_SurfaceArea": "morph_area_mesh", "shape_SurfaceVolumeRatio": "morph_av",
    "shape_Sphericity": "morph_sphericity", "shape_Maximum3DDiameter": "morph_diam",
    "shape_Elongation": "morph_pca_elongation", "shape_Flatness": "morph_pca_flatness",
}  # fmt: skip
AXES = {
    "shape_MajorAxisLength": "morph_pca_maj_axis", "shape_MinorAxisLength": "morph_pca_min_axis",
    "shape_LeastAxisLength": "morph_pca_least_axis",
}  # fmt: skip
"""IBSI's consensus divides the covariance by one voxel less than pyradiomics (74 voxels in the phantom)."""


def test_ibsi_digital_phantom(shared_data):
    """The Image Biomarker Standardisation Initiative's phantom gives its consensus values."""
    folder = shared_data / "radiomics" / "ibsi1-digital-phantom"
    image, mask = (
        np.asanyarray(nib.load(folder / "nifti" / part).dataobj).T.astype(np.int16)
        for part in ("image/phantom.nii.gz", "mask/mask.nii.gz")
    )
    volume = make_volume(image, (2.0, 2.0, 2.0))
    measured = radiomics.measure(volume, make_segmentation(volume, mask))
    values = {m.name: m.value for m in measured.measurements}
    with (folder / "ibsi_1_dig_phantom.csv").open() as lines:
        consensus = {row["tag"]: row for row in csv.DictReader(lines, delimiter=";")}
    for name, tag in IBSI_NAMES.items():
        expected, tolerance = (float(consensus[tag][column]) for column in ("reference value", "tolerance"))
        # Consensus values are given to three digits, and some with a tolerance of 0.
        assert values[name] == pytest.approx(expected, rel=0.005, abs=tolerance), (name, tag)
    for name, tag in AXES.items():
        expected, tolerance = (float(consensus[tag][column]) for column in ("reference value", "tolerance"))
        assert values[name] * math.sqrt(74 / 73) == pytest.approx(expected, abs=tolerance), (name, tag)


def test_values_of_mr_are_in_arbitrary_units() -> None:
    """The same numbers, and no Hounsfield unit, where the image is no CT; lengths stay in millimetres."""
    segments = (Segment(1, "A", "a", ANATOMICAL_STRUCTURE, LUNG, (1, 2, 3)),)
    array = np.arange(64, dtype=np.int16).reshape(4, 4, 4)
    volume = hd.Volume(array, np.eye(4), "PATIENT")
    segmentation = Segmentation(volume.with_array(np.ones((4, 4, 4), np.uint8)), segments)
    of_ct, of_mr = (radiomics.measure(volume, segmentation, modality).measurements for modality in ("CT", "MR"))
    assert [each.value for each in of_ct] == [each.value for each in of_mr]
    assert {each.unit.value for each in of_mr} == {
        "1",
        "mm",
        "mm2",
        "mm3",
        "/mm",
        "[arb'U]",
        "[arb'U]2",
        "[arb'U]2.mm3",
    }
