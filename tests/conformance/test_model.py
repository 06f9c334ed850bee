"""What every model does with a volume that holds no image: the same refusal, before it computes anything."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from voxfleet.models import catalogue
from voxfleet.models.model import Model
from voxfleet.models.parameters import InvalidParameter
from voxfleet.models.rules.working_grid import InvalidVolume

NEEDS = {
    "ct-threshold": (),
    "covid-opacity-hu": (),
    "meshnet-gwm": ("torch",),
    f"nnunet:{Path(__file__).parents[1] / 'models' / 'trained'}": ("nnunetv2",),
}
"""Models that come with their weights, and the packages that they need."""

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])


def _ct() -> np.ndarray:
    """Noise with air and tissue, (k, j, i)."""
    return np.random.default_rng(1).integers(-1000, 900, (6, 8, 10)).astype(np.float32)


def _with(value: float) -> np.ndarray:
    array = _ct()
    array[2, 3, 4] = value
    return array


VOLUMES = {
    "NaN": (_with(np.nan), AFFINE, "not finite"),
    "infinite": (_with(-np.inf), AFFINE, "not finite"),
    "empty": (np.zeros((0, 8, 10), np.int16), AFFINE, "one value for each voxel"),
    "colours": (np.zeros((6, 8, 10, 3), np.int16), AFFINE, "one value for each voxel"),
    "metres": (_ct(), np.diag([0.002, 0.002, 0.002, 1.0]), "0.002 x 0.002 x 0.002 mm apart"),
    "micrometres": (_ct(), np.diag([2000.0, 2.0, 2.0, 1.0]), "2000 x 2 x 2 mm apart"),
}


@pytest.fixture(scope="module", params=NEEDS, ids=lambda name: name.partition(":")[0])
def model(request: pytest.FixtureRequest) -> Model:
    """A loaded model."""
    for package in NEEDS[request.param]:
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    return catalogue.load(request.param)


@pytest.mark.parametrize("name", VOLUMES)
def test_volumes_without_an_image_are_refused(model, name):
    """Voxels that are no numbers, none at all, colours, and a spacing in another unit are refused with the reason."""
    array, affine, reason = VOLUMES[name]
    channels = {} if array.ndim == 3 else {"channels": {hd.RGB_COLOR_CHANNEL_DESCRIPTOR: ["R", "G", "B"]}}
    volume = hd.Volume(array, affine, "PATIENT", **channels)
    with pytest.raises(InvalidVolume, match=reason) as caught:
        model.segment(volume, {})
    assert caught.value.refused
    assert caught.value.args[0] == model.card.name


def test_constant_volumes_are_refused(model):
    """A volume of one value shows nothing; rules miss the air in it."""
    with pytest.raises(InvalidVolume, match=r"every voxel is 40|there is no air"):
        model.segment(hd.Volume(np.full((6, 8, 10), 40, np.int16), AFFINE, "PATIENT"), {})


def test_unknown_parameters_are_refused(model):
    """A parameter that the card does not have is named."""
    with pytest.raises(InvalidParameter, match="no parameter 'colour'"):
        model.segment(hd.Volume(_ct(), AFFINE, "PATIENT"), {"colour": "1"})
