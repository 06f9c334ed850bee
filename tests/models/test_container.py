"""container:CARD with real images and real engines: what is handed over, what comes back, what is left."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import highdicom as hd
import nibabel as nib
import numpy as np
import pytest
from voxfleet.models import catalogue
from voxfleet.models.container.engines import NoEngine
from voxfleet.models.container.label_map import InvalidResult
from voxfleet.models.container.running import ImageFailed, ImageTimedOut, ImageWroteNothing
from voxfleet.models.memory import OutOfMemory
from voxfleet.models.model import Model
from voxfleet.models.weights import WeightsMissing


def _module(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


images = _module("container_images")

COPY = "cp /data/in/image.nii /data/out/found.nii"
"""The volume's values are its labels."""
CONFINED = f"""
test "$(id -u)" != 0 || exit 11
test "$(ls /sys/class/net)" = lo || exit 12
touch /data/in/x 2>/dev/null && exit 13
test "$(ls /data/in)" = image.nii || exit 14
test "$(ls /data/out | wc -l)" = 0 || exit 15
{COPY}
"""
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, turned: Path) -> Iterator[Any]:
    """A store whose image holds label maps of other grids."""
    for store in images.make_store(tmp_path_factory.mktemp("store")):
        for path in turned.iterdir():
            (store.folder / "files" / path.name).write_bytes(path.read_bytes())
        yield store


@pytest.fixture(scope="module")
def turned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The volume as a label map in RAS, shifted by 1 mm, and with one slice less; by nibabel."""
    folder = tmp_path_factory.mktemp("turned")
    source = volume()
    affine = (LPS_TO_RAS @ source.affine)[:, [2, 1, 0, 3]]
    image = nib.Nifti1Image(source.array.transpose(2, 1, 0), affine)
    nib.save(nib.as_closest_canonical(image), folder / "ras.nii")
    shifted = affine.copy()
    shifted[0, 3] += 1.0
    nib.save(nib.Nifti1Image(image.dataobj, shifted), folder / "shifted.nii")
    nib.save(nib.Nifti1Image(image.dataobj[:, :, :-1], affine), folder / "short.nii")
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj) * 0.5, affine), folder / "halves.nii")
    (folder / "text.nii").write_text("no NIfTI")
    return folder


@pytest.fixture(scope="module")
def image(store) -> str:
    """By digest."""
    return store.build("an-image")


@pytest.fixture
def model(store, image, tmp_path, monkeypatch):
    """Loads the image with a script, by Podman unless told otherwise; temporary folders go to `tmp_path`."""
    for name, value in store.environment.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))

    def load(script: str, memory_bytes: int = 100_000_000, **block: Any) -> Model:
        card = images.card_of(script=script, **{"image": image, "engine": "podman", **block})
        return catalogue.load(images.write_card(tmp_path / "card", {**card, "memory_bytes": memory_bytes}))

    yield load
    assert store.containers() == []
    assert list((tmp_path / "tmp").iterdir()) == []


def volume() -> hd.Volume:
    """Values 0, 1 and 2 in an oblique, anisotropic volume whose axes run to foot, front and left."""
    array = np.random.default_rng(7).integers(0, 3, (5, 7, 6)).astype(np.int16)
    angle = np.deg2rad(7)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.array([[0, 0, 1.5], [0, -2.0, 0], [-4.0, 0, 0]])
    affine[:3, 3] = (-10.5, 20.25, 30.0)
    return hd.Volume(array, affine, "PATIENT")


@pytest.mark.parametrize("engine", ["podman", "buildah"])
def test_an_image_finds_what_it_finds(model, engine):
    """It gets the volume, read-only, as no root, without a network; its labels come back voxel by voxel, twice."""
    source = volume()
    loaded = model(CONFINED, engine=engine)
    for _ in range(2):
        found = loaded.segment(source, {})
        assert np.array_equal(found.labelmap.array, source.array)
        assert found.labelmap.geometry_equal(source)
    assert [segment.name for segment in found.segments] == ["liver", "spleen"]


def test_its_own_user_is_the_images(model):
    """``user: image`` runs it as the image says, which says nothing here: as root of its container."""
    loaded = model(f'test "$(id -u)" = 0 && {COPY}', user="image")
    assert np.array_equal(loaded.segment(volume(), {}).labelmap.array, volume().array)


def test_labels_are_translated(model):
    """A value stands for the segment that the card says, or for nothing where it is ignored."""
    found = model(COPY, labels={2: "liver", 7: "spleen"}, ignored=[1]).segment(volume(), {})
    assert np.array_equal(found.labelmap.array, volume().array == 2)


def test_a_result_in_ras_is_turned_back(model):
    """A tool that stores every image in RAS gives the same segmentation."""
    found = model("cp /files/ras.nii /data/out/").segment(volume(), {})
    assert np.array_equal(found.labelmap.array, volume().array)


@pytest.mark.parametrize(
    ("script", "error", "message"),
    [
        ("true", ImageWroteNothing, "the image wrote nothing into /data/out"),
        ("echo x > /data/out/x.txt", ImageWroteNothing, r"wrote 1 files, of which 0 are \*.nii"),
        (f"{COPY}; cp /data/out/found.nii /data/out/b.nii", ImageWroteNothing, r"2 files, of which 2 are \*.nii"),
        ("ln -s /etc/hostname /data/out/x.nii", ImageWroteNothing, "a link out of it"),
        ("cp /files/shifted.nii /data/out/", InvalidResult, "another grid: it lies up to 1 mm off"),
        ("cp /files/short.nii /data/out/", InvalidResult, "another grid: 4 x 7 x 6 voxels, the series has 5 x 7 x 6"),
        ("cp /files/halves.nii /data/out/", InvalidResult, "values that are no labels"),
        ("cp /files/text.nii /data/out/", InvalidResult, "no NIfTI"),
        (f"{COPY}; exit 3", ImageFailed, "ended with status 3"),
        ("no-such-program", ImageFailed, "ended with status 127"),
    ],
)
def test_what_is_no_result(model, script, error, message):
    """An image that fails, or writes something else than one label map of the volume, is told as such."""
    with pytest.raises(error, match=message):
        model(script).segment(volume(), {})


def test_an_unknown_label(model):
    """A value that the card does not know is not taken for background."""
    with pytest.raises(InvalidResult, match="wrote the label 2, which its card does not know"):
        model(COPY, labels={1: "liver", 3: "spleen"}).segment(volume(), {})


@pytest.mark.parametrize("engine", ["podman", "buildah"])
def test_an_image_that_hangs(model, engine):
    """It is ended when its time is over."""
    started = time.monotonic()
    with pytest.raises(ImageTimedOut, match="did not end within 2 s"):
        model("sleep 1000", engine=engine, time_limit_s=2).segment(volume(), {})
    assert time.monotonic() - started < 200


def test_too_much_memory(model):
    """An image that passes the memory of its card is killed, and that is told as what it is."""
    with pytest.raises(OutOfMemory, match=r"where the 0\.02 GB of its card's memory_bytes do not suffice"):
        model("x=0123456789; while true; do x=$x$x; done", 20_000_000, time_limit_s=200).segment(volume(), {})


@pytest.mark.parametrize("engine", ["podman", "buildah"])
def test_a_killed_worker_leaves_nothing(model, store, tmp_path, engine):
    """SIGKILL to the worker and all of its process group ends the image, and its container and folders go."""
    name = model(f"{COPY}; sleep 100", engine=engine).card.reference
    code = (
        "import sys, tempfile; tempfile.tempdir = sys.argv[2]; import numpy as np, highdicom as hd;"
        "from voxfleet.models import catalogue; "
        "v = hd.Volume(np.arange(8, dtype='int16').reshape(2, 2, 2), np.eye(4), 'PATIENT');"
        "catalogue.load(sys.argv[1]).segment(v, {})"
    )
    temporary = tmp_path / "tmp"
    worker = subprocess.Popen([sys.executable, "-c", code, name, str(temporary)], start_new_session=True)
    _until(lambda: any(temporary.glob("*/out/found.nii")))
    assert len(store.containers()) == 1
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()
    _until(lambda: not any(temporary.iterdir()))
    assert store.containers() == []


def _until(holds) -> None:
    deadline = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_an_image_that_is_not_here(model, tmp_path):
    """Nothing is pulled; the error names the command that would."""
    absent = f"localhost/an-image@sha256:{'0' * 64}"
    with pytest.raises(WeightsMissing, match=f"podman pull {absent}"):
        model(COPY, image=absent)


def test_no_engine(tmp_path, monkeypatch):
    """Where no engine works, that is said when the model is loaded."""
    monkeypatch.setenv("PATH", str(tmp_path))
    name = images.write_card(tmp_path / "card", images.card_of(f"a@sha256:{'0' * 64}"))
    with pytest.raises(NoEngine, match="tried: docker, podman, buildah"):
        catalogue.load(name)
