"""Any MONAI bundle gives, voxel by voxel, what its own chain of transforms gives on a NIfTI file."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import highdicom as hd
import nibabel as nib
import numpy as np
import pytest
import yaml
from voxfleet.models import catalogue
from voxfleet.models.card_file import InvalidCard
from voxfleet.models.rules.working_grid import InvalidVolume
from voxfleet.models.weights import InvalidWeights, UnsafeWeights, WeightsMissing, WrongHash

torch = pytest.importorskip("torch")
pytest.importorskip("monai")

from monai.bundle.config_parser import ConfigParser  # noqa: E402
from monai.data.dataloader import DataLoader  # noqa: E402
from monai.data.utils import decollate_batch  # noqa: E402
from voxfleet.models.adapters.monai_bundle import InvalidBundle  # noqa: E402

SEGMENT = {
    "number": 1,
    "label": "Spleen",
    "name": "spleen",
    "category": [123037004, "SCT", "Anatomical Structure"],
    "type": [78961009, "SCT", "Spleen"],
    "color": [157, 108, 162],
}


def write_card(bundle: Path, network: str = "models/model.pt", **changes: object) -> None:
    """A card that pins the bundle's configuration and weights as they are now."""
    files = ("configs/inference.json", network)
    weights = [{"url": name, "sha256": hashlib.sha256((bundle / name).read_bytes()).hexdigest()} for name in files]
    card = {
        "name": "spleen",
        "version": "0.5.9",
        "description": "Spleen of a CT.",
        "intended_use": "Tests.",
        "modality": ["CT"],
        "body_part": "ABDOMEN",
        "algorithm_family": "AI",
        "segments": [SEGMENT],
        "weights": weights,
        "parameters": {},
        "memory_bytes": 4_000_000_000,
        "gpu_bytes": 0,
        "code_licence": "Apache-2.0",
        "weights_licence": "Apache-2.0",
        "citations": [],
    }
    (bundle / "card.yaml").write_text(yaml.safe_dump({**card, **changes}))


@pytest.fixture
def bundle(shared_data: Path, tmp_path: Path) -> Path:
    """The model zoo's spleen bundle with a small window, and weights of a fixed seed that find something."""
    folder = tmp_path / "spleen"
    shutil.copytree(shared_data / "weights" / "monai-bundle-configs" / "spleen_ct_segmentation", folder)
    folder.chmod(0o755)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    config = json.loads((folder / "configs" / "inference.json").read_text())
    config["inferer"]["roi_size"] = [32, 32, 32]
    config["inferer"]["overlap"] = 0.25
    (folder / "configs" / "inference.json").write_text(json.dumps(config))
    torch.manual_seed(22)
    network = ConfigParser(config).get_parsed_content("network_def")
    (folder / "models").mkdir()
    torch.save({"model": network.state_dict()}, folder / "models" / "model.pt")
    write_card(folder)
    return folder


@pytest.fixture
def ct() -> hd.Volume:
    """A noisy ball in an oblique, anisotropic, unequal-sided volume."""
    rng = np.random.default_rng(3)
    k, j, i = np.ogrid[-1:1:18j, -1:1:30j, -1:1:26j]
    array = np.where(k**2 + j**2 + i**2 < 0.5, 60, -100) + rng.normal(0, 20, (18, 30, 26))
    angle = np.deg2rad(12)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.array([[0, 0, 1.6], [0, -1.9, 0], [4.5, 0, 0]])
    affine[:3, 3] = (-31.0, 40.5, -120.25)
    affine = affine.astype(np.float32).astype(np.float64)  # as a NIfTI header holds it
    return hd.Volume(array.astype(np.int16), affine, "PATIENT")


def write_nifti(volume: hd.Volume, path: Path) -> None:
    """A NIfTI file: axes (i, j, k), RAS mm."""
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.affine[:, [2, 1, 0, 3]]
    nib.save(nib.Nifti1Image(volume.array.transpose(2, 1, 0), affine), path)


def by_its_own_chain(bundle: Path, nifti: Path, out: Path) -> np.ndarray:
    """Labels (k, j, i) that the bundle itself writes: its data set, loader, inferer and SaveImage, by MONAI alone."""
    parser = ConfigParser()
    parser.read_config(str(bundle / "configs" / "inference.json"))
    parser["bundle_root"] = str(bundle)
    parser["device"] = "$torch.device('cpu')"
    parser["imports"] = ["$import glob", "$import numpy", "$import os", "$import torch"]
    parser["datalist"] = [str(nifti)]
    parser["output_dir"] = str(out)
    network = parser.get_parsed_content("network")
    network.load_state_dict(torch.load(bundle / "models" / "model.pt", weights_only=True)["model"])
    network.eval()
    inferer, after = parser.get_parsed_content("inferer"), parser.get_parsed_content("postprocessing")
    with torch.no_grad():
        for batch in DataLoader(parser.get_parsed_content("dataset"), batch_size=1):
            batch["pred"] = inferer(batch["image"], network)
            for each in decollate_batch(batch):
                after(each)
    (written,) = out.rglob("*.nii.gz")
    return np.asanyarray(nib.load(written).dataobj).reshape(nib.load(nifti).shape).transpose(2, 1, 0)


@pytest.mark.slow
def test_equal_to_its_own_chain(bundle, ct, tmp_path):
    """On an oblique, anisotropic volume every voxel is that which MONAI writes for the same NIfTI, twice in a row."""
    write_nifti(ct, tmp_path / "ct.nii.gz")
    expected = by_its_own_chain(bundle, tmp_path / "ct.nii.gz", tmp_path / "out")
    model = catalogue.load(f"monai:{bundle}")
    for _ in range(2):
        labels = model.segment(ct, {}).labelmap
        assert np.array_equal(labels.array, expected)
        assert np.array_equal(labels.affine, ct.affine)
    assert 0.05 < np.count_nonzero(expected) / expected.size < 0.95


@pytest.mark.slow
def test_equal_on_a_real_ct(bundle, abdomen_ct, tmp_path):
    """The same on a part of TotalSegmentator's example CT."""
    part = abdomen_ct[20:60, 30:80, 30:80]
    write_nifti(part, tmp_path / "ct.nii.gz")
    expected = by_its_own_chain(bundle, tmp_path / "ct.nii.gz", tmp_path / "out")
    assert np.array_equal(catalogue.load(f"monai:{bundle}").segment(part, {}).labelmap.array, expected)


@pytest.mark.slow
def test_torchscript_is_the_same_network(bundle, ct):
    """A bundle that comes as TorchScript gives the labels of its state dict."""
    expected = catalogue.load(f"monai:{bundle}").segment(ct, {}).labelmap.array
    network = ConfigParser(json.loads((bundle / "configs" / "inference.json").read_text())).get_parsed_content(
        "network_def"
    )
    network.load_state_dict(torch.load(bundle / "models" / "model.pt", weights_only=True)["model"])
    torch.jit.script(network.eval()).save(str(bundle / "models" / "model.ts"))
    write_card(bundle, "models/model.ts")
    assert np.array_equal(catalogue.load(f"monai:{bundle}").segment(ct, {}).labelmap.array, expected)


@pytest.mark.slow
def test_same_again_and_in_another_order(bundle, ct):
    """The same volume gives the same bits again, from the same bundle and a new one, with another volume between."""
    other = ct.with_array(ct.array[:, ::-1].copy())
    model = catalogue.load(f"monai:{bundle}")
    first, second, third = (model.segment(volume, {}).labelmap.array for volume in (ct, other, ct))
    assert np.array_equal(first, third)
    assert not np.array_equal(first, second)
    again = catalogue.load(f"monai:{bundle}")
    assert np.array_equal(again.segment(other, {}).labelmap.array, second)
    assert np.array_equal(again.segment(ct, {}).labelmap.array, first)


def test_card_is_found_by_its_folder(bundle, monkeypatch):
    """A bundle is asked for by its folder, relative or not; its name is the one on its card."""
    monkeypatch.chdir(bundle.parent)
    found = catalogue.card("monai:spleen")
    assert found == catalogue.card(f"monai:{bundle}")
    assert (found.name, found.reference) == ("monai:spleen", f"monai:{bundle}")


def test_card_needs_no_torch(bundle):
    """A bundle's card is read without torch and without MONAI; loading it does not import torchvision."""
    code = (
        "import sys; from voxfleet.models import catalogue; catalogue.card(sys.argv[1]);"
        "print([m for m in ('torch', 'monai') if m in sys.modules]);"
        "catalogue.load(sys.argv[1]); print('torchvision' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, f"monai:{bundle}"], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "False"]


def test_changed_configuration_is_not_run(bundle, tmp_path):
    """A configuration that is not the one the card pins is refused before any of it is evaluated."""
    proof = tmp_path / "executed"
    path = bundle / "configs" / "inference.json"
    config = json.loads(path.read_text())
    config["inferer"] = f"$__import__('pathlib').Path({str(proof)!r}).touch()"
    path.write_text(json.dumps(config))
    with pytest.raises(WrongHash, match=r"inference\.json"):
        catalogue.load(f"monai:{bundle}")
    assert not proof.exists()


class Malice:
    """Unpickled, it makes a file."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.proof}",)


def test_malicious_weights_are_not_executed(bundle, tmp_path):
    """A pickle that would run a command is refused and named, even where the card pins it; nothing runs."""
    proof = tmp_path / "executed"
    torch.save({"model": Malice(proof)}, bundle / "models" / "model.pt")
    write_card(bundle)
    with pytest.raises(UnsafeWeights, match=r"model\.pt asks for posix\.system"):
        catalogue.load(f"monai:{bundle}")
    assert not proof.exists()


def test_truncated_weights_are_told(bundle):
    """A checkpoint cut in the middle, and an empty one, are unreadable weights."""
    path = bundle / "models" / "model.pt"
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"not a checkpoint"):
        path.write_bytes(content)
        write_card(bundle)
        with pytest.raises(InvalidWeights, match=r"model\.pt is truncated, or holds no weights"):
            catalogue.load(f"monai:{bundle}")


def test_weights_of_another_network_are_told(bundle):
    """Weights whose names or shapes are not the network's are refused with the first of them."""
    torch.save({"model": {"a": torch.zeros(3)}}, bundle / "models" / "model.pt")
    write_card(bundle)
    with pytest.raises(InvalidWeights, match=r"model\.pt does not fit the network: .*Missing key"):
        catalogue.load(f"monai:{bundle}")


def test_missing_weights_are_told(bundle):
    """A bundle without its weights names the file."""
    (bundle / "models" / "model.pt").unlink()
    with pytest.raises(WeightsMissing, match=r"models/model\.pt is not there"):
        catalogue.load(f"monai:{bundle}")


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([{"url": "models/model.pt", "sha256": "0"}], "0 entries end in .json"),
        ([{"url": "configs/inference.json", "sha256": "0"}], "0 entries end in .ts"),
        ([{"url": "../x.json", "sha256": "0"}, {"url": "models/model.pt", "sha256": "0"}], "outside the bundle"),
    ],
)
def test_card_must_pin_what_runs(bundle, weights, message):
    """A card that does not pin configuration and weights, or reaches out of its folder, is invalid."""
    write_card(bundle, weights=weights)
    with pytest.raises(InvalidCard, match=message):
        catalogue.card(f"monai:{bundle}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: config.pop("inferer"), "gives no inferer"),
        (lambda config: config["network_def"].update(_target_="NoSuchNet"), "gives no network_def"),
        (lambda config: config.pop("postprocessing"), "no postprocessing with a list of transforms"),
    ],
)
def test_incomplete_configuration_is_told(bundle, change, message):
    """A configuration without what inference needs is an error that names it."""
    path = bundle / "configs" / "inference.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))
    write_card(bundle)
    with pytest.raises(InvalidBundle, match=message):
        catalogue.load(f"monai:{bundle}")


def test_channels_are_no_labels(bundle, ct):
    """A bundle that ends in one channel for each class, and not in labels, is refused."""
    path = bundle / "configs" / "inference.json"
    config = json.loads(path.read_text())
    chain = config["postprocessing"]["transforms"]
    config["postprocessing"]["transforms"] = [each for each in chain if each["_target_"] != "AsDiscreted"]
    path.write_text(json.dumps(config))
    write_card(bundle)
    with pytest.raises(InvalidBundle, match="gives 2 x 26 x 30 x 18 values: 1 label is needed"):
        catalogue.load(f"monai:{bundle}").segment(ct, {})


def test_bad_volumes_are_refused(bundle, ct):
    """NaN, a constant and an empty volume are refused before the network runs."""
    model = catalogue.load(f"monai:{bundle}")
    broken = ct.array.astype(np.float32)
    broken[3, 4, 5] = np.nan
    with pytest.raises(InvalidVolume, match="not finite"):
        model.segment(ct.with_array(broken), {})
    with pytest.raises(InvalidVolume, match="every voxel is 0"):
        model.segment(ct.with_array(np.zeros_like(ct.array)), {})
