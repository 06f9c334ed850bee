"""nnunet:FOLDER against nnU-Net's own prediction with the same weights, and what it refuses."""

from __future__ import annotations

import importlib.util
import json
import os
import pickle
import subprocess
import sys
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import highdicom as hd
import nibabel as nib
import numpy as np
import pytest
import yaml

torch = pytest.importorskip("torch")
pytest.importorskip("nnunetv2")

from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor  # noqa: E402
from voxfleet.enrich.phantom import chest_phantom  # noqa: E402
from voxfleet.models import catalogue  # noqa: E402
from voxfleet.models.card_file import InvalidCard  # noqa: E402
from voxfleet.models.nnunet import trainer as nnunet_trainer  # noqa: E402
from voxfleet.models.nnunet.checkpoint import read_checkpoint  # noqa: E402
from voxfleet.models.parameters import InvalidParameter  # noqa: E402
from voxfleet.models.rules.working_grid import InvalidVolume  # noqa: E402
from voxfleet.models.weights import InvalidWeights, UnsafeWeights, WeightsMissing, WrongHash  # noqa: E402

SCALAR = np._core.multiarray.scalar
TRAINED = Path(__file__).parent / "trained"
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
ORGANS = {name: number for number, name in enumerate(("liver", "spleen", "aorta", "colon", "heart", "brain"), start=1)}
REGIONS = {"whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}
FLAT = {
    "patch_size": [32, 32],
    "spacing": [3.0, 3.0],
}


def _module(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


weights = _module("nnunet_weights")


@dataclass(frozen=True)
class Case:
    """One network and one image, predicted by nnU-Net and by us."""

    name: str
    reader: str
    spacing_mm: tuple[float, float, float] = (3.0, 3.0, 3.0)
    orientation: str = "HPL"
    labels: dict[str, Any] = field(default_factory=lambda: ORGANS)
    order: list[int] | None = None
    contains: tuple[tuple[int, ...], ...] = ((),) * 6
    folds: tuple[str, ...] = ("0",)
    mirroring_axes: tuple[int, ...] | None = None
    transpose: tuple[int, int, int] = (0, 1, 2)
    step_size: float = 0.5
    zeros: int = 0
    flat: bool = False


CASES = (
    Case("folds-mirrored", "NibabelIOWithReorient", (2.0, 1.5, 1.7), "FAR", folds=("0", "1"), mirroring_axes=(0, 2)),
    Case("anisotropic-transposed", "SimpleITKIO", (10.0, 2.1, 2.1), transpose=(1, 2, 0), step_size=0.7),
    Case("regions-cropped", "NibabelIO", (4.0, 1.3, 1.3), "RHP", REGIONS, [1, 2, 3], ((2, 3), (3,), ()), zeros=6),
    Case("sagittal-reoriented", "SimpleITKIOWithReorient", (3.0, 2.0, 2.5), "LFP"),
    Case("slice-by-slice", "SimpleITKIO", (5.0, 2.0, 2.0), flat=True),
)


def folder_for(case: Case, folder: Path, shared_data: Path) -> Path:
    """A trained folder, with its card."""
    plans = weights.tiny_plans(shared_data, **(FLAT if case.flat else {}))
    plans["image_reader_writer"] = case.reader
    plans["transpose_forward"] = list(case.transpose)
    plans["transpose_backward"] = [int(axis) for axis in np.argsort(case.transpose)]
    if case.flat:
        flatten(plans["configurations"][weights.CONFIGURATION]["architecture"]["arch_kwargs"])
    dataset = weights.dataset_of(case.labels, case.order)
    weights.write_folder(folder, plans, dataset, case.folds, case.mirroring_axes)
    segments = dict(zip(case.labels, case.contains, strict=True))
    return weights.write_card(folder, segments, step_size=str(case.step_size))


def flatten(arch: dict[str, Any]) -> None:
    """Make the plans' network one of two dimensions."""
    arch["conv_op"], arch["norm_op"] = "torch.nn.modules.conv.Conv2d", "torch.nn.modules.instancenorm.InstanceNorm2d"
    arch["kernel_sizes"] = [each[1:] for each in arch["kernel_sizes"]]
    arch["strides"] = [each[1:] for each in arch["strides"]]


def volume_for(case: Case) -> hd.Volume:
    """A small CT of noisy balls, of the case's spacing and orientation; its first columns may be zero."""
    random = np.random.default_rng(3)
    k, j, i = np.ogrid[:18, :40, :36]
    balls = 300 * np.sin(k / 3) * np.cos(j / 5) + 200 * np.sin(i / 4) - 100
    array = (balls + random.normal(scale=60, size=(18, 40, 36))).astype(np.int16)
    array[..., : case.zeros] = 0
    affine = np.diag([*case.spacing_mm[::-1], 1.0])[:, [2, 1, 0, 3]]
    affine[:3, 3] = (-30.0, 12.5, -200.0)
    volume = hd.Volume(array, affine, "PATIENT")
    return volume.to_patient_orientation(case.orientation)


def write_nifti(volume: hd.Volume, path: Path) -> None:
    """The volume's voxels in their order, i fastest."""
    affine = LPS_TO_RAS @ volume.affine[:, [2, 1, 0, 3]]
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.asarray(volume.array).transpose(2, 1, 0), affine), path)


def predicted_by_nnunet(case: Case, folder: Path, volume: hd.Volume, scratch: Path) -> np.ndarray:
    """What `nnUNetv2_predict` writes for the volume as a file; array (k, j, i)."""
    write_nifti(volume, scratch / "in" / "case_0000.nii.gz")
    (scratch / "out").mkdir()
    predictor = nnUNetPredictor(tile_step_size=case.step_size, device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(folder), tuple(map(int, case.folds)))
    predictor.predict_from_files_sequential(str(scratch / "in"), str(scratch / "out"))
    return np.asarray(nib.load(scratch / "out" / "case.nii.gz").dataobj).transpose(2, 1, 0)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_equals_nnunet(case, tmp_path, shared_data):
    """Every voxel is the one that nnU-Net writes for the same image and weights, and there is more than background."""
    folder, volume = folder_for(case, tmp_path / "model", shared_data), volume_for(case)
    expected = predicted_by_nnunet(case, folder, volume, tmp_path)
    found = catalogue.load(f"nnunet:{folder}").segment(volume, {})
    assert len(np.unique(expected)) >= 3
    np.testing.assert_array_equal(found.labelmap.array, expected)
    assert found.labelmap.geometry_equal(volume)


@pytest.mark.slow
def test_real_ct_equals_nnunet(tmp_path, shared_data):
    """The same for TotalSegmentator's example CT with all of its 117 classes."""
    case = Case("total", "NibabelIOWithReorient")
    dataset = json.loads((shared_data / weights.SKELETON / "dataset.json").read_text())
    folder = weights.write_folder(tmp_path / "model", weights.tiny_plans(shared_data), dataset)
    names = [name for name in dataset["labels"] if name != "background"]
    weights.write_card(folder, dict.fromkeys(names, ()))
    image = nib.load(shared_data / "totalsegmentator-example" / "example_ct_sm.nii.gz")
    array = np.asarray(image.dataobj).astype(np.int16).transpose(2, 1, 0)
    volume = hd.Volume(array, (LPS_TO_RAS @ image.affine)[:, [2, 1, 0, 3]], "PATIENT")
    expected = predicted_by_nnunet(case, folder, volume, tmp_path)
    found = catalogue.load(f"nnunet:{folder}").segment(volume, {})
    np.testing.assert_array_equal(found.labelmap.array, expected)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, shared_data):
    """A trained folder of three organs with two folds; not to be changed."""
    case = Case("plain", "SimpleITKIO", folds=("0", "1"), mirroring_axes=(0, 1))
    return folder_for(case, tmp_path_factory.mktemp("nnunet") / "model", shared_data)


@pytest.fixture
def own_folder(tmp_path, shared_data):
    """A trained folder of three organs, for the test to spoil."""
    return folder_for(Case("own", "SimpleITKIO"), tmp_path / "model", shared_data)


def test_same_again_and_in_another_order(folder):
    """The same volume gives the same bits, twice and after another one."""
    model = catalogue.load(f"nnunet:{folder}")
    first, other = volume_for(CASES[1]), volume_for(CASES[3])
    one, two = (model.segment(volume, {"mirroring": "no"}).labelmap.array for volume in (first, other))
    again, once_more = (model.segment(volume, {"mirroring": "no"}).labelmap.array for volume in (other, first))
    np.testing.assert_array_equal(once_more, one)
    np.testing.assert_array_equal(again, two)


def test_orientation_of_training(folder):
    """A network trained on LAS images sees one patient in one way, however the series was stored."""
    model, volume = catalogue.load(f"nnunet:{folder}"), volume_for(CASES[1])
    parameters = {"orientation": "LAS", "folds": "0", "mirroring": "no"}
    expected = model.segment(volume, parameters)
    turned = model.segment(volume.to_patient_orientation("LFP"), parameters)
    np.testing.assert_array_equal(turned.labelmap.to_patient_orientation("HPL").array, expected.labelmap.array)
    as_las = model.segment(volume.to_patient_orientation("HAL"), {**parameters, "orientation": "stored"})
    np.testing.assert_array_equal(as_las.labelmap.to_patient_orientation("HPL").array, expected.labelmap.array)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"threshold": "1"}, "no parameter 'threshold'"),
        ({"folds": "4"}, "folds: '4'; loaded are 0, 1"),
        ({"step_size": "0"}, "step_size: '0' is not in"),
        ({"mirroring": "true"}, "mirroring: 'true' is neither yes nor no"),
        ({"orientation": "RRS"}, "orientation: 'RRS' is neither"),
        ({"network": "plans"}, "network is the card's"),
        ({"precision": "half"}, "precision: 'half' is none of default, float32, bfloat16, float16"),
        ({"compile": "true"}, "compile: 'true' is neither yes nor no"),
        ({"batch": "0"}, "batch: '0' is not 1 to 64"),
        ({"batch": "two"}, "batch: 'two' is not 1 to 64"),
    ],
)
def test_wrong_parameters(folder, parameters, message):
    """A parameter that is unknown, or has no such value, is named."""
    with pytest.raises(InvalidParameter, match=message):
        catalogue.load(f"nnunet:{folder}").segment(volume_for(CASES[1]), parameters)


@pytest.mark.parametrize("value", [np.nan, np.inf, 7.0])
def test_volumes_that_are_refused(folder, value):
    """A volume with voxels that are not finite, or with nothing in it, is refused."""
    volume = volume_for(CASES[1])
    array = np.full(volume.array.shape, 7.0, dtype=np.float32)
    array[3, 4, 5] = value
    with pytest.raises(InvalidVolume):
        catalogue.load(f"nnunet:{folder}").segment(volume.with_array(array), {})


def checkpoint_of(folder: Path) -> Path:
    """Its first fold's file."""
    return folder / "fold_0" / "checkpoint_final.pth"


def repin(folder: Path) -> str:
    """Give the card the hashes of the files as they are now; gives the model's name."""
    card = yaml.safe_load((folder / "card.yaml").read_text())
    weights.write_card(folder, {segment["name"]: () for segment in card["segments"]}, **card["parameters"])
    return f"nnunet:{folder}"


def test_wrong_hash(own_folder):
    """A checkpoint that is not the one the card pins is not read."""
    with checkpoint_of(own_folder).open("ab") as file:
        file.write(b"x")
    with pytest.raises(WrongHash, match="fold_0/checkpoint_final"):
        catalogue.load(f"nnunet:{own_folder}")


def test_missing_checkpoint(own_folder):
    """A checkpoint that is not there is named."""
    checkpoint_of(own_folder).unlink()
    with pytest.raises(WeightsMissing, match="fold_0/checkpoint_final"):
        catalogue.load(f"nnunet:{own_folder}")


@pytest.mark.parametrize("part", [0.0, 0.5, 0.99])
def test_truncated_checkpoint(own_folder, part):
    """A checkpoint that was cut off is named as damaged, even where the card pins it so."""
    content = checkpoint_of(own_folder).read_bytes()
    checkpoint_of(own_folder).write_bytes(content[: int(len(content) * part)])
    with pytest.raises(InvalidWeights, match="fold_0/checkpoint_final"):
        catalogue.load(repin(own_folder))


class Malicious:
    """Runs a command when it is unpickled."""

    def __init__(self, touched: Path) -> None:
        self.touched = touched

    def __reduce__(self):
        return os.system, (f"touch {self.touched}",)


def test_malicious_pickle_is_not_executed(own_folder, tmp_path):
    """A checkpoint that asks for a command to be run is refused, and nothing is run."""
    torch.save({"network_weights": Malicious(tmp_path / "touched")}, checkpoint_of(own_folder))
    with pytest.raises(UnsafeWeights, match="system"):
        catalogue.load(repin(own_folder))
    assert not (tmp_path / "touched").exists()


def test_checkpoint_of_something_else(own_folder):
    """Weights that nnU-Net did not write are no checkpoint of it."""
    torch.save({"state_dict": {}}, checkpoint_of(own_folder))
    with pytest.raises(InvalidWeights, match="no checkpoint of nnU-Net v2"):
        catalogue.load(repin(own_folder))


def test_weights_of_another_network(own_folder):
    """Weights that do not fit the plans' network are refused when the model loads."""
    dataset = json.loads((own_folder / "dataset.json").read_text())
    dataset["labels"]["kidney"] = 7
    (own_folder / "dataset.json").write_text(json.dumps(dataset))
    weights.write_card(own_folder, dict.fromkeys((*ORGANS, "kidney"), ()))
    with pytest.raises(InvalidWeights, match="not those of the network"):
        catalogue.load(f"nnunet:{own_folder}")


@pytest.mark.parametrize(
    ("key", "value"),
    [("network_class_name", "os.system"), ("network_class_name", "torch.nn.functional.relu")],
)
def test_plans_that_name_no_network(own_folder, key, value):
    """Plans may name parts of networks, and no other code."""
    plans = json.loads((own_folder / "plans.json").read_text())
    plans["configurations"][weights.CONFIGURATION]["architecture"][key] = value
    (own_folder / "plans.json").write_text(json.dumps(plans))
    with pytest.raises(InvalidWeights, match=value):
        catalogue.load(f"nnunet:{own_folder}")


def test_trainer_of_its_own(tmp_path, shared_data):
    """A trainer that nnU-Net does not ship is refused, unless the card says that it takes the plans' network."""
    plans = weights.tiny_plans(shared_data)
    folder = weights.write_folder(tmp_path, plans, weights.dataset_of(ORGANS), trainer="nnUNetTrainerOfOurs")
    weights.write_card(folder, dict.fromkeys(ORGANS, ()))
    with pytest.raises(InvalidWeights, match="nnUNetTrainerOfOurs: this trainer is not in nnunetv2"):
        catalogue.load(f"nnunet:{folder}")
    weights.write_card(folder, dict.fromkeys(ORGANS, ()), network="plans")
    assert catalogue.load(f"nnunet:{folder}").card.parameters["network"] == "plans"


@pytest.mark.parametrize(
    ("trainer", "builder"),
    [
        ("nnUNetTrainer", None),
        ("nnUNetTrainer_5epochs", None),
        ("nnUNetTrainer_4000epochs_NoMirroring", None),
        ("nnUNetTrainerDiceTopK10Loss", None),
        ("nnUNetTrainerBN", "nnUNetTrainerBN.build_network_architecture"),
    ],
)
def test_who_builds_the_network(trainer, builder):
    """The class that builds a trainer's network is the one that Python's method resolution finds."""
    found = nnunet_trainer._builder(trainer)
    assert (found and found.__qualname__) == builder


def test_nothing_of_torchvision_is_imported(folder):
    """Loading a network does not import every trainer's libraries, which may be broken."""
    code = (
        f"import sys; from voxfleet.models import catalogue; catalogue.load('nnunet:{folder}');"
        "print([m for m in ('torchvision', 'timm', 'nnunetv2.training') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder)
    assert done.stdout.strip() == "[]"


def test_card_needs_no_torch(folder):
    """Reading the card imports nothing heavy; its name is the one on it, and not where it lies."""
    code = (
        f"import sys; from voxfleet.models import catalogue; print(catalogue.card('nnunet:{folder.name}').name);"
        "print([m for m in ('torch', 'nnunetv2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder.parent)
    assert done.stdout.split("\n")[:2] == ["nnunet:a-network", "[]"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda card: card["segments"][0].update(name="lung"), "names are not the labels of dataset.json: liver, lung"),
        (lambda card: card["segments"][0].update(contains=[2]), r"segments\[0\].contains: .*liver contains \[\]"),
        (lambda card: card.update(weights=[]), "weights: no checkpoint"),
        (lambda card: card["weights"][0].update(url="../x.pth"), "lies outside the folder"),
        (
            lambda card: card["weights"].append({**card["weights"][0], "url": "fold_0/checkpoint_best.pth"}),
            "weights: one checkpoint of a fold is needed: fold_0, fold_0 are named",
        ),
        (lambda card: card["parameters"].update(patch="1"), "parameters.patch: unknown"),
    ],
)
def test_card_that_does_not_fit(own_folder, change, message):
    """A card that does not fit the folder is refused, with the key."""
    card = yaml.safe_load((own_folder / "card.yaml").read_text())
    change(card)
    (own_folder / "card.yaml").write_text(yaml.safe_dump(card))
    with pytest.raises(InvalidCard, match=message):
        catalogue.card(f"nnunet:{own_folder}")


def test_old_numpy_names_are_read(own_folder):
    """Checkpoints written under NumPy 1, where its scalars have another module name, are read."""
    path = checkpoint_of(own_folder)
    assert b"numpy._core.multiarray\nscalar" in path.read_bytes()
    loaded = torch.load(path, weights_only=False)
    with path.open("wb") as file:
        torch.save(loaded, file, pickle_module=_pickle_of_numpy_1())
    assert b"numpy.core.multiarray\nscalar" in path.read_bytes()
    assert read_checkpoint(path).trainer == "nnUNetTrainer"


def _pickle_of_numpy_1() -> Any:
    """A pickle module whose pickler writes NumPy's scalars as NumPy 1 did."""

    class Pickler(pickle._Pickler):
        dispatch: ClassVar = dict(pickle._Pickler.dispatch)

        def save_global(self, obj: Any, name: str | None = None) -> None:
            if obj is SCALAR:
                self.write(b"cnumpy.core.multiarray\nscalar\n")
                self.memoize(obj)
            else:
                super().save_global(obj, name)

    Pickler.dispatch[type(SCALAR)] = Pickler.save_global
    return types.SimpleNamespace(__name__="pickle", Pickler=Pickler, dump=pickle.dump)


def test_trained_by_nnunet_finds_the_anatomy():
    """A network that nnU-Net's trainer trained on eight phantoms finds body, lung and bone of phantoms it never saw."""
    model = catalogue.load(f"nnunet:{TRAINED}")
    truth_of = {"body": (1, 4), "lung": (2, 3, 6, 7, 8, 9), "bone": (5,)}
    for seed, shape, spacing_mm in ((101, (40, 96, 96), (6.0, 4.0, 4.0)), (102, (60, 120, 120), (4.0, 3.2, 3.2))):
        phantom = chest_phantom(shape, spacing_mm, seed=seed)
        found = model.segment(phantom.volume, {"step_size": "0.9"})
        truth = phantom.truth.labelmap.array
        for segment in found.segments:
            a, b = found.mask(segment.number), np.isin(truth, truth_of[segment.name])
            assert 2 * np.count_nonzero(a & b) / (a.sum() + b.sum()) > 0.9, (seed, segment.name)
