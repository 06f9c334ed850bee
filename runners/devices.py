"""The devices that models run on: one warm process each."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence

from .. import Error

ALL_GPUS = "cuda"
_DEVICE = re.compile(r"cpu|cuda(:\d+)?")


class NoSuchDevice(Error):
    """A device that has no such name, or is not there."""

    code = "NO_SUCH_DEVICE"

    def __init__(self, device: str, reason: str) -> None:
        super().__init__(device, reason)

    def __str__(self) -> str:
        return f"device {self.args[0]}: {self.args[1]}"


def devices_of(asked: Sequence[str]) -> tuple[str, ...]:
    """The devices that are asked for by name; ``cuda`` is every GPU of this machine.

    Parameters
    ----------
    asked : sequence of str
        ``cpu``, ``cuda:N``, ``cuda``; the same one twice is two processes on it.

    Raises
    ------
    NoSuchDevice
        If a name is none of those, or there is no GPU.
    """
    return tuple(device for each in asked for device in _devices(each))


def checked(asked: Sequence[str]) -> tuple[str, ...]:
    """The names as they are, for a machine that is not this one.

    Raises
    ------
    NoSuchDevice
        If one is no device's name.
    """
    for each in asked:
        if not _DEVICE.fullmatch(each):
            raise NoSuchDevice(each, "is none of cpu, cuda:N and cuda (every GPU)")
    return tuple(asked)


def _devices(asked: str) -> tuple[str, ...]:
    (name,) = checked([asked])
    if name != ALL_GPUS:
        return (name,)
    if not (gpus := gpus_here()):
        raise NoSuchDevice(name, "there is no GPU on this machine, or none may be seen")
    return tuple(f"cuda:{number}" for number in range(gpus))


def gpus_here() -> int:
    """GPUs of this machine that CUDA may see: those of ``CUDA_VISIBLE_DEVICES``, or all that its driver lists."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        named = [each.strip() for each in visible.split(",")]
        # CUDA ignores what follows a number that is none, and -1 is how all are hidden.
        return next((number for number, each in enumerate(named) if each in ("", "-1")), len(named))
    program = shutil.which("nvidia-smi")
    if program is None:
        return 0
    done = subprocess.run([program, "--list-gpus"], capture_output=True, text=True, check=False)
    return sum(line.startswith("GPU ") for line in done.stdout.splitlines()) if done.returncode == 0 else 0
