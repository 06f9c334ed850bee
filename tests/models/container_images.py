"""Cards of container images, and a tiny real image for the engines that are on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

BUSYBOX = Path("/bin/busybox")
"""Debian's busybox-static: one program that needs no other file."""
CONTAINERFILE = """\
FROM scratch
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
COPY files /files
CMD ["/bin/sh", "-c", "echo the image's own command"]
"""
CONTAINERS_CONF = """\
[engine]
runtime = "runc"
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
"""
STORAGE_CONF = """\
[storage]
driver = "vfs"
graphroot = "{root}/graph"
runroot = "{root}/run"
"""


@dataclass(frozen=True)
class Store:
    """A container store of its own, for tests.

    Attributes
    ----------
    folder : Path
        What an image is built from; files in ``files`` are there as ``/files``.
    environment : dict
        Makes podman and buildah use this store.
    """

    folder: Path
    environment: dict[str, str]

    def build(self, name: str) -> str:
        """An image of the folder as it is now, by digest."""
        self.podman("build", "--isolation", "chroot", "--quiet", "--tag", f"localhost/{name}:1", str(self.folder))
        digest = self.podman("image", "inspect", "--format", "{{.Digest}}", f"localhost/{name}:1")
        return f"localhost/{name}@{digest.strip()}"

    def podman(self, *words: str) -> str:
        """What podman prints."""
        done = subprocess.run(["podman", *words], env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def containers(self) -> list[str]:
        """Names of all containers that there are, in whatever state, Buildah's among them."""
        return self.podman("ps", "--all", "--external", "--format", "{{.Names}}").split()


def make_store(folder: Path) -> Iterator[Store]:
    """A store in a folder, with what is needed to build images; skips where none can be run."""
    if not BUSYBOX.is_file() or not all(map(shutil.which, ("podman", "buildah", "runc"))):
        pytest.skip("podman, buildah, runc and busybox-static are needed")
    build = folder / "build"
    (build / "files").mkdir(parents=True)
    shutil.copy(BUSYBOX, build / "busybox")
    (build / "Containerfile").write_text(CONTAINERFILE)
    (folder / "containers.conf").write_text(CONTAINERS_CONF)
    # The names of podman's sockets hold the folder, and a socket's name has 108 bytes: where they do not suffice,
    # podman waits 20 s for each container's end.
    short = Path(tempfile.mkdtemp(prefix="vf-", dir="/tmp"))
    (folder / "storage.conf").write_text(STORAGE_CONF.format(root=short))
    own = {
        "CONTAINERS_CONF": str(folder / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
    }
    store = Store(build, {**os.environ, **own})
    tried = subprocess.run(
        ["podman", "run", "--rm", "--network=none", store.build("try"), "/bin/sh", "-c", "true"],
        env=store.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if tried.returncode:
        pytest.skip(f"podman cannot run a container here: {tried.stderr.strip()[-200:]}")
    yield store
    subprocess.run(["podman", "system", "reset", "--force"], env=store.environment, capture_output=True, check=False)
    shutil.rmtree(short, ignore_errors=True)


def card_of(
    image: str, script: str = "", segments: tuple[str, ...] = ("liver", "spleen"), **block: Any
) -> dict[str, Any]:
    """Content of a card for an image that takes and gives NIfTI, with changes to its block."""
    return {
        "name": "an-image",
        "version": "2.0",
        "description": "An image for tests.",
        "intended_use": "Tests.",
        "modality": ["CT"],
        "body_part": "ABDOMEN",
        "algorithm_family": "AI",
        "memory_bytes": 100_000_000,
        "gpu_bytes": 0,
        "code_licence": "Apache-2.0",
        "weights_licence": "CC0-1.0",
        "weights": [],
        "parameters": {},
        "citations": [],
        "segments": [
            {
                "number": number,
                "label": name.capitalize(),
                "name": name,
                "category": [123037004, "SCT", "Anatomical Structure"],
                "type": [78961009, "SCT", "Spleen"],
                "color": [1, 2, number],
            }
            for number, name in enumerate(segments, start=1)
        ],
        "container": {
            "image": image,
            "command": ["/bin/sh", "-c", script],
            "input": "nifti",
            "input_file": "image.nii",
            "input_folder": "/data/in",
            "output_folder": "/data/out",
            "output": "*.nii",
            "output_kind": "nifti",
            "labels": dict(enumerate(segments, start=1)),
            **block,
        },
    }


def write_card(folder: Path, card: dict[str, Any]) -> str:
    """The card as a file; gives the model's name."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "card.yaml").write_text(yaml.safe_dump(card))
    return f"container:{folder}"
