"""Models of one process: which stay loaded, what happens when memory runs out, and when a faster way is allowed."""

from __future__ import annotations

from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from voxfleet.models import catalogue
from voxfleet.models.memory import OutOfMemory
from voxfleet.runners.fidelity import Fidelity, NotFaithful, check_fidelity
from voxfleet.runners.warm_models import WarmModels, room_on

TRAINED = f"nnunet:{Path(__file__).parents[1] / 'models' / 'trained'}"
NAMES = ("ct-threshold", "covid-opacity-hu", "meshnet-gwm")
NEEDS = {name: catalogue.card(name).memory_bytes for name in NAMES}


def name_of(model):
    """Of a loaded model."""
    return model.card.name


def used(models: WarmModels, *names: str) -> tuple[str, ...]:
    """Names of the models that are loaded after some were used in turn."""
    for name in names:
        assert models.use(name, {}, name_of) == name
    return models.names


def test_models_that_fit_stay_together():
    """Where there is room for all, each is loaded once, whatever the order in which series ask for them."""
    models = WarmModels("cpu", lambda: sum(NEEDS.values()))
    first = [models.use(name, {}, id) for name in NAMES]
    assert [models.use(name, {}, id) for name in NAMES] == first
    assert models.names == NAMES


def test_the_one_used_longest_ago_goes():
    """One byte less than all need: the model that was used longest ago makes room."""
    pytest.importorskip("torch")
    room = sum(NEEDS.values()) - 1
    assert used(WarmModels("cpu", lambda: room), *NAMES) == NAMES[1:]
    assert used(WarmModels("cpu", lambda: room), NAMES[0], NAMES[1], NAMES[0], NAMES[2]) == (NAMES[0], NAMES[2])


def test_one_model_is_kept_whatever_it_needs():
    """A model that is larger than the room is loaded, alone."""
    assert used(WarmModels("cpu", lambda: 0), NAMES[0], NAMES[1]) == (NAMES[1],)


def test_models_that_need_no_gpu_take_no_room_there():
    """Rules without weights run on the CPU whatever the device, and push nothing off a GPU."""
    assert used(WarmModels("cuda:0", lambda: pytest.fail("no GPU is looked at")), *NAMES[:2]) == NAMES[:2]


def test_room_of_the_host():
    """On the CPU models may need what the child may take."""
    assert room_on("cpu", 123) == 123


@pytest.mark.parametrize("kind", ["OutOfMemoryError", "MemoryError", "OutOfMemory"])
def test_the_others_go_when_memory_runs_out(kind):
    """Memory that runs out beside other models is tried once more without them; the error comes from the second try."""
    torch = pytest.importorskip("torch")
    errors = {"OutOfMemoryError": torch.OutOfMemoryError("CUDA out of memory"), "MemoryError": MemoryError()}
    error = errors.get(kind, OutOfMemory("a-model", "too large"))
    models = WarmModels("cpu", lambda: sum(NEEDS.values()))
    used(models, NAMES[0])
    seen = []

    def work(model):
        seen.append(models.names)
        if len(models.names) > 1 or kind == "OutOfMemory":
            raise error
        return "done"

    if kind == "OutOfMemory":
        with pytest.raises(OutOfMemory):
            models.use(NAMES[1], {}, work)
    else:
        assert models.use(NAMES[1], {}, work) == "done"
    assert seen == [NAMES[:2], (NAMES[1],)]


def test_other_errors_are_not_tried_again():
    """What is no lack of memory comes through at once, and no model is let go for it."""
    models = WarmModels("cpu", lambda: sum(NEEDS.values()))
    used(models, NAMES[0])
    with pytest.raises(RuntimeError, match="illegal"):
        models.use(NAMES[1], {}, lambda _: (_ for _ in ()).throw(RuntimeError("illegal memory access")))
    assert models.names == NAMES[:2]


@pytest.fixture(scope="module")
def trained():
    """The network that nnU-Net trained."""
    pytest.importorskip("nnunetv2")
    return catalogue.load(TRAINED)


def test_bfloat16_is_faithful_here(trained):
    """Body, lung and bone of the made-up chest keep a Dice of 0.999 in bfloat16; the voxels are not all the same."""
    found = check_fidelity(trained, {"precision": "bfloat16", "step_size": "0.9"})
    assert found.passed
    assert set(found.dice) == {"body", "lung", "bone"}
    assert min(found.dice.values()) < 1


class Drifting:
    """A model whose faster way moves every structure by a voxel."""

    def __init__(self, model) -> None:
        self.model, self.card = model, model.card

    def segment(self, volume, parameters):
        """The model's own segmentation, moved where it is to be faster."""
        moved = volume.with_array(np.roll(volume.array, 1, axis=2)) if parameters["precision"] != "default" else volume
        return self.model.segment(moved, {"step_size": "1"})


def test_a_way_that_changes_the_result_is_refused(trained, monkeypatch):
    """Nothing is segmented in a way that failed its check, and the error names the structure and its Dice."""
    monkeypatch.setattr(catalogue, "load", lambda name, device: Drifting(trained))
    models = WarmModels("cpu", lambda: 0)
    with pytest.raises(NotFaithful, match=r"\w+ has Dice 0\.\d+ against the usual way; 0.999 is needed"):
        models.use(TRAINED, {"precision": "bfloat16"}, name_of)
    assert models.use(TRAINED, {"precision": "default"}, name_of) == "nnunet:phantom-chest"


def test_nothing_found_is_no_proof():
    """Where neither way finds anything, a faster way is not allowed."""
    with pytest.raises(NotFaithful, match="nothing is found"):
        Fidelity({}).judge("a-model")


@pytest.mark.slow
@pytest.mark.long
def test_a_compiled_network_is_faithful(trained):
    """torch.compile gives the trained network's labels on the made-up chest, to a Dice of 0.999."""
    assert check_fidelity(trained, {"compile": "yes", "step_size": "1"}).passed


def test_volumes_of_other_models_are_untouched(trained):
    """Asked for nothing faster, a model is not checked, and gives what it gives alone."""
    array = np.random.default_rng(1).integers(-900, 900, (24, 48, 48), np.int16)
    volume = hd.Volume(array, np.diag([4.0, 4.0, 4.0, 1.0]), "PATIENT")
    parameters = {"step_size": "1"}
    found = WarmModels("cpu", lambda: 0).use(TRAINED, parameters, lambda model: model.segment(volume, parameters))
    np.testing.assert_array_equal(found.labelmap.array, trained.segment(volume, parameters).labelmap.array)
