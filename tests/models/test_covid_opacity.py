"""covid-opacity:FOLDER: true architectures with fixed-seed weights, inside the lungs, in RICORD's words."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

pytest.importorskip("torch")
pytest.importorskip("nnunetv2")
pytest.importorskip("monai")

from voxfleet.enrich.phantom import chest_phantom
from voxfleet.enrich.radiomics import measure
from voxfleet.models import catalogue
from voxfleet.models.card_file import InvalidCard
from voxfleet.models.rules.opacity import NoLung


def _module(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


weights = _module("nnunet_weights")
monai_tests = _module("test_monai_bundle")
bundle = monai_tests.bundle
LABELS = ("Infectious opacity", "Atelectasis")


def nnunet_folder(folder: Path, shared_data: Path, names: tuple[str, ...]) -> Path:
    """A tiny nnU-Net that finds something of every class all over."""
    plans = weights.tiny_plans(shared_data, spacing=[8.0, 6.0, 6.0])
    dataset = weights.dataset_of({name: number for number, name in enumerate(names, start=1)})
    weights.write_folder(folder, plans, dataset)
    return weights.write_card(folder, dict.fromkeys(names, ()), step_size="1")


@pytest.fixture(scope="module")
def folder(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network for two of RICORD's labels, as they are written there."""
    return nnunet_folder(tmp_path_factory.mktemp("network"), shared_data, LABELS)


@pytest.fixture(scope="module")
def phantom():
    """A chest on a grid so coarse that the rules do not average."""
    return chest_phantom((32, 56, 56), (8.0, 6.0, 6.0), seed=4)


def expected(found: np.ndarray, hu: Any) -> np.ndarray:
    """Lungs of covid-opacity-hu, and in them what the network finds: 3, 4 right and left, 5, 6 right and left."""
    labels = np.zeros(found.shape, np.uint8)
    for side in (1, 2):
        lung = hu.mask(side)
        labels[lung] = side
        for number in (1, 2):
            labels[lung & (found == number)] = 2 * number + side
    return labels


def test_what_a_network_finds_in_the_lungs(folder, phantom):
    """Its findings, voxel by voxel, in the lungs of covid-opacity-hu; outside of them nothing."""
    found = catalogue.load(f"nnunet:{folder}").segment(phantom.volume, {}).labelmap.array
    hu = catalogue.load("covid-opacity-hu").segment(phantom.volume, {})
    model = catalogue.load(f"covid-opacity:{folder}")
    segmentation = model.segment(phantom.volume, {})
    assert np.array_equal(segmentation.labelmap.array, expected(found, hu))
    assert segmentation.labelmap.geometry_equal(phantom.volume)
    assert np.isin([3, 4, 5, 6], segmentation.labelmap.array).any()
    assert ((found > 0) & (segmentation.labelmap.array == 0)).any()


def test_per_cent_of_lung_involved(folder, phantom):
    """Measured as for covid-opacity-hu: the opacities of a lung as a part of its voxels."""
    segmentation = catalogue.load(f"covid-opacity:{folder}").segment(phantom.volume, {})
    array = segmentation.labelmap.array
    values = {
        each.segment_number: each.value
        for each in measure(phantom.volume, segmentation).measurements
        if each.name == "involvement_Percent"
    }
    for side in (1, 2):
        inside = np.count_nonzero(np.isin(array, (2 + side, 4 + side)))
        whole = inside + np.count_nonzero(array == side)
        assert values[side] == pytest.approx(100 * inside / whole)


def test_a_monai_bundle(bundle, phantom):
    """A bundle that finds one of RICORD's labels is read in the same way."""
    config = json.loads((bundle / "configs" / "inference.json").read_text())
    for transform in config["preprocessing"]["transforms"]:
        if transform["_target_"] == "Spacingd":
            transform["pixdim"] = [9.0, 9.0, 12.0]
    (bundle / "configs" / "inference.json").write_text(json.dumps(config))
    monai_tests.write_card(bundle, segments=[{**monai_tests.SEGMENT, "name": "infectious_cavity"}])
    found = catalogue.load(f"monai:{bundle}").segment(phantom.volume, {}).labelmap.array
    segmentation = catalogue.load(f"covid-opacity:{bundle}").segment(phantom.volume, {})
    hu = catalogue.load("covid-opacity-hu").segment(phantom.volume, {})
    assert np.array_equal(segmentation.labelmap.array, expected(found, hu))
    assert segmentation.segments[2].label == "Infectious cavity of Right Lung"


def test_no_lung(folder, phantom):
    """A scan without lungs is refused before the network has its turn."""
    solid = phantom.volume.with_array(np.full_like(phantom.volume.array, 40))
    solid.array[0, 0, 0] = -1000
    with pytest.raises(NoLung):
        catalogue.load(f"covid-opacity:{folder}").segment(solid, {})


def test_its_card(folder):
    """Name, weights and parameters are the network's; segments are lungs and RICORD's findings by side."""
    card, network = catalogue.card(f"covid-opacity:{folder}"), catalogue.card(f"nnunet:{folder}")
    assert (card.name, card.reference) == ("covid-opacity:a-network", f"covid-opacity:{folder}")
    assert (card.weights, card.parameters) == (network.weights, network.parameters)
    assert [(each.number, each.name, each.contains) for each in card.segments] == [
        (1, "lung_right", (3, 5)),
        (2, "lung_left", (4, 6)),
        (3, "infectious_opacity_right", ()),
        (4, "infectious_opacity_left", ()),
        (5, "atelectasis_right", ()),
        (6, "atelectasis_left", ()),
    ]
    assert (card.segments[2].type.meaning, card.segments[2].type.scheme_designator) == (*LABELS[:1], "99VOXFLEET")
    assert (card.segments[4].type.value, card.segments[4].type.scheme_designator) == ("46621007", "SCT")
    assert len({(each.type.value, each.laterality) for each in card.segments}) == 6


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("Infectious opacity", "tumour"), "tumour is none of infectious_opacity"),
        (("Infectious opacity", "lung_right"), "lung_right and lung_left are needed"),
        (("lung_right", "lung_left"), "no label of RICORD"),
    ],
)
def test_segments_that_are_not_ricords(folder, tmp_path, names, message):
    """A class that is neither a lung nor one of RICORD's labels is named."""
    for file in ("plans.json", "dataset.json"):
        (tmp_path / file).write_bytes((folder / file).read_bytes())
    dataset = json.loads((folder / "dataset.json").read_text())
    dataset["labels"] = {"background": 0, **{name: number for number, name in enumerate(names, start=1)}}
    (tmp_path / "dataset.json").write_text(json.dumps(dataset))
    card = yaml.safe_load((folder / "card.yaml").read_text())
    card["segments"] = [{**item, "name": name} for item, name in zip(card["segments"], names, strict=True)]
    (tmp_path / "card.yaml").write_text(yaml.safe_dump(card))
    with pytest.raises(InvalidCard, match=message):
        catalogue.card(f"covid-opacity:{tmp_path}")


def test_a_network_that_finds_lungs(shared_data, tmp_path, phantom):
    """Its own lungs count: every opacity lies with the lung that it hangs together with."""
    names = ("lung_left", "Infectious opacity", "lung_right")
    own = nnunet_folder(tmp_path / "own", shared_data, names)
    digest = hashlib.sha256((own / "fold_0" / "checkpoint_final.pth").read_bytes()).hexdigest()
    found = catalogue.load(f"nnunet:{own}").segment(phantom.volume, {}).labelmap.array
    model = catalogue.load(f"covid-opacity:{own}")
    array = model.segment(phantom.volume, {}).labelmap.array
    assert [weight.sha256 for weight in model.card.weights] == [digest]
    assert np.array_equal(array == 1, found == 3)
    assert np.array_equal(array == 2, found == 1)
    assert not (np.isin(array, (3, 4)) & (found != 2)).any()
