"""Features of a parameter file equal those of pyradiomics on the whole volume."""

from __future__ import annotations

from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from voxfleet.enrich.features.extraction import measure_features, plan_of
from voxfleet.enrich.features.feature_parameters import FeatureParameters, read_feature_parameters
from voxfleet.enrich.measurement import Measured
from voxfleet.models.codes import ANATOMICAL_STRUCTURE, LUNG
from voxfleet.models.segmentation import Segment, Segmentation

sitk = pytest.importorskip("SimpleITK")
featureextractor = pytest.importorskip("radiomics.featureextractor")

SHAPE = (27, 61, 58)
SPACING = (2.5, 0.8, 0.8)
FEW = "featureClass: {firstorder: [Mean, Variance, Skewness, 90Percentile, Kurtosis], glszm: [ZonePercentage]}\n"
EXACT, ROUNDED = 1e-12, 1e-6


@pytest.fixture(scope="module")
def volume() -> hd.Volume:
    """Noise of odd and even sizes."""
    array = np.random.default_rng(5).normal(40, 60, SHAPE).astype(np.int16)
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = *SPACING, 1
    return hd.Volume(array, affine, "PATIENT")


@pytest.fixture(scope="module")
def segmentation(volume: hd.Volume) -> Segmentation:
    """One segment within, one in a corner, one voxel, and one that contains the first two."""
    k, j, i = np.indices(SHAPE)
    labels = np.zeros(SHAPE, np.uint8)
    labels[((k - 13) / 4) ** 2 + ((j - 40) / 8) ** 2 + ((i - 30) / 7) ** 2 <= 1] = 1
    labels[k + j / 4 + i / 3 < 4] = 2
    labels[20, 5, 5] = 3
    contains = {4: (1, 2)}
    segments = tuple(
        Segment(n, f"S{n}", f"s{n}", ANATOMICAL_STRUCTURE, LUNG, (1, 2, 3), contains=contains.get(n, ()))
        for n in range(1, 5)
    )
    return Segmentation(volume.with_array(labels), segments)


def parameters_of(tmp_path: Path, text: str) -> FeatureParameters:
    """Parameters with this content."""
    (tmp_path / "features.yaml").write_text(text)
    return read_feature_parameters(tmp_path / "features.yaml")


def of_the_whole_volume(volume: hd.Volume, mask: np.ndarray, parameters: FeatureParameters) -> dict[str, float]:
    """What pyradiomics gives on the uncropped volume, by its names."""
    image, itk_mask = (sitk.GetImageFromArray(array) for array in (volume.array, mask.astype(np.uint8)))
    for each in (image, itk_mask):
        each.SetSpacing([float(step) for step in volume.spacing[::-1]])
    asked = {name: value for name, value in parameters.mappings.items() if value}
    result = featureextractor.RadiomicsFeatureExtractor(asked, additionalInfo=False).execute(image, itk_mask, label=1)
    return {name: float(value) for name, value in result.items()}


def by_name(measured: Measured, number: int) -> dict[str, float]:
    """Values of a segment by pyradiomics' names and definitions (kurtosis not excess kurtosis)."""
    return {
        f"{m.image_filter}_{m.name}": m.value + 3 * (m.name == "firstorder_Kurtosis")
        for m in measured.measurements
        if m.segment_number == number
    }


@pytest.mark.parametrize(
    ("text", "tolerance"),
    [
        (
            "imageType: {Original: {}, Square: {}, SquareRoot: {}, Logarithm: {}, Exponential: {}, Gradient: {}, "
            "LBP2D: {binWidth: 1}, Wavelet: {wavelet: db2, level: 2}}",
            EXACT,
        ),
        ("imageType: {LoG: {sigma: [0.5, 1]}}", ROUNDED),
        ("imageType: {Original: {}, Square: {}}\nsetting: {normalize: true, normalizeScale: 100}", EXACT),
        (
            "imageType: {Original: {}, Wavelet: {}, Square: {}}\n"
            "setting: {resampledPixelSpacing: [1.1, 1.1, 2], padDistance: 3}",
            EXACT,
        ),
        ("imageType: {Wavelet: {}, Square: {}}\nsetting: {preCrop: true, padDistance: 2}", EXACT),
        (
            "imageType: {Original: {binWidth: 5}, Gradient: {}}\n"
            "setting: {resegmentRange: [-2, 2], resegmentMode: sigma, force2D: true}",
            EXACT,
        ),
    ],
    ids=["filters", "log", "normalize", "resample", "pre-crop", "resegment"],
)
def test_boxes_give_what_the_whole_volume_gives(volume, segmentation, tmp_path, text: str, tolerance: float) -> None:
    """On its box, a segment has pyradiomics' values on the whole volume: LoG to rounding, all others exactly."""
    parameters = parameters_of(tmp_path, FEW + text)
    measured = measure_features(volume, segmentation, parameters, cores=1)
    for number in (1, 2, 4):
        expected = of_the_whole_volume(volume, segmentation.mask(number), parameters)
        assert expected
        assert by_name(measured, number) == pytest.approx(expected, rel=tolerance, abs=1e-9)
    assert {each.segment_number for each in measured.failed} == {3}
    assert len(measured.failed) == len(expected)


def test_all_classes_of_the_original_image(volume, segmentation, tmp_path) -> None:
    """Without a filter, every class has pyradiomics' values, shape and first order by our own code."""
    parameters = parameters_of(tmp_path, "setting: {geometryTolerance: 0.001}")
    measured = measure_features(volume, segmentation, parameters, cores=2)
    for number in (1, 4):
        expected = of_the_whole_volume(volume, segmentation.mask(number), parameters)
        assert len(expected) == 107
        assert by_name(measured, number) == pytest.approx(expected, rel=1e-6, abs=1e-9)
    assert [m.segment_number for m in measured.measurements] == sorted(m.segment_number for m in measured.measurements)


def test_units_of_filtered_images_are_arbitrary(volume, segmentation, tmp_path) -> None:
    """A mean is in HU, that of a squared image, of a normalised one, or of an MR is not."""
    units = {}
    for name, setting, modality in (("ct", "{}", "CT"), ("normal", "{normalize: true}", "CT"), ("mr", "{}", "MR")):
        text = f"featureClass: {{firstorder: [Mean]}}\nimageType: {{Original: {{}}, Square: {{}}}}\nsetting: {setting}"
        measured = measure_features(volume, segmentation, parameters_of(tmp_path, text), modality, cores=1)
        units |= {(name, m.image_filter): m.unit.value for m in measured.measurements}
    assert units.pop(("ct", "original")) == "[hnsf'U]"
    assert set(units.values()) == {"[arb'U]"}


@pytest.mark.parametrize(
    ("text", "ours"),
    [
        ("setting: {binWidth: 25}", {"shape", "firstorder"}),
        ("setting: {binWidth: 10}", {"shape"}),
        ("imageType: {Original: {binCount: 32}}", {"shape"}),
        ("imageType: {Square: {}}", {"shape"}),
        ("setting: {voxelArrayShift: 1000}", {"shape"}),
        ("setting: {minimumROISize: 10}", set()),
        ("setting: {normalize: true}", set()),
        ("setting: {resampledPixelSpacing: [1, 1, 1]}", set()),
        ("setting: {resegmentRange: [0, 100]}", set()),
        ("featureClass: {glcm: }", set()),
    ],
)
def test_who_computes_what(tmp_path, text: str, ours: set[str]) -> None:
    """Shape and first order are ours where the settings leave them as published; nothing is computed twice."""
    plan = plan_of(parameters_of(tmp_path, text))
    assert {family for family, names in plan.ours.items() if names} == ours
    theirs = {name for part in plan.theirs for image_filter, name in part.names() if image_filter == "original"}
    assert not theirs & {name for names in plan.ours.values() for name in names}
