"""Memory of a node: what one stage may take of its host, and of a GPU."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

STAGE_SHARE = 0.6
"""Of the host's memory, that one stage may take."""

LEAST_BYTES = 2 * 2**30
"""Of the host, that a stage may always take."""

MORE = 1.05
"""What is more by less than this is the same: machines of one type differ by what their firmware and kernels keep."""

_QUICK_S = 30.0
_CGROUPS = Path("/sys/fs/cgroup")
_OWN_GROUPS = Path("/proc/self/cgroup")


@dataclass(frozen=True, slots=True, order=True)
class NodeMemory:
    """The class of a node, as far as it decides what fits on it; zeros: not known.

    Attributes
    ----------
    host_bytes : int
        Resident memory at which a stage is killed.
    gpu_bytes : int
        Of one GPU; 0 without one.
    """

    host_bytes: int = 0
    gpu_bytes: int = 0

    def more_than(self, other: NodeMemory) -> bool:
        """Whether there is `MORE` of the host's or of the GPU's, and less of neither."""
        if self.host_bytes < other.host_bytes or self.gpu_bytes < other.gpu_bytes:
            return False
        return int(self.host_bytes / MORE) > other.host_bytes or int(self.gpu_bytes / MORE) > other.gpu_bytes

    def __str__(self) -> str:
        host = f"{self.host_bytes / 2**30:.1f} GiB for a stage"
        return f"{host} and {self.gpu_bytes / 2**30:.1f} GiB of GPU" if self.gpu_bytes else host


UNKNOWN_MEMORY = NodeMemory()
"""Of a node that says nothing of it: what ran out of memory elsewhere is not tried there."""


def classes(memories: Iterable[NodeMemory]) -> dict[NodeMemory, NodeMemory]:
    """The class of each: those that differ by less than `MORE` are one, which has what the least of them has."""
    nodes = set(memories)
    gpus = _classes(node.gpu_bytes for node in nodes)
    hosts = {
        gpu: _classes(node.host_bytes for node in nodes if gpus[node.gpu_bytes] == gpu) for gpu in set(gpus.values())
    }
    return {node: NodeMemory(hosts[gpus[node.gpu_bytes]][node.host_bytes], gpus[node.gpu_bytes]) for node in nodes}


def stage_bytes() -> int:
    """Memory cap of one stage here: six tenths of what this machine, or this process's container, has; at least 2 GiB.

    A container's limit is read from its control group (version 2, or 1): a pod of 16 GiB on a machine
    of 64 GiB has 16.
    """
    # Whoever reads a ledger imports this file, and needs no more of it than the record.
    import psutil

    return max(LEAST_BYTES, int(STAGE_SHARE * min([psutil.virtual_memory().total, *_limits(_OWN_GROUPS, _CGROUPS)])))


def gpu_bytes(devices: Sequence[str]) -> int:
    """Memory of the smallest GPU here, in bytes, where one of the devices is a GPU; 0 where that cannot be told."""
    program = shutil.which("nvidia-smi")
    if program is None or not any(device.startswith("cuda") for device in devices):
        return 0
    query = [program, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=_QUICK_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return 0
    return min((int(line) * 2**20 for line in done.stdout.split() if line.isdigit()), default=0)


def _classes(sizes: Iterable[int]) -> dict[int, int]:
    """The least size of the class of each."""
    found: dict[int, int] = {}
    least = 0
    for size in sorted(sizes):
        if not found or int(size / MORE) > least:
            least = size
        found[size] = least
    return found


def _limits(own: Path, groups: Path) -> Iterator[int]:
    """Limits in bytes of this process's control group and of those above it."""
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        found = re.fullmatch(r"\d+:([^:]*):/(.*)", line)
        if found is None or ("memory" not in found[1].split(",") and found[1]):
            continue
        top, name = (groups / "memory", "memory.limit_in_bytes") if found[1] else (groups, "memory.max")
        place = top / found[2]
        for folder in (place, *place.parents):
            if folder == top.parent:
                break
            try:
                text = (folder / name).read_text(encoding="ascii").strip()
            except OSError:
                continue
            if text.isdigit():
                yield int(text)
