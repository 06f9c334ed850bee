"""Command lines, held against the engines' manuals; those of Podman and Buildah are run in test_container."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from voxfleet.models.container.card import Image
from voxfleet.models.container.engines import ENGINES_BY_NAME, Job, NoEngine, engine_for, gpu_of
from voxfleet.models.weights import WrongHash, check_hash

DIGEST = "cd" * 32


def image(name: str = "mhubai/lungmask", **changes: Any) -> Image:
    """As MHub runs its images."""
    values: dict[str, Any] = {
        "image": f"{name}@sha256:{DIGEST}",
        "command": ("--workflow", "default"),
        "input": "dicom",
        "input_file": "image.nii.gz",
        "input_folder": "/app/data/input_data",
        "output": "**/*.seg.dcm",
        "output_kind": "seg",
        "output_folder": "/app/data/output_data",
        "numbers": {"Lung": 1},
        "engine": "",
        "user": "",
        "time_limit_s": 60,
        "memory_bytes": 8_000_000_000,
        "folder": Path("/cards"),
    }
    return Image(**{**values, **changes})


def job(of: Image, **changes: Any) -> Job:
    """A run by user 1000 on the second GPU."""
    values: dict[str, Any] = {"uid": 1000, "gid": 100, "gpu": "1", **changes}
    return Job(of, "voxfleet-1", Path("/t/in"), Path("/t/out"), **values)


def test_docker():
    """docker-create(1), docker-start(1), docker-rm(1)."""
    engine = ENGINES_BY_NAME["docker"]
    assert engine.run(job(image())) == [
        [
            "docker",
            "create",
            "--init",
            "--name=voxfleet-1",
            "--label=org.voxfleet.run=voxfleet-1",
            "--pull=never",
            "--network=none",
            "--memory=8000000000",
            "--memory-swap=8000000000",
            "--shm-size=4000000000",
            "--cap-drop=ALL",
            "--security-opt=no-new-privileges",
            "--mount=type=bind,source=/t/in,target=/app/data/input_data,readonly",
            "--mount=type=bind,source=/t/out,target=/app/data/output_data",
            "--user=1000:100",
            "--gpus=device=1",
            f"mhubai/lungmask@sha256:{DIGEST}",
            "--workflow",
            "default",
        ],
        ["docker", "start", "--attach", "voxfleet-1"],
    ]
    assert engine.remove("voxfleet-1") == [["docker", "rm", "--force", "--volumes", "voxfleet-1"]]


def test_podman_keeps_the_user():
    """podman-create(1): rootless, ``--userns=keep-id``; GPUs by the Container Device Interface."""
    create, start = ENGINES_BY_NAME["podman"].run(job(image()))
    assert start == ["podman", "start", "--attach", "voxfleet-1"]
    assert {"--userns=keep-id", "--user=1000:100", "--device=nvidia.com/gpu=1", "--pull=never"} <= set(create)
    as_root, _ = ENGINES_BY_NAME["podman"].run(job(image(), uid=0, gid=0, gpu=""))
    assert "--user=65534:65534" in as_root
    assert not any(word.startswith(("--userns", "--device")) for word in as_root)


def test_an_image_that_needs_its_own_user():
    """``user: image`` leaves the user to the image."""
    for name in ("docker", "podman", "buildah"):
        for command in ENGINES_BY_NAME[name].run(job(image(user="image"))):
            assert not any(word.startswith("--user") for word in command)


def test_apptainer():
    """apptainer-run(1): contained, no home, no network but in a namespace of its own, a file as image."""
    of = image("lungmask.sif")
    assert ENGINES_BY_NAME["apptainer"].run(job(of)) == [
        [
            "apptainer",
            "run",
            "--containall",
            "--no-home",
            "--writable-tmpfs",
            "--net",
            "--network",
            "none",
            "--bind",
            "/t/in:/app/data/input_data:ro",
            "--bind",
            "/t/out:/app/data/output_data",
            "--nv",
            "--env",
            "CUDA_VISIBLE_DEVICES=1",
            "/cards/lungmask.sif",
            "--workflow",
            "default",
        ]
    ]


def stand_in(folder: Path, name: str, status: int) -> None:
    """A program of an engine's name that answers every question with `status`."""
    (folder / name).write_text(f"#!/bin/sh\nexit {status}\n")
    (folder / name).chmod(0o755)


def test_the_first_engine_that_works(tmp_path, monkeypatch):
    """A docker without its daemon is passed over; a card may name its engine; a file is for Apptainer alone."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/bin")
    monkeypatch.setattr("shutil.which", lambda name: str(tmp_path / name) if (tmp_path / name).exists() else None)
    stand_in(tmp_path, "docker", 1)
    for name in ("podman", "buildah", "apptainer"):
        stand_in(tmp_path, name, 0)
    assert engine_for("m", image()).name == "podman"
    assert engine_for("m", image(engine="buildah")).name == "buildah"
    assert engine_for("m", image("a.sif")).name == "apptainer"
    with pytest.raises(NoEngine, match="tried: docker"):
        engine_for("m", image(engine="docker"))
    with pytest.raises(NoEngine, match="podman cannot run such an image"):
        engine_for("m", image("a.sif", engine="podman"))


def test_a_file_of_another_hash(tmp_path):
    """An image that is a file is pinned as weights are."""
    (tmp_path / "a.sif").write_bytes(b"image")
    of = image("a.sif", folder=tmp_path)
    assert of.sif == tmp_path / "a.sif"
    with pytest.raises(WrongHash):
        check_hash("m", of.sif, of.sha256)
    check_hash("m", of.sif, hashlib.sha256(b"image").hexdigest())


@pytest.mark.parametrize(
    ("visible", "device", "gpu"),
    [
        (None, "cpu", ""),
        ("2,3", "cpu", ""),
        (None, "cuda", "0"),
        (None, "cuda:1", "1"),
        ("2, 3", "cuda:1", "3"),
        ("GPU-8932f937", "cuda:0", "GPU-8932f937"),
    ],
)
def test_the_gpu_of_an_image(monkeypatch, visible, device, gpu):
    """CUDA numbers the GPUs that CUDA_VISIBLE_DEVICES leaves to a process from 0; engines know all of the machine."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpu_of("m", device) == gpu


@pytest.mark.parametrize(("visible", "device"), [("2", "cuda:1"), ("", "cuda"), ("-1", "cuda:0")])
def test_a_gpu_that_this_process_may_not_see(monkeypatch, visible, device):
    """It belongs to others: no image gets it."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(NoEngine, match=f"{device} is no GPU of CUDA_VISIBLE_DEVICES={visible},"):
        gpu_of("m", device)
