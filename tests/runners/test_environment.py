"""What a process says it runs on."""

from __future__ import annotations

import importlib.metadata
import socket
import subprocess
from pathlib import Path

import pytest
from voxfleet import __version__
from voxfleet.runners import environment


def test_software_names_what_is_installed() -> None:
    """Voxfleet, Python and installed packages with the versions that pip knows; nothing that is absent."""
    software = environment.software()
    assert software["voxfleet"] == __version__
    assert software["pydicom"] == importlib.metadata.version("pydicom")
    assert set(software) <= {"voxfleet", "python", *environment.PACKAGES}


def commit_in(folder: Path) -> str:
    """A git repository with one commit of one file; its name by git itself."""
    git = ("git", "-C", str(folder), "-c", "user.name=n", "-c", "user.email=e@e", "-c", "commit.gpgsign=false")
    (folder / "a").write_text("1")
    for command in (("init", "-q"), ("add", "a"), ("commit", "-qm", "x"), ("tag", "v1")):
        subprocess.run([*git, *command], check=True)
    return subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()


def test_commit_of_a_checkout(tmp_path: Path) -> None:
    """The full name of the commit, tags or not, with a mark once files differ from it."""
    expected = commit_in(tmp_path)
    assert environment._checked_out(tmp_path) == expected
    (tmp_path / "a").write_text("2")
    assert environment._checked_out(tmp_path) == f"{expected}-dirty"


def test_a_folder_within_somebody_elses_repository_has_no_commit(tmp_path: Path) -> None:
    """A package installed below another project does not take that project's commit for its own."""
    commit_in(tmp_path)
    (tmp_path / "inner").mkdir()
    assert environment._checked_out(tmp_path / "inner") is None


def test_baked_commit_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that the build wrote is believed if it holds a commit, and passed over if it holds anything else."""
    monkeypatch.setattr(environment, "_ROOT", tmp_path)
    environment.git_commit.cache_clear()
    (tmp_path / "COMMIT").write_text("0123456789abcdef\n")
    assert environment.git_commit() == "0123456789abcdef"
    (tmp_path / "COMMIT").write_bytes(b"\xff not a commit")
    assert environment._baked() is None
    environment.git_commit.cache_clear()


def test_machine_without_anything_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without git, nvidia-smi and /proc there are empty facts and no error."""
    monkeypatch.setenv("PATH", "/nonexistent")
    environment._gpus.cache_clear()
    assert environment.machine("node-7").gpus == ()
    assert environment._checked_out(Path(__file__).parents[2]) is None
    assert isinstance(environment._cpu_model(Path("/nonexistent")), str)
    environment._gpus.cache_clear()


def test_gpus_are_what_nvidia_smi_prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Name and memory of each GPU, in order; a driver that fails gives none."""
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA L4, 23034 MiB'\necho 'NVIDIA L4, 23034 MiB'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    environment._gpus.cache_clear()
    assert environment.machine("n").gpus == ("NVIDIA L4, 23034 MiB", "NVIDIA L4, 23034 MiB")
    program.write_text("#!/bin/sh\necho 'could not reach the driver'; exit 9\n")
    environment._gpus.cache_clear()
    assert environment.machine("n").gpus == ()
    environment._gpus.cache_clear()


def test_host_name_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node is called what the variable says, or local."""
    monkeypatch.delenv("VOXFLEET_NODE", raising=False)
    assert environment.node_name() == "local"
    assert socket.gethostname() not in repr(environment.machine()) or socket.gethostname() in {"local", "Linux"}
    monkeypatch.setenv("VOXFLEET_NODE", "gpu-3")
    assert environment.machine().node == "gpu-3"
