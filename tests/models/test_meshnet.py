"""meshnet-gwm: real trained weights on the real T1 that brainchop shows them with."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import nibabel as nib
import numpy as np
import pytest
from nibabel.processing import resample_from_to
from voxfleet.models import catalogue, weights
from voxfleet.models.conform import AXES, conform, conformed_affine, restore
from voxfleet.models.model import ModelCard
from voxfleet.models.parameters import InvalidParameter
from voxfleet.models.rules.working_grid import InvalidVolume
from voxfleet.models.weights import InvalidWeights, UnsafeWeights, WeightsMissing, WrongHash

from .conftest import read_nifti

torch = pytest.importorskip("torch")

from voxfleet.models.adapters.meshnet import largest_piece, load  # noqa: E402

WHITE, GREY = 1, 2


@pytest.fixture(scope="module")
def t1(shared_data: Path) -> hd.Volume:
    """Brainchop's example: T1-weighted MR of a head, conformed, uint8 values; axes to left, feet and front."""
    image = nib.load(shared_data / "weights" / "brainchop-meshnet-gwm" / "t1_crop.nii.gz")
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ image.affine
    return hd.Volume(np.asanyarray(image.dataobj).astype(np.int16), affine, "PATIENT")


@pytest.fixture
def small() -> hd.Volume:
    """A volume that every refusal is shown on."""
    return hd.Volume(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4), "PATIENT")


@pytest.mark.slow
def test_network_is_the_published_one(t1):
    """On values scaled to [0, 1], 610,219 and 290,838 voxels get classes 1 and 2: counted by another program's network.

    That scaling is not the one it was trained with (nearly all of these voxels lie in the air): it shows the
    architecture and the weights, and the next test shows the model.
    """
    model = catalogue.load("meshnet-gwm")
    found = np.bincount(model.classes(t1.array.astype(np.float32) / 255).ravel(), minlength=3)
    assert found[[WHITE, GREY]].tolist() == [610_219, 290_838]


@pytest.mark.slow
def test_brain_is_found(t1):
    """White matter is brighter than grey on T1, both lie in the head and have an adult's volumes.

    An adult has 400 to 600 ml of white and 600 to 900 ml of grey matter (Lüders et al., NeuroImage 2002); this
    smallest network takes some scalp and muscle for grey matter, as its card says.
    """
    labels = catalogue.load("meshnet-gwm").segment(t1, {}).labelmap
    white, grey = labels.array == WHITE, labels.array == GREY
    assert np.array_equal(labels.affine, t1.affine)
    assert 90 < np.median(t1.array[grey]) < 105
    assert 112 < np.median(t1.array[white]) < 128
    assert 400_000 < np.count_nonzero(white) < 650_000
    assert 600_000 < np.count_nonzero(grey) < 1_100_000
    assert np.mean(t1.array[white | grey] > 0) > 0.998
    centre = np.argwhere(white).mean(axis=0)
    assert np.abs(centre - np.argwhere(t1.array > 60).mean(axis=0)).max() < 25


def test_network_gives_the_same_bits_again(t1):
    """A part of a head gives the same classes again, with another part between."""
    model = catalogue.load("meshnet-gwm")
    one, other = (
        t1.array[where, 80:140, 80:140].astype(np.float32) / 100 for where in (slice(90, 150), slice(60, 120))
    )
    first, second, third = (model.classes(np.ascontiguousarray(values)) for values in (one, other, one))
    assert np.array_equal(first, third)
    assert not np.array_equal(first, second)


@pytest.mark.slow
@pytest.mark.long
def test_same_again_and_in_another_order(t1):
    """The same head gives the same bits again, with another volume between."""
    model = catalogue.load("meshnet-gwm")
    other = t1.with_array(t1.array[::-1].copy())
    first, second, third = (model.segment(volume, {}).labelmap.array for volume in (t1, other, t1))
    assert np.array_equal(first, third)
    assert not np.array_equal(first, second)


def test_conformed_volume_is_left_alone(t1):
    """FreeSurfer's grid is recognised: a conformed volume has its own conformed affine, and its values unchanged."""
    assert np.allclose(conformed_affine(t1), t1.affine, atol=1e-9)
    assert np.array_equal(conform(t1), t1.array)
    assert np.array_equal(restore(t1.array.astype(np.uint8), t1).array, t1.array)


def test_conform_interpolates_as_nibabel(shared_data):
    """On a real CT of 3 mm the conformed values are those that nibabel resamples onto the same grid."""
    path = shared_data / "totalsegmentator-example" / "example_ct.nii.gz"
    volume, image = read_nifti(path), nib.load(path)
    image = nib.Nifti1Image(np.asanyarray(image.dataobj).astype(np.float32), image.affine)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ conformed_affine(volume)
    theirs = np.asanyarray(resample_from_to(image, ((256,) * 3, affine), order=1).dataobj)
    assert np.abs(conform(volume) - theirs).max() < 0.01


def test_labels_come_back_to_an_oblique_grid():
    """A ball drawn on the conformed grid lies at the same place in the patient on an oblique, anisotropic one."""
    angle = np.deg2rad(20)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([0.9, 1.2, 3.0])[:, ::-1]
    affine[:3, 3] = (-60, -70, 30)
    volume = hd.Volume(np.zeros((40, 110, 130), np.int16), affine, "PATIENT")
    centre = volume.affine[:3] @ (20, 50, 60, 1)
    grid = np.stack(np.meshgrid(*(np.arange(256),) * 3, indexing="ij"))
    at = conformed_affine(volume)[:3, :3] @ grid.reshape(3, -1) + conformed_affine(volume)[:3, 3:]
    ball = (np.linalg.norm(at - centre[:, None], axis=0) < 25).reshape((256,) * 3)
    found = np.argwhere(restore(ball.astype(np.uint8), volume).array)
    assert np.linalg.norm(volume.affine[:3] @ (*found.mean(axis=0), 1) - centre) < 0.5
    assert len(found) * 0.9 * 1.2 * 3.0 == pytest.approx(4 / 3 * np.pi * 25**3, rel=0.01)


def test_axes_run_to_left_feet_front():
    """The conformed axes are those of FreeSurfer's LIA: left, inferior, anterior, as LPS directions."""
    assert AXES.T.tolist() == [[1, 0, 0], [0, 0, -1], [0, -1, 0]]


def test_largest_piece_spans_labels():
    """Labels that touch at a corner are one piece, whatever their numbers; smaller pieces go."""
    labels = np.zeros((4, 4, 6), np.uint8)
    labels[0, 0, 0], labels[1, 1, 1], labels[2, 2, 2] = 1, 2, 2
    labels[3, 3, 5] = 1
    kept = largest_piece(labels)
    assert kept[3, 3, 5] == 0
    assert (kept[0, 0, 0], kept[1, 1, 1], kept[2, 2, 2]) == (1, 2, 2)
    assert not largest_piece(np.zeros((2, 2, 2), np.uint8)).any()


def test_bad_volumes_are_refused(small):
    """NaN, infinity, a constant, an empty volume and a parameter are refused before the network runs."""
    model = catalogue.load("meshnet-gwm")
    for value in (np.nan, np.inf):
        broken = small.array.astype(np.float32)
        broken[0, 0, 0] = value
        with pytest.raises(InvalidVolume, match="not finite") as caught:
            model.segment(small.with_array(broken), {})
        assert caught.value.refused
    with pytest.raises(InvalidVolume, match="every voxel is 3"):
        model.segment(small.with_array(np.full_like(small.array, 3)), {})
    with pytest.raises(InvalidParameter, match="no parameter 'x'"):
        model.segment(small, {"x": "1"})


def test_carried_weights_are_the_cards():
    """The weights travel with the package beside their licence, so that nothing needs to be fetched."""
    (path,) = weights.verified(catalogue.card("meshnet-gwm"))
    assert path.parent == weights.CARRIED / "meshnet-gwm"
    assert "MIT License" in (path.parent / "LICENSE").read_text()


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place for the carried weights that a test may spoil."""
    shutil.copytree(weights.CARRIED / "meshnet-gwm", tmp_path / "carried" / "meshnet-gwm")
    monkeypatch.setattr(weights, "CARRIED", tmp_path / "carried")
    monkeypatch.setenv("VOXFLEET_WEIGHTS", str(tmp_path / "store"))
    return tmp_path / "carried" / "meshnet-gwm" / "meshnet.pth"


def pinned(path: Path) -> ModelCard:
    """The model's card with the SHA-256 of the file as it is now."""
    card = catalogue.card("meshnet-gwm")
    now = replace(card.weights[0], sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    return replace(card, weights=(now,))


def test_wrong_hash_is_not_loaded(elsewhere):
    """Weights that were changed by one byte are refused before they are read."""
    content = bytearray(elsewhere.read_bytes())
    content[1000] ^= 1
    elsewhere.write_bytes(bytes(content))
    with pytest.raises(WrongHash, match="it is not used"):
        catalogue.load("meshnet-gwm")


def test_missing_weights_name_the_command(elsewhere):
    """Without its weights the model says what fetches them."""
    elsewhere.unlink()
    with pytest.raises(WeightsMissing, match="run: voxfleet models fetch meshnet-gwm"):
        catalogue.load("meshnet-gwm")


def test_truncated_checkpoint_is_told(elsewhere):
    """A checkpoint that was cut is unreadable, even where its hash is pinned."""
    elsewhere.write_bytes(elsewhere.read_bytes()[:20_000])
    with pytest.raises(InvalidWeights, match=r"meshnet\.pth is truncated"):
        load(pinned(elsewhere), "cpu")


class Malice:
    """Unpickled, it makes a file."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.proof}",)


@pytest.mark.parametrize("write", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_malicious_pickle_is_not_executed(elsewhere, tmp_path, write):
    """A file that runs a command when unpickled, in torch's format or as a bare pickle, runs nothing here."""
    proof = tmp_path / "executed"
    write({"model.0.conv.weight": Malice(proof)}, elsewhere)
    with pytest.raises((UnsafeWeights, InvalidWeights)):
        load(pinned(elsewhere), "cpu")
    assert not proof.exists()
    # The same file does run its command for who unpickles it: the test would notice.
    code = "import sys, torch; torch.load(sys.argv[1], weights_only=False)"
    subprocess.run([sys.executable, "-c", code, str(elsewhere)], check=False, capture_output=True)
    assert proof.exists()


def test_other_weights_are_told(elsewhere):
    """Weights of another network are refused with the name of one that is missing."""
    torch.save({"fc.weight": torch.zeros(2)}, elsewhere)
    with pytest.raises(InvalidWeights, match="does not fit the network"):
        load(pinned(elsewhere), "cpu")
    torch.save([1, 2], elsewhere)
    with pytest.raises(InvalidWeights, match="holds a list"):
        load(pinned(elsewhere), "cpu")
