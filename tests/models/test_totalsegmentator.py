"""TotalSegmentator's tasks with warm networks, against the package itself on the same made weights."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import highdicom as hd
import nibabel as nib
import numpy as np
import pytest
from pydicom.sr._concepts_dict import concepts

pytest.importorskip("totalsegmentator")

import torch
from totalsegmentator import registry
from totalsegmentator.map_tasks_config import TASK_CONFIGS, TASK_ID_WEIGHTS_CONFIGS
from totalsegmentator.resampling import change_spacing
from typer.testing import CliRunner
from voxfleet.benchmarks.performance import totalsegmentator_peer
from voxfleet.benchmarks.performance.totalsegmentator_weights import made_weights, write_home
from voxfleet.models import catalogue
from voxfleet.models.codes import PRIVATE_SCHEME
from voxfleet.models.model import ModelError
from voxfleet.models.parameters import InvalidParameter
from voxfleet.models.rules.working_grid import InvalidVolume
from voxfleet.models.state_dict import UnsafeWeights
from voxfleet.models.totalsegmentator import codes as totalsegmentator_codes
from voxfleet.models.totalsegmentator import resampling as totalsegmentator_resampling
from voxfleet.models.totalsegmentator import steps as totalsegmentator_steps
from voxfleet.models.totalsegmentator import weights as totalsegmentator_weights
from voxfleet.models.totalsegmentator.card import offered
from voxfleet.models.totalsegmentator.networks import OWN_TRAINERS
from voxfleet.models.totalsegmentator.tasks import tasks
from voxfleet.models.weights import InvalidWeights, WeightsMissing
from voxfleet.runners.model_commands import models as models_command

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
PLANS = Path("weights") / "nnunet-skeleton-total-3mm-like" / "plans_tiny.json"
"""A network of 43,000 parameters."""
ROUGH_SEEDS = {
    "Dataset298_TotalSegmentator_total_6mm_1559subj": "H",
    "Dataset297_TotalSegmentator_total_3mm_1559subj": "K",
}
"""Of made weights that find lungs and kidneys in the images, so that there is something to crop to."""


@dataclass(frozen=True)
class Case:
    """One image through one task, by us and by the package."""

    task: str
    image: str
    peer: Mapping[str, Any]
    parameters: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """For the output file and the test's name."""
        return f"{self.task}-{self.image}"


QUICK = (
    Case("total_fast", "flipped", {"task": "total", "fast": True}),
    Case("kidney_cysts", "flipped", {"task": "kidney_cysts"}),
    Case("body_fast", "flipped", {"task": "body", "fast": True}, {"resampling_order": "3"}),
)
SLOW = (
    Case("total_fast", "same_spacing", {"task": "total", "fast": True}, {"remove_small_blobs_mm3": "200"}),
    Case("total", "small", {"task": "total"}),
    Case("total_mr_fast", "mr", {"task": "total_mr", "fast": True}),
    Case("total_mr", "mr", {"task": "total_mr"}),
    Case("body", "small", {"task": "body"}),
    Case("lung_vessels", "small", {"task": "lung_vessels"}),
    Case("pleural_pericard_effusion", "small", {"task": "pleural_pericard_effusion"}),
    Case("abdominal_muscles", "small", {"task": "abdominal_muscles"}),
    Case("vertebrae_pp_refined", "small", {"task": "vertebrae_pp_refined"}),
)


def read(path: Path) -> hd.Volume:
    """A NIfTI image as a volume in LPS mm."""
    image = nib.load(path)
    array = np.asanyarray(image.dataobj)
    kind = np.int16 if array.dtype.kind in "iu" else np.float32
    return hd.Volume(array.astype(kind), LPS_TO_RAS @ image.affine, "PATIENT")


@pytest.fixture(scope="session")
def images(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Parts of TotalSegmentator's example CT and MR: as they are, and with other axes and spacing."""
    example = shared_data / "totalsegmentator-example"
    folder = tmp_path_factory.mktemp("images")
    ct = nib.load(example / "example_ct_sm.nii.gz")
    part = ct.slicer[20:68, 20:64, :]
    oblique = np.eye(4)
    oblique[:3, :3] = [[0.99, -0.14, 0], [0.14, 0.99, 0], [0, 0, 1]]
    thick = change_spacing(part, [2.2, 2.6, 5.0], order=1, dtype=np.int16)
    turned = nib.Nifti1Image(np.asanyarray(thick.dataobj), oblique @ thick.affine)
    made = {
        "same_spacing": part,
        "small": ct.slicer[40:64, 36:56, 8:22],
        "flipped": turned.as_reoriented(np.array([[1, -1], [0, -1], [2, 1]])),
        "mr": _middle(nib.load(example / "example_mr_sm.nii.gz")),
    }
    for name, image in made.items():
        nib.save(image, folder / f"{name}.nii.gz")
    return {name: folder / f"{name}.nii.gz" for name in made}


def _middle(image: nib.Nifti1Image) -> nib.Nifti1Image:
    """About 80 mm of an image in each direction."""
    half = [max(4, round(40 / mm)) for mm in image.header.get_zooms()]
    middle = [size // 2 for size in image.shape]
    return image.slicer[tuple(slice(max(0, m - h), m + h) for m, h in zip(middle, half, strict=True))]


@pytest.fixture(scope="session")
def home(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ``TOTALSEG_HOME_DIR`` with tiny networks for every case."""
    folder = tmp_path_factory.mktemp("home")
    wanted = tuple(tasks()[name] for name in dict.fromkeys(case.task for case in QUICK + SLOW))
    results = write_home(folder, wanted, shared_data / PLANS)
    for dataset, seed in ROUGH_SEEDS.items():
        (path,) = (results / dataset).rglob("checkpoint_final.pth")
        (plans,) = (results / dataset).rglob("plans.json")
        (configuration,) = json.loads(plans.read_text())["configurations"].values()
        checkpoint = torch.load(path, weights_only=True)
        outputs = len(tasks()["total"].classes) + 1
        checkpoint["network_weights"] = made_weights(configuration["architecture"], outputs, seed)
        torch.save(checkpoint, path)
    return folder


@pytest.fixture
def weights(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The environment in which the made weights are found."""
    monkeypatch.setenv("TOTALSEG_HOME_DIR", str(home))
    monkeypatch.delenv("TOTALSEG_WEIGHTS_PATH", raising=False)
    return home / "nnunet" / "results"


def by_the_package(cases: tuple[Case, ...], home: Path, images: Mapping[str, Path], folder: Path) -> dict[str, Path]:
    """Label maps that the package writes for some cases, by name."""
    outputs = {case.name: folder / f"{case.name}.nii.gz" for case in cases}
    common = {"ml": True, "device": "cpu", "quiet": True, "nr_thr_saving": 1}
    extra = {"remove_small_blobs_mm3": "remove_small_blobs", "resampling_order": "resampling_order"}
    totalsegmentator_peer.call(
        home,
        [
            {"input": str(images[case.image]), "output": str(outputs[case.name]), **common, **case.peer}
            | {extra[name]: int(value) for name, value in case.parameters.items()}
            for case in cases
        ],
    )
    return outputs


@pytest.fixture(scope="session")
def quick(home: Path, images: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The package's label maps of the quick cases."""
    return by_the_package(QUICK, home, images, tmp_path_factory.mktemp("quick"))


@pytest.fixture(scope="session")
def slow(home: Path, images: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The package's label maps of the slow cases."""
    return by_the_package(SLOW, home, images, tmp_path_factory.mktemp("slow"))


def check_equal(case: Case, image: Path, expected: Path) -> None:
    """Our label map is the package's, voxel by voxel, and no empty one."""
    model = catalogue.load(f"totalsegmentator:{case.task}")
    labels = model.segment(read(image), case.parameters).labelmap.array
    theirs = np.asanyarray(nib.load(expected).dataobj)
    assert len(np.unique(theirs)) > 1
    np.testing.assert_array_equal(labels, theirs)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("case", QUICK, ids=lambda case: case.name)
def test_equal_to_the_package(case, weights, images, quick):
    """Label maps are the package's voxel by voxel: on a thick, flipped, oblique CT, with crop and postprocessing."""
    check_equal(case, images[case.image], quick[case.name])


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("case", SLOW, ids=lambda case: case.name)
def test_equal_to_the_package_for_all_kinds_of_tasks(case, weights, images, slow):
    """Several networks, several folds, MR, crops by body, lungs and 3 mm, vertebrae cut to their bodies: equal."""
    check_equal(case, images[case.image], slow[case.name])


@pytest.mark.parametrize("seed", range(6))
def test_resampling_has_the_values_of_the_package(seed):
    """Resampled images and labels are those of the package's `change_spacing`, for any shape, spacing and order."""
    random = np.random.default_rng(seed)
    shape = tuple(int(size) for size in random.integers(4, 40, 3))
    spacing_mm = tuple(float(mm) for mm in random.choice([0.7, 1.5, 3.0], 3))
    affine = np.diag([*random.uniform(0.5, 4, 3), 1.0])
    voxels = random.integers(-1000, 1000, shape).astype(np.int16) if seed % 2 else random.normal(0, 500, shape)
    image = nib.Nifti1Image(voxels.astype(np.int16 if seed % 2 else np.float32), affine)
    order = (0, 1, 3)[seed % 3]
    expected = change_spacing(nib.Nifti1Image(image.get_fdata(), affine), list(spacing_mm), order=order, dtype=np.int32)
    actual = totalsegmentator_resampling.at_spacing(image, spacing_mm, order, "t")
    np.testing.assert_array_equal(np.asanyarray(actual.dataobj), np.asanyarray(expected.dataobj))
    np.testing.assert_array_equal(actual.affine, expected.affine)
    labels = random.integers(0, 118, expected.shape).astype(np.uint8)
    back = change_spacing(
        nib.Nifti1Image(labels, expected.affine), list(spacing_mm), shape, dtype=np.uint8, force_affine=affine
    )
    np.testing.assert_array_equal(totalsegmentator_resampling.on_shape(labels, shape), np.asanyarray(back.dataobj))


def test_a_scan_too_thin_is_refused():
    """An image of which no slice is left at the networks' spacing is an error that says so."""
    thin = nib.Nifti1Image(np.zeros((20, 20, 2), np.int16), np.diag([2.0, 2.0, 0.7, 1.0]))
    with pytest.raises(InvalidVolume, match="t: too thin: at the network's spacing of 3 x 3 x 3 mm it has 13 x 13 x 0"):
        totalsegmentator_resampling.at_spacing(thin, (3.0, 3.0, 3.0), 1, "t")


@pytest.mark.parametrize("slices", [201, 224, 301])
def test_a_large_image_in_three_parts_is_whole_again(monkeypatch, slices):
    """What three parts keep covers every slice once, and comes from that slice."""
    monkeypatch.setattr(totalsegmentator_steps, "SPLIT_ABOVE_VOXELS", 0)
    numbers, whole = np.arange(slices), np.full(slices, -1)
    parts = totalsegmentator_steps._parts((1, 1, slices))
    assert len(parts) == 3
    for seen, kept, place in parts:
        assert (whole[place] == -1).all()
        whole[place] = numbers[seen][kept]
    np.testing.assert_array_equal(whole, numbers)


def test_a_small_image_is_one_part():
    """Up to the package's limit of voxels, and up to 200 slices, an image is predicted at once."""
    assert len(totalsegmentator_steps._parts((512, 512, 900))) == 1
    assert len(totalsegmentator_steps._parts((2000, 2000, 200))) == 1
    assert len(totalsegmentator_steps._parts((512, 512, 901))) == 3


def test_vertebrae_in_one_piece_are_an_error():
    """Where all vertebrae hang together the package's postprocessing fails; that is said, and nothing is made up."""
    task = tasks()["vertebrae_pp"]
    labels = np.zeros((12, 12, 24), np.uint8)
    labels[3:9, 3:9, 3:12], labels[3:9, 3:9, 12:21] = 1, 2
    image = nib.Nifti1Image(labels, np.diag([2.0, 2.0, 2.0, 1.0]))
    with pytest.raises(ModelError, match="all vertebrae found are one piece"):
        totalsegmentator_steps._postprocessed(labels, task.prediction, image, totalsegmentator_steps.Options())


def test_open_tasks_are_offered():
    """Every task of the package that needs no licence is known, and has codes for all of its classes."""
    open_tasks = {
        name
        for name in registry.TASKS
        if not registry.requires_license(name) and name not in ("test", "total_highres_test")
    }
    assert {task.package_task for task in tasks().values()} == open_tasks
    assert set(tasks()) == set(offered())
    assert {task.modality for task in tasks().values() if registry.task_modality(task.package_task) == "MR"} == {"MR"}


def test_no_weights_that_need_a_licence_are_used():
    """No network of an open task, whatever it is cropped by, is one of a task that the package sells licences for."""
    sold: set[str] = set()
    for name in filter(registry.requires_license, registry.TASKS):
        ids = TASK_CONFIGS[name]["task_id"]
        sold |= {TASK_ID_WEIGHTS_CONFIGS[each]["foldername"] for each in (ids if isinstance(ids, list) else [ids])}
    assert sold
    assert not sold & {network.dataset for task in tasks().values() for network in task.networks}


def test_segments_are_those_of_the_published_collection():
    """Numbers are class ids; labels, types and sides are as in the published collection (`Right Kidney`)."""
    segments = catalogue.card("totalsegmentator:total_fast").segments
    assert len(segments) == 117
    kidney = segments[1]
    assert (kidney.number, kidney.name, kidney.label) == (2, "kidney_right", "Right Kidney")
    assert (kidney.type.value, kidney.type.meaning) == ("64033007", "Kidney")
    assert (kidney.laterality.value, kidney.category.value) == ("24028007", "123037004")
    assert segments[22].label == "Cyst of Left Kidney"
    assert segments[22].anatomic_region.value == "64033007"
    middle_lobe = next(each for each in segments if each.name == "lung_middle_lobe_right")
    assert middle_lobe.laterality is None


@pytest.mark.parametrize("name", sorted(offered()))
def test_card_describes_every_class(name):
    """Segments are the package's classes, with labels that differ."""
    card = catalogue.card(f"totalsegmentator:{name}")
    task = tasks()[name]
    assert {each.number: each.name for each in card.segments} == registry.get_task_classes(task.package_task)
    assert len({each.label for each in card.segments}) == len(card.segments)
    assert card.modality == (registry.task_modality(task.package_task),)


def test_codes_that_the_package_lacks_are_those_of_dicom():
    """Codes that we add to the package's table stand in DICOM PS3.16."""
    known = {value for meanings in concepts["SCT"].values() for value in meanings}
    for name, found in totalsegmentator_codes._CLASSES.items():
        for code in (found.type, found.region):
            assert code is None or code.value in known or code.scheme_designator == PRIVATE_SCHEME, (name, code)


def test_own_trainers_take_the_network_of_the_plans():
    """Trainers that only the package has build no network of their own, and there is no further one."""
    code = (
        "import inspect, totalsegmentator.custom_trainers as c;"
        "own = [m for m in vars(c).values() if inspect.isclass(m) and m.__module__ == c.__name__];"
        "print(sorted(m.__name__ for m in own if m.__name__.startswith('nnUNetTrainer')),"
        "any('build_network_architecture' in vars(m) for m in own))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == f"{sorted(OWN_TRAINERS)} False"


def test_missing_weights_name_folder_and_archive(monkeypatch, tmp_path):
    """Nothing is downloaded: the error says which command brings them, and which archives it takes."""
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(tmp_path))
    card = catalogue.card("totalsegmentator:lung_vessels")
    assert {each.sha256 for each in card.weights} == {totalsegmentator_weights.NOT_INSTALLED}
    command = (
        r"run: voxfleet models fetch totalsegmentator:lung_vessels \(it unpacks \S+Dataset297_\w+\.zip and \S+\.zip in"
    )
    with pytest.raises(WeightsMissing, match=rf"{command} .*TOTALSEG_WEIGHTS_PATH"):
        catalogue.load("totalsegmentator:lung_vessels")
    assert not list(tmp_path.iterdir())


def test_archives_are_fetched_and_used(one_network, monkeypatch, tmp_path):
    """`models fetch` unpacks the archives of a mirror where the package looks, once; then the model loads."""
    (dataset,) = one_network.iterdir()
    (tmp_path / "mirror").mkdir()
    shutil.make_archive(str(tmp_path / "mirror" / dataset.name), "zip", one_network, dataset.name)
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(tmp_path / "weights"))
    command = ["fetch", "totalsegmentator:total_fast", "--from", str(tmp_path / "mirror")]
    first, again = (CliRunner().invoke(models_command, command) for _ in range(2))
    assert (first.exit_code, again.exit_code) == (0, 0), first.output
    assert f"unpacked from {dataset.name}.zip, SHA-256 " in " ".join(first.output.split())
    assert "was there" in again.output
    assert [path.name for path in (tmp_path / "weights").iterdir()] == [dataset.name]
    catalogue.load("totalsegmentator:total_fast")


@pytest.fixture(scope="session")
def one_network(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights folder with the tiny 3 mm network alone."""
    return write_home(tmp_path_factory.mktemp("one"), (tasks()["total_fast"],), shared_data / PLANS)


def test_twice_the_same(monkeypatch, one_network):
    """A warm model gives one image the same labels again, with another image between; the environment is left alone."""
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(one_network))
    random = np.random.default_rng(1)
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    first, other = (hd.Volume(random.integers(-900, 900, (20, 24, 22), np.int16), affine, "PATIENT") for _ in "ab")
    before = dict(os.environ)
    model = catalogue.load("totalsegmentator:total_fast")
    labels = [model.segment(volume, {}).labelmap.array for volume in (first, other, first)]
    np.testing.assert_array_equal(labels[0], labels[2])
    assert (labels[0] != labels[1]).any()
    assert dict(os.environ) == before
    digests = {weights.sha256 for weights in model.card.weights}
    assert all(len(digest) == 64 for digest in digests)


def test_precision_reaches_the_network(monkeypatch, one_network):
    """float32 is what the CPU computes in anyway; bfloat16 gives nearly, but not wholly, the same labels."""
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(one_network))
    array = np.random.default_rng(1).integers(-900, 900, (20, 24, 22), np.int16)
    volume = hd.Volume(array, np.diag([4.0, 4.0, 4.0, 1.0]), "PATIENT")
    model = catalogue.load("totalsegmentator:total_fast")
    labels = {
        precision: model.segment(volume, {"precision": precision}).labelmap.array
        for precision in ("default", "float32", "bfloat16")
    }
    np.testing.assert_array_equal(labels["float32"], labels["default"])
    assert 0 < np.count_nonzero(labels["bfloat16"] != labels["default"]) < 0.2 * array.size


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"resampling_order": "6"}, "resampling_order: 6 is not 0 to 5"),
        ({"resampling_order": "1.5"}, "resampling_order: 1.5 is not 0 to 5"),
        ({"remove_small_blobs_mm3": "-1"}, "remove_small_blobs_mm3: -1 is below 0"),
        ({"fast": "1"}, "no parameter 'fast'"),
        ({"precision": "half"}, "precision: 'half' is none of"),
    ],
)
def test_parameters_are_checked(monkeypatch, one_network, parameters, reason):
    """A parameter that is unknown or out of range is refused."""
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(one_network))
    model = catalogue.load("totalsegmentator:total_fast")
    with pytest.raises(InvalidParameter, match=reason):
        model.segment(hd.Volume(np.zeros((4, 4, 4), np.int16), np.eye(4), "PATIENT"), parameters)


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_volumes_without_an_image_are_refused(monkeypatch, one_network, value):
    """A flat volume and one with NaN are refused before any network runs."""
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(one_network))
    model = catalogue.load("totalsegmentator:total_fast")
    with pytest.raises(InvalidVolume):
        model.segment(hd.Volume(np.full((8, 8, 8), value, np.float32), np.eye(4), "PATIENT"), {})


class Malicious:
    """Runs a command when it is unpickled."""

    def __init__(self, touched: Path) -> None:
        self.touched = touched

    def __reduce__(self):
        return os.system, (f"touch {self.touched}",)


def test_malicious_pickle_is_not_executed(monkeypatch, one_network, tmp_path):
    """A checkpoint in the package's folder that asks for a command to be run is refused, and nothing is run."""
    network = tasks()["total_fast"].networks[0]
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(tmp_path))
    shutil.copytree(one_network / network.dataset, tmp_path / network.dataset)
    (path,) = tmp_path.rglob("*.pth")
    torch.save({"network_weights": Malicious(tmp_path / "touched")}, path)
    with pytest.raises(UnsafeWeights, match="system"):
        catalogue.load("totalsegmentator:total_fast")
    assert not (tmp_path / "touched").exists()


def test_damaged_checkpoint_is_an_error(monkeypatch, one_network, tmp_path):
    """A checkpoint that was cut off is named, and not half loaded."""
    network = tasks()["total_fast"].networks[0]
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(tmp_path))
    for path in (one_network / network.dataset).rglob("*.*"):
        copy = tmp_path / path.relative_to(one_network)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes()[: 1000 if path.suffix == ".pth" else None])
    with pytest.raises(InvalidWeights):
        catalogue.load("totalsegmentator:total_fast")
