"""An image run once: folders made, the engine called, what came of it told; nothing is left behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..memory import OutOfMemory
from ..model import ModelError
from .card import Image
from .engines import ANSWER_S, Engine, Job
from .guard import OUTLIVES

KILLED = 137
"""Exit status of what SIGKILL ended (128 + 9), as the kernel does where memory does not suffice."""
GUARD = "voxfleet.models.container.guard"


class ImageFailed(ModelError):
    """An image, or the engine that was to run it, that ended with an error."""

    code = "IMAGE_FAILED"


class ImageTimedOut(ModelError):
    """An image that did not end within its time, and was ended."""

    code = "IMAGE_TIMED_OUT"


class ImageWroteNothing(ModelError):
    """An image that ended well, and wrote no result."""

    code = "IMAGE_WROTE_NOTHING"


@dataclass(frozen=True, slots=True)
class Workplace:
    """Folders of one run, which the image sees; they are gone when the run is over."""

    input: Path
    output: Path
    guard: subprocess.Popen[bytes]


@contextmanager
def workplace() -> Iterator[Workplace]:
    """Folders for one run, under the guard of a process that removes them even if this one is killed.

    Only this user may enter what holds them; the two folders themselves are open to every user, as an engine
    binds them into a container whose user is another one.
    """
    folder = Path(tempfile.mkdtemp(prefix="voxfleet-image-"))
    command = [sys.executable, "-P", "-m", GUARD, str(folder)]
    # Podman's monitor leaves a file `oom` where it was started, when a container passes its memory limit.
    guard = subprocess.Popen(
        command,
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, OUTLIVES: "1"},
    )
    place = Workplace(folder / "in", folder / "out", guard)
    try:
        place.input.mkdir()
        place.output.mkdir()
        place.output.chmod(0o777)
        yield place
    finally:
        guard.communicate()


def run_image(model: str, engine: Engine, image: Image, place: Workplace, gpu: str) -> None:
    """Run an image on what lies in the input folder.

    Parameters
    ----------
    gpu : str
        Number of the GPU it may use; empty for none.

    Raises
    ------
    ImageTimedOut, OutOfMemory, ImageFailed, ImageWroteNothing
        If it did not end in time, was killed, ended with an error, or left its output folder empty.
    """
    _readable_for_all(place.input)
    name = f"voxfleet-{uuid.uuid4().hex[:16]}"
    job = Job(image, name, place.input, place.output, os.getuid(), os.getgid(), gpu)
    order = {"run": engine.run(job), "remove": engine.remove(name), "time_limit_s": image.time_limit_s}
    answer = _ordered(place.guard, order)
    if answer["timed_out"]:
        raise ImageTimedOut(model, f"the image did not end within {image.time_limit_s} s, and was ended")
    if answer["status"] in (KILLED, -9):
        gigabytes = image.memory_bytes / 1e9
        reason = f"the image was killed, as where the {gigabytes:g} GB of its card's memory_bytes do not suffice"
        raise OutOfMemory(model, reason)
    if answer["status"]:
        reason = f"the image ended with status {answer['status']}; what it, or {engine.name}, said is in the log"
        raise ImageFailed(model, reason)
    if not any(place.output.iterdir()):
        raise ImageWroteNothing(model, f"the image wrote nothing into {image.output_folder}")


def the_result(model: str, image: Image, place: Workplace) -> Path:
    """The one file of the output folder that is the result.

    Raises
    ------
    ImageWroteNothing
        If none is; if several are; if it is a link, which could lead out of the folder.
    """
    found = [path for path in place.output.glob(image.output) if not path.is_dir()]
    if len(found) != 1:
        written = sum(path.is_file() for path in place.output.rglob("*"))
        reason = f"the image wrote {written} files, of which {len(found)} are {image.output}: one is needed"
        raise ImageWroteNothing(model, reason)
    if not found[0].resolve().is_relative_to(place.output.resolve()) or not found[0].is_file():
        raise ImageWroteNothing(model, f"{image.output} is no file of the output folder, but a link out of it")
    return found[0]


def copied(files: Sequence[Path], folder: Path) -> None:
    """Copies under names that tell nothing: 00001.dcm, ..."""
    for number, path in enumerate(files, start=1):
        shutil.copyfile(path, folder / f"{number:05d}.dcm")


def _ordered(guard: subprocess.Popen[bytes], order: dict[str, object]) -> dict[str, int]:
    """The guard's answer to an order."""
    if guard.stdin is None or guard.stdout is None:
        raise ImageFailed(GUARD, "has no pipe")
    guard.stdin.write(json.dumps(order).encode() + b"\n")
    guard.stdin.flush()
    line = guard.stdout.readline()
    if not line:
        raise ImageFailed(GUARD, f"ended with status {guard.wait(ANSWER_S)} before the image did")
    answer: dict[str, int] = json.loads(line)
    return answer


def _readable_for_all(folder: Path) -> None:
    folder.chmod(0o755)
    for path in folder.iterdir():
        path.chmod(0o644)
