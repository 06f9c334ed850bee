"""One series scored and drawn in this process: what a prediction leaves out, and both outlines of a picture."""

from __future__ import annotations

import io
from pathlib import Path

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from voxfleet.benchmarks.case import Candidate, CaseRequest, PictureRequest, Rules
from voxfleet.benchmarks.case_picture import COLORS, draw_case
from voxfleet.benchmarks.case_scoring import score_case
from voxfleet.benchmarks.references.reference import CodedName, Reading, Structure
from voxfleet.enrich.archives.archive import SeriesEntry
from voxfleet.enrich.phantom import CtIdentity, Phantom, chest_phantom, write_ct_series
from voxfleet.models.codes import LEFT, LUNG, RIGHT

SIDES = {"right_lung": RIGHT, "left_lung": LEFT}
BOTH_LUNGS = tuple(Structure(n, name, None, LUNG, side) for n, (name, side) in enumerate(SIDES.items(), start=1))


def save_mask(path: Path, phantom: Phantom, mask: NDArray[np.bool_]) -> None:
    """A mask on the phantom's grid as NIfTI."""
    turned = phantom.volume.with_array(mask.astype(np.uint8)).permute_spatial_axes((2, 1, 0))
    path.parent.mkdir(exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(turned.array), turned.get_affine("RAS")), path)


@pytest.fixture
def request_of_case(tmp_path: Path) -> CaseRequest:
    """An expert who outlined both lungs; a model that can find both and gave the right one, two voxels further left."""
    phantom, identity = chest_phantom((12, 48, 48), (24.0, 7.5, 7.5), seed=1, opacities=()), CtIdentity.named("one")
    write_ct_series(phantom.volume, tmp_path / "ct", identity=identity)
    masks = {each.name: phantom.truth.mask(each.number) for each in phantom.truth.segments if each.name in SIDES}
    for name, mask in masks.items():
        save_mask(tmp_path / "expert" / f"{name}.nii.gz", phantom, mask)
    save_mask(tmp_path / "model" / "right_lung.nii.gz", phantom, np.roll(masks["right_lung"], 2, axis=2))
    codes = {name: CodedName(LUNG, laterality=side) for name, side in SIDES.items()}
    entry = SeriesEntry(identity.study_instance_uid, identity.series_instance_uid, "CT", 12)
    rules = Rules((str(tmp_path / "expert"),), Reading(codes=codes), (1.0,))
    model = Candidate("model", place=str(tmp_path / "model"), vocabulary=BOTH_LUNGS)
    folders = (str(tmp_path / "scratch"), str(tmp_path / "sr"))
    return CaseRequest(f"dir:{tmp_path / 'ct'}", entry, (model,), rules, *folders)


def test_what_a_prediction_leaves_out_was_not_found(request_of_case: CaseRequest) -> None:
    """A structure that the model can find and does not describe is an empty one: Dice 0, and no failure."""
    case = score_case(request_of_case)
    dice = {score.segment: (score.value, score.failure) for score in case.scores if score.metric == "dice"}
    assert dice["Left Lung"] == (0.0, None)
    assert 0.5 < dice["Right Lung"][0] < 1
    assert not case.problems


def test_a_picture_has_both_outlines(request_of_case: CaseRequest) -> None:
    """In each plane the expert's and the model's outline are drawn, each in its colour, over what both have."""
    drawn = draw_case(PictureRequest(request_of_case, "model", "reference", "Right Lung"))
    assert [each.plane for each in drawn] == ["axial", "coronal", "sagittal"]
    for each in drawn[:2]:  # the shift is along the third plane's normal
        rgba = np.asarray(Image.open(io.BytesIO(each.overlay_png))).reshape(-1, 4)
        colors = {tuple(color) for color in rgba[rgba[:, 3] > 0, :3].tolist()}
        assert colors == set(COLORS.values())
