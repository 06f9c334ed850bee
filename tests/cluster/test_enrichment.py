"""A collection is taken into the ledger; what cannot be listed leaves no run behind."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from voxfleet import Error
from voxfleet.cluster.enrichment import Plan, register
from voxfleet.cluster.ledger import NoSuchRun, RunMismatch
from voxfleet.cluster.ledgers.sqlite import SqliteLedger
from voxfleet.cluster.prices.price import price_of
from voxfleet.cluster.run_folder import RunFolder
from voxfleet.models import catalogue
from voxfleet.runners.worklist import DoubledModel, wish


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """A run over a folder that holds one text file."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "README.txt").write_text("no DICOM")
    wishes = (wish(catalogue.card("ct-threshold"), {}, "BINARY", repair=False),)
    folder = RunFolder(f"{tmp_path}/run")
    return Plan(f"dir:{tmp_path}/source", f"dir:{tmp_path}/target", wishes, folder, price_of("local"))


def test_a_mistyped_source_leaves_the_name_of_the_run_free(plan, tmp_path):
    """After a source that is not there, the right one can be given under the same name."""
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    with pytest.raises(Error, match="no such folder"):
        register(replace(plan, source=plan.source + "-mistyped"), ledger, lambda _: None)
    with pytest.raises(NoSuchRun):
        ledger.run()
    register(plan, ledger, lambda _: None)
    assert ledger.run().source == plan.source
    assert [each.code for each in ledger.refusals()] == ["NOT_DICOM"]


def test_other_parameters_are_named_and_no_others(plan, tmp_path):
    """The error about a run of other work says which parameter differs, not all there are."""
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    register(plan, ledger, lambda _: None)
    other = wish(catalogue.card("ct-threshold"), {"bone_hu": "300"}, "BINARY", repair=False)
    with pytest.raises(RunMismatch) as found:
        register(replace(plan, wishes=(other,)), ledger, lambda _: None)
    card = catalogue.card("ct-threshold")
    assert str(found.value).endswith(
        f"it is of other work: parameters.ct-threshold.bone_hu is {card.parameters['bone_hu']}, not 300"
    )


def test_other_features_are_other_work(plan, tmp_path):
    """A run that was begun with a parameter file does not go on without it: the error names it."""
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    (asked,) = plan.wishes
    register(replace(plan, wishes=(replace(asked, features='{"pyradiomics": "3.1.4"}'),)), ledger, lambda _: None)
    with pytest.raises(RunMismatch, match=r"ct-threshold\.features_sha256"):
        register(plan, ledger, lambda _: None)


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """What is read of a trained nnU-Net folder before it is loaded."""
    folder = tmp_path / "here" / "lungs"
    (folder / "fold_0").mkdir(parents=True)
    (folder / "fold_0" / "checkpoint_final.pth").write_bytes(b"weights")
    (folder / "plans.json").write_text(json.dumps({"image_reader_writer": "SimpleITKIO"}))
    (folder / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "lung": 1}}))
    lung = {
        "number": 1,
        "label": "Lung",
        "name": "lung",
        "category": [123037004, "SCT", "Anatomical Structure"],
        "type": [39607008, "SCT", "Lung"],
        "color": [1, 2, 3],
    }
    sha256 = hashlib.sha256(b"weights").hexdigest()
    texts = ("version", "description", "intended_use", "body_part", "code_licence", "weights_licence")
    card = {
        **dict.fromkeys(texts, "1"),
        "name": "lungs",
        "modality": ["CT"],
        "algorithm_family": "AI",
        "parameters": {},
        "citations": [],
        "memory_bytes": 1,
        "gpu_bytes": 0,
        "segments": [lung],
        "weights": [{"url": "fold_0/checkpoint_final.pth", "sha256": sha256}],
    }
    (folder / "card.yaml").write_text(yaml.safe_dump(card))
    return folder


def test_a_network_that_was_moved_is_the_same_work(plan, network, tmp_path, ct_slices):
    """Its folder stands neither in the ledger nor in a key: a run goes on, with the network where it lies now."""
    for number, slice_ in enumerate(ct_slices()):
        slice_.save_as(tmp_path / "source" / f"{number}.dcm")
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    for place in (network, tmp_path / "there"):
        network.rename(place)
        asked = wish(catalogue.card(f"nnunet:{place}"), {}, "BINARY", repair=False)
        now = replace(plan, wishes=(asked,))
        register(now, ledger, lambda _: None)
        (item,) = ledger.items()
        assert item.workitem.model == "nnunet:lungs"
        assert now.pipeline().stages.reference_of(item.workitem) == f"nnunet:{place}"
    assert str(tmp_path / "here") not in (tmp_path / "ledger.sqlite").read_bytes().decode("latin-1")


def test_other_weights_are_other_work(network):
    """The key holds the SHA-256 of the weights on the card."""
    before = catalogue.card(f"nnunet:{network}")
    text = (network / "card.yaml").read_text()
    (network / "card.yaml").write_text(text.replace(before.weights[0].sha256, "f" * 64))
    after = catalogue.card(f"nnunet:{network}")
    assert (after.name, after.weights_sha256 == before.weights_sha256) == (before.name, False)


def test_two_models_of_one_name_are_refused(plan, network, tmp_path):
    """Results of two networks whose cards have one name could not be told apart."""
    other = tmp_path / "other"
    network.parent.rename(other)
    wishes = tuple(
        wish(replace(catalogue.card(f"nnunet:{other}/lungs"), place=place), {}, "BINARY", repair=False)
        for place in ("/a", "/b")
    )
    with pytest.raises(DoubledModel, match="nnunet:/a and nnunet:/b are both called nnunet:lungs"):
        replace(plan, wishes=wishes)
