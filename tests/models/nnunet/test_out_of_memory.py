"""Memory that really ends: the process's own limit is lowered until an allocation fails.

There is no GPU here. What its allocator would raise is a torch.OutOfMemoryError, and that is raised where the network
computes, at chosen tiles; everything else is what runs on a GPU, with two ways that both sum on the CPU.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("nnunetv2")

from voxfleet.enrich.phantom import chest_phantom  # noqa: E402
from voxfleet.models import catalogue  # noqa: E402
from voxfleet.models.memory import OutOfMemory  # noqa: E402
from voxfleet.models.nnunet import ladder as nnunet_ladder  # noqa: E402
from voxfleet.models.nnunet import network as nnunet_network  # noqa: E402
from voxfleet.models.nnunet.ladder import Rung, ladder  # noqa: E402

TRAINED = f"nnunet:{Path(__file__).parents[1] / 'trained'}"
PARAMETERS = {"step_size": "1"}

LIMITED = """
import re, resource, sys
from pathlib import Path
import torch
from voxfleet.enrich.phantom import chest_phantom
from voxfleet.models import catalogue
from voxfleet.models.nnunet.ladder import Rung, Window, climb_down
from voxfleet.models.nnunet.sliding_window import predict_slabs

def limit(extra_mib):
    used = int(re.search(r"VmSize:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
    resource.setrlimit(resource.RLIMIT_AS, (used + extra_mib * 2**20, resource.RLIM_INFINITY))

def attempt(work):
    try:
        return type(work()).__name__
    except Exception as exc:
        return f"{getattr(exc, 'code', type(exc).__name__)}"

model = catalogue.load(sys.argv[1])
small, large = (chest_phantom(shape, mm, seed=3).volume for shape, mm in (
    ((20, 48, 48), (12.0, 8.0, 8.0)), ((192, 300, 300), (1.25, 1.3, 1.3))))
net, window = torch.nn.Conv3d(1, 64, 1).eval(), Window((32, 32, 32), 1.0, (), 64)
image = torch.zeros((1, 32, 256, 256))

def slabs(rung):
    return list(predict_slabs(net, [net.state_dict()], image, rung, "n"))

model.segment(small, {"step_size": "1"})
limit(20)
print(attempt(lambda: model.segment(large, {"step_size": "1"})))
print(attempt(lambda: climb_down([Rung(window, "cpu")], slabs, "n")))
limit(4000)
print(attempt(lambda: model.segment(large, {"step_size": "1"})))
"""


def test_memory_of_the_host_ends():
    """Where host memory ends, in preprocessing or for the sums of tiles, it is told; afterwards the model goes on."""
    done = subprocess.run([sys.executable, "-c", LIMITED, TRAINED], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["MemoryError", "OUT_OF_MEMORY", "Segmentation"]


@pytest.fixture
def model(monkeypatch):
    """The trained network; a convolution fails as a GPU's allocator would at the calls that are asked for."""
    calls = {"made": 0, "failing": ()}
    convolve = torch.nn.Conv3d.forward

    def forward(self, tile):
        calls["made"] += 1
        if calls["made"] in calls["failing"]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return convolve(self, tile)

    def on_gpu(window, device, strides=None):
        return (Rung(window, "cpu"), *ladder(window, "cpu", strides))

    monkeypatch.setattr(torch.nn.Conv3d, "forward", forward)
    monkeypatch.setattr(nnunet_network, "ladder", on_gpu)
    return catalogue.load(TRAINED), calls


def test_a_gpu_that_is_full_once(model, caplog):
    """Full in the middle of the first way, the second one begins anew and gives the same labels."""
    loaded, calls = model
    volume = chest_phantom((20, 48, 48), (12.0, 8.0, 8.0), seed=3).volume
    expected = loaded.segment(volume, PARAMETERS).labelmap.array
    calls.update(made=0, failing=(9,))
    with caplog.at_level(logging.WARNING):
        found = loaded.segment(volume, PARAMETERS).labelmap.array
    np.testing.assert_array_equal(found, expected)
    assert caplog.text.count("out of memory (way 1 of 2, tiles 24x48x48)") == 1


def test_a_gpu_that_is_too_small(model, monkeypatch):
    """Full in every way, smaller tiles too, it is a recorded failure that says what may help."""
    loaded, calls = model
    monkeypatch.setattr(nnunet_ladder, "SMALLEST_TILE", 16)
    volume = chest_phantom((20, 48, 48), (12.0, 8.0, 8.0), seed=3).volume
    ways = {"no": (2, "24x48x48"), "yes": (4, "24x24x24")}
    for smaller_tiles, (number, tile) in ways.items():
        calls.update(made=0, failing=range(1, 1000))
        with pytest.raises(OutOfMemory, match=f"tiles of {tile} voxels and 4 outputs; a machine with more") as caught:
            loaded.segment(volume, PARAMETERS | {"smaller_tiles": smaller_tiles})
        assert (caught.value.code, calls["made"]) == ("OUT_OF_MEMORY", number)
