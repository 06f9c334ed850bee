"""What this process runs on: package versions, the commit of our code, the machine."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import psutil

from .. import __version__
from ..enrich.provenance import Machine

PACKAGES = (
    "connected-components-3d",
    "dicomweb-client",
    "highdicom",
    "monai",
    "nibabel",
    "nnunetv2",
    "numpy",
    "pillow",
    "pyarrow",
    "pydicom",
    "pyjpegls",
    "pylibjpeg",
    "pylibjpeg-libjpeg",
    "pylibjpeg-openjpeg",
    "pylibjpeg-rle",
    "pyradiomics-bhklab",
    "ray",
    "scipy",
    "simpleitk",
    "torch",
    "totalsegmentator",
)
"""Distributions whose version may change a result; those that are not installed are left out."""

COMMIT_FILE = "COMMIT"
"""File in the package's folder that a build may put its commit into."""

NODE_VARIABLE = "VOXFLEET_NODE"
"""Environment variable that names this node."""

_ROOT = Path(__file__).parents[1]
_QUICK_S = 30.0
_COMMIT = re.compile(r"[0-9a-f]{7,64}(-dirty)?")


@cache
def software() -> Mapping[str, str]:
    """Version of Voxfleet, Python and every package of `PACKAGES` that is installed."""
    versions = {"voxfleet": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


@cache
def git_commit() -> str | None:
    """Commit that this code was made from, ``-dirty`` if files differ from it; None where nothing tells.

    Looked for in the file ``COMMIT`` of the package, in what pip wrote down when it installed
    from a git URL (PEP 610), and in the checkout that the package is.
    """
    return _baked() or _installed_from_git() or _checked_out(_ROOT)


def node_name() -> str:
    """Name of this node: ``VOXFLEET_NODE``, else ``local``; never the host name, which may be a hospital's."""
    return os.environ.get(NODE_VARIABLE) or "local"


def machine(node: str | None = None) -> Machine:
    """What this machine is; what cannot be found out is empty."""
    return Machine(
        node=node or node_name(),
        os=_os(),
        cpu_model=_cpu_model(Path("/proc/cpuinfo")),
        cpu_cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_bytes=psutil.virtual_memory().total,
        gpus=_gpus(),
    )


def _baked() -> str | None:
    try:
        text = (_ROOT / COMMIT_FILE).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return text if _COMMIT.fullmatch(text) else None


def _installed_from_git() -> str | None:
    try:
        text = importlib.metadata.distribution("voxfleet").read_text("direct_url.json")
        commit = json.loads(text or "{}").get("vcs_info", {}).get("commit_id")
    except (importlib.metadata.PackageNotFoundError, ValueError, AttributeError):
        return None
    return commit if isinstance(commit, str) and _COMMIT.fullmatch(commit) else None


def _checked_out(root: Path) -> str | None:
    # Only a checkout of our own: a package in site-packages may lie within somebody else's repository.
    if not (root / ".git").exists():
        return None
    text = _output("git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    return text if text and _COMMIT.fullmatch(text) else None


def _os() -> str:
    kernel = f"{platform.system()} {platform.release()}".strip()
    try:
        return f"{kernel}, {platform.freedesktop_os_release()['PRETTY_NAME']}"
    except (OSError, KeyError):
        return kernel


def _cpu_model(cpuinfo: Path) -> str:
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


@cache
def _gpus() -> tuple[str, ...]:
    text = _output("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader")
    return tuple(line.strip() for line in text.splitlines() if line.strip()) if text else ()


def _output(*command: str) -> str | None:
    """What a program prints; None if it is not there, fails, or does not answer."""
    program = shutil.which(command[0])
    if program is None:
        return None
    try:
        done = subprocess.run([program, *command[1:]], capture_output=True, text=True, timeout=_QUICK_S, check=True)
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return done.stdout.strip()
