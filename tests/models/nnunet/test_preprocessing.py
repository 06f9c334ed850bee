"""What a network sees, against nnU-Net's own preprocessor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("nnunetv2")

from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from voxfleet.models.nnunet.preprocessing import preprocessed
from voxfleet.models.rules.working_grid import InvalidVolume

CONFIGURATION = "3d_fullres"
PLANS = Path("weights") / "nnunet-skeleton-total-3mm-like" / "plans_tiny.json"
"""Of a network at 3 mm."""
SPACINGS_MM = ((3.0, 3.0, 3.0), (2.0, 1.5, 1.7), (10.0, 2.0, 2.0), (3.0, 3.0, 1.9))
NORMALISATIONS = (("CTNormalization", False), ("ZScoreNormalization", False), ("ZScoreNormalization", True))


def plans_manager(
    shared_data: Path, normalisation: tuple[str, bool], order: int, transpose: tuple[int, ...]
) -> PlansManager:
    """Plans for two channels."""
    plans: dict[str, Any] = json.loads((shared_data / PLANS).read_text())
    name, within_mask = normalisation
    configuration = plans["configurations"][CONFIGURATION]
    configuration.update(normalization_schemes=[name] * 2, use_mask_for_norm=[within_mask] * 2)
    configuration["resampling_fn_data_kwargs"]["order"] = order
    plans["transpose_forward"] = list(transpose)
    plans["transpose_backward"] = np.argsort(transpose).tolist()
    intensities = plans["foreground_intensity_properties_per_channel"]
    intensities["1"] = intensities["0"]
    return PlansManager(plans)


def image_with_zeros() -> np.ndarray:
    """Two channels of noise, zero at some edges and in a hole."""
    image = np.random.default_rng(1).integers(-1000, 1000, (2, 18, 40, 36)).astype(np.int16)
    image[..., :5] = image[:, -3:] = image[:, 5, 5:9, 5:9] = 0
    return image


def check_equal(image: np.ndarray, plans: PlansManager, spacing_mm: tuple[float, ...]) -> None:
    """Values, type, shape and box are nnU-Net's, and the image is as it was."""
    configuration, before = plans.get_configuration(CONFIGURATION), image.copy()
    properties: dict[str, Any] = {"spacing": list(spacing_mm)}
    expected, _, properties = DefaultPreprocessor(verbose=False).run_case_npy(
        image, None, properties, plans, configuration, {}
    )
    found, cropped = preprocessed(image, spacing_mm, plans, configuration, {}, "t")
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == expected.dtype
    assert [[side.start, side.stop] for side in cropped.box] == properties["bbox_used_for_cropping"]
    assert cropped.whole == tuple(properties["shape_before_cropping"])
    assert cropped.shape == tuple(properties["shape_after_cropping_and_before_resampling"])
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("spacing_mm", SPACINGS_MM, ids=str)
@pytest.mark.parametrize("normalisation", NORMALISATIONS, ids=str)
def test_has_the_values_of_nnunet(shared_data, spacing_mm, normalisation):
    """Bit for bit, for splines of every order that plans name, turned or not, thick slices one by one."""
    for order, transpose in ((0, (0, 1, 2)), (1, (1, 2, 0)), (3, (0, 1, 2)), (3, (1, 2, 0)), (4, (0, 1, 2))):
        check_equal(image_with_zeros(), plans_manager(shared_data, normalisation, order, transpose), spacing_mm)


@pytest.mark.parametrize(
    ("name", "keywords"),
    [
        ("resample_torch_fornnunet", {"is_seg": False, "force_separate_z": False}),
        ("no_resampling_hack", {}),
        ("resample_data_or_seg_to_shape", {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": True}),
    ],
)
def test_resamples_as_the_plans_say(shared_data, name, keywords):
    """By whatever function the plans name."""
    plans = plans_manager(shared_data, NORMALISATIONS[0], 3, (0, 1, 2)).plans
    configuration = plans["configurations"][CONFIGURATION]
    configuration.update(resampling_fn_data=name, resampling_fn_data_kwargs=keywords)
    for spacing_mm in SPACINGS_MM[1:3]:
        check_equal(image_with_zeros(), PlansManager(plans), spacing_mm)


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int32, np.uint8])
def test_takes_any_numbers(shared_data, kind):
    """Whatever the type of the values, and however they lie in memory."""
    plans = plans_manager(shared_data, NORMALISATIONS[1], 3, (0, 1, 2))
    check_equal(np.abs(image_with_zeros()).astype(kind), plans, SPACINGS_MM[1])
    turned = np.ascontiguousarray(image_with_zeros().transpose(0, 3, 2, 1)).transpose(0, 3, 2, 1)
    found, _ = preprocessed(turned, SPACINGS_MM[1], plans, plans.get_configuration(CONFIGURATION), {}, "t")
    straight, _ = preprocessed(turned.copy("C"), SPACINGS_MM[1], plans, plans.get_configuration(CONFIGURATION), {}, "t")
    np.testing.assert_array_equal(found, straight)


def test_an_image_of_zeros_is_not_cropped(shared_data):
    """Where nothing is to be seen, everything is looked at, as nnU-Net does."""
    plans = plans_manager(shared_data, NORMALISATIONS[0], 3, (0, 1, 2))
    check_equal(np.zeros((2, 8, 9, 10), np.int16), plans, SPACINGS_MM[1])


@pytest.mark.parametrize("spacing_mm", [(0.02, 3.0, 3.0), (0.05, 1.5, 1.7)])
def test_a_scan_too_thin_is_refused(shared_data, spacing_mm):
    """An image of which no slice is left at the network's spacing is an error that says so, where nnU-Net breaks."""
    plans = plans_manager(shared_data, NORMALISATIONS[0], 3, (0, 1, 2))
    configuration = plans.get_configuration(CONFIGURATION)
    with pytest.raises(InvalidVolume, match=r"t: too thin: at the network's spacing of 3 x 3 x 3 mm it has 0 x "):
        preprocessed(image_with_zeros(), spacing_mm, plans, configuration, {}, "t")
