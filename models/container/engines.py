"""Command lines of the engines that run images: without network, with limits, and never with a pull.

Docker and Podman create a container under a name and start it; what is left of it is removed by that name. Buildah
does the same with a working container. Apptainer has no daemon and nothing to remove: its container is a process.
Each was written after its own manual pages: docker-create(1), podman-create(1), apptainer-run(1), buildah-run(1).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..model import ModelError
from .card import OWN_USER, Image

LABEL = "org.voxfleet.run"
"""Label of every container that is made here; its value is the container's name."""
NOBODY = 65534
"""User and group that stand for no one, in every image."""
ANSWER_S = 30.0
"""An engine that does not answer a question in this time does not work."""

Command = list[str]


class NoEngine(ModelError):
    """No engine on this machine works, or none that can run this image."""

    code = "NO_CONTAINER_ENGINE"


@dataclass(frozen=True, slots=True)
class Job:
    """One run of an image.

    Attributes
    ----------
    name : str
        Of the container; of nothing else on this machine.
    input, output : Path
        Folders on this machine.
    uid, gid : int
        Of the user who runs Voxfleet.
    gpu : str
        Number (among all of the machine) or UUID of the GPU it may use; empty for none.
    """

    image: Image
    name: str
    input: Path
    output: Path
    uid: int
    gid: int
    gpu: str = ""

    @property
    def user(self) -> str:
        """``uid:gid`` in the container; empty for the image's own."""
        if self.image.user == OWN_USER:
            return ""
        return f"{NOBODY}:{NOBODY}" if self.uid == 0 else f"{self.uid}:{self.gid}"


@dataclass(frozen=True, slots=True)
class Engine:
    """How one engine is asked.

    Attributes
    ----------
    works : list of str
        Succeeds where the engine works (Docker's needs its daemon).
    has : callable
        Image to a command that succeeds where the image is on this machine.
    run : callable
        Job to commands, one after another; the last one is the work, and gives the image's exit status.
    remove : callable
        Name to commands that leave nothing of the container, whatever its state.
    pull : str
        What brings an image to this machine, for errors.
    """

    name: str
    works: Command
    has: Callable[[str], Command]
    run: Callable[[Job], list[Command]]
    remove: Callable[[str], list[Command]]
    pull: str


def engine_for(model: str, image: Image) -> Engine:
    """The engine that the card names, or the first that works here.

    Raises
    ------
    NoEngine
        If there is none.
    """
    able = {"apptainer"} if image.sif is not None else set(ENGINES_BY_NAME) - {"apptainer"}
    asked = [image.engine] if image.engine else list(ENGINES_BY_NAME)
    for name in asked:
        if name in able and shutil.which(name) and succeeds(ENGINES_BY_NAME[name].works):
            return ENGINES_BY_NAME[name]
    tried = ", ".join(name for name in asked if name in able) or f"{image.engine} cannot run such an image"
    raise NoEngine(model, f"no container engine works on this machine (tried: {tried}); install podman or apptainer")


def gpu_of(model: str, device: str) -> str:
    """What engines call a device's GPU: CUDA counts those that this process may see, engines all of the machine.

    Raises
    ------
    NoEngine
        If ``CUDA_VISIBLE_DEVICES`` does not hold so many.
    """
    if not device.startswith("cuda"):
        return ""
    number = int(device.partition(":")[2] or 0)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return str(number)
    gpus = [each.strip() for each in visible.split(",")]
    if number >= len(gpus) or gpus[number] in ("", "-1"):
        raise NoEngine(model, f"{device} is no GPU of CUDA_VISIBLE_DEVICES={visible}, so that no image can have it")
    return gpus[number]


def succeeds(command: Command) -> bool:
    """Whether a question to an engine is answered with yes."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=ANSWER_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _limits(job: Job) -> Command:
    memory = str(job.image.memory_bytes)
    return [
        "--network=none",
        f"--memory={memory}",
        f"--memory-swap={memory}",
        # Half of the memory: PyTorch's workers share tensors through /dev/shm, which is 64 MB otherwise.
        f"--shm-size={job.image.memory_bytes // 2}",
    ]


def _confined(job: Job) -> Command:
    """Options that Docker and Podman share."""
    image = job.image
    return [
        f"--name={job.name}",
        f"--label={LABEL}={job.name}",
        "--pull=never",
        *_limits(job),
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges",
        f"--mount=type=bind,source={job.input},target={image.input_folder},readonly",
        f"--mount=type=bind,source={job.output},target={image.output_folder}",
        *([f"--user={job.user}"] if job.user else []),
    ]


def _docker(job: Job) -> list[Command]:
    # An init passes signals on and reaps what a shell script leaves behind.
    gpu = [f"--gpus=device={job.gpu}"] if job.gpu else []
    create = ["docker", "create", "--init", *_confined(job), *gpu, job.image.image, *job.image.command]
    return [create, ["docker", "start", "--attach", job.name]]


def _podman(job: Job) -> list[Command]:
    # Rootless, the user of the container is to be the user outside, who owns the folders.
    same = ["--userns=keep-id"] if job.user and job.uid != 0 else []
    gpu = [f"--device=nvidia.com/gpu={job.gpu}"] if job.gpu else []
    create = ["podman", "create", *_confined(job), *same, *gpu, job.image.image, *job.image.command]
    return [create, ["podman", "start", "--attach", job.name]]


def _apptainer(job: Job) -> list[Command]:
    # It runs as the user who calls it; its memory is that of a child process, which the worker's own cap counts.
    gpu = ["--nv", "--env", f"CUDA_VISIBLE_DEVICES={job.gpu}"] if job.gpu else []
    binds = [f"{job.input}:{job.image.input_folder}:ro", f"{job.output}:{job.image.output_folder}"]
    options = ["--containall", "--no-home", "--writable-tmpfs", "--net", "--network", "none"]
    bound = [word for bind in binds for word in ("--bind", bind)]
    return [["apptainer", "run", *options, *bound, *gpu, str(job.image.sif), *job.image.command]]


def _buildah(job: Job) -> list[Command]:
    # `buildah run` does not know the image's ENTRYPOINT: the command must be whole.
    create = ["buildah", "from", f"--name={job.name}", "--pull=never", *_limits(job), job.image.image]
    user = [f"--user={job.user}"] if job.user else []
    bound = [
        f"--volume={job.input}:{job.image.input_folder}:ro",
        f"--volume={job.output}:{job.image.output_folder}",
    ]
    run = ["buildah", "run", "--network=none", "--cap-drop=ALL", *user, *bound, job.name, "--", *job.image.command]
    return [create, run]


_ENGINES = (
    Engine(
        "docker",
        ["docker", "version", "--format", "{{.Server.Version}}"],
        lambda image: ["docker", "image", "inspect", image],
        _docker,
        lambda name: [["docker", "rm", "--force", "--volumes", name]],
        "docker pull",
    ),
    Engine(
        "podman",
        ["podman", "version"],
        lambda image: ["podman", "image", "exists", image],
        _podman,
        lambda name: [["podman", "rm", "--force", "--ignore", "--time=0", "--volumes", name]],
        "podman pull",
    ),
    Engine(
        "apptainer",
        ["apptainer", "--version"],
        lambda image: ["apptainer", "inspect", image],
        _apptainer,
        lambda name: [],  # noqa: ARG005 - nothing stays behind
        "apptainer pull",
    ),
    Engine(
        "buildah",
        ["buildah", "version"],
        lambda image: ["buildah", "inspect", "--type", "image", image],
        _buildah,
        lambda name: [["buildah", "rm", name]],
        "buildah pull",
    ),
)
ENGINES_BY_NAME = {engine.name: engine for engine in _ENGINES}
"""In the order in which they are looked for."""
