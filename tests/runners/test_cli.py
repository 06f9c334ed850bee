"""The console script imports the command that is called, and no other."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import termios
import time
from array import array
from pathlib import Path

import psutil
import pytest

HEAVY = {"pydicom", "highdicom", "numpy", "scipy", "pandas", "pyarrow", "torch", "ray"}


def voxfleet(*words: str, path: Path | None = None) -> tuple[subprocess.CompletedProcess[str], set[str]]:
    """What the console script says, and the packages that it imports."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "voxfleet", *words],
        capture_output=True,
        text=True,
        check=False,
        env=None if path is None else {"PYTHONPATH": str(path)},
    )
    return done, {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}


def test_only_what_is_called_is_imported() -> None:
    """The version needs no DICOM and no model."""
    done, imported = voxfleet("--version")
    assert done.returncode == 0
    assert not imported & HEAVY


def test_all_commands_are_listed() -> None:
    """The help names commands of every floor, each with its first line."""
    done, _ = voxfleet("--help")
    for name in ("run", "enrich", "status", "benchmark", "cluster"):
        assert f" {name} " in done.stdout
    assert "Show where a run stands" in done.stdout


def test_a_misspelt_command_is_told() -> None:
    """The nearest name is proposed, without an import of it."""
    done, imported = voxfleet("enrihc")
    assert done.returncode == 2
    assert "Did you mean 'enrich'?" in done.stderr
    assert not imported & HEAVY


def test_output_is_whole_where_it_waits_and_is_stopped() -> None:
    """More than a pipe takes, without a buffer of Python (as containers have it), and stopped: nothing lacks."""
    command = [sys.executable, "-m", "voxfleet", "models", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONUNBUFFERED": "1"}) as process:
        assert process.stdout is not None
        room = fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, 4096)
        there = array("i", [0])
        while there[0] < room:
            assert process.poll() is None
            fcntl.ioctl(process.stdout, termios.FIONREAD, there)
            time.sleep(0.01)
        while psutil.Process(process.pid).status() != psutil.STATUS_STOPPED:
            process.send_signal(signal.SIGSTOP)
            time.sleep(0.01)
        process.send_signal(signal.SIGCONT)
        said = process.stdout.read()
    assert len(said) > room
    assert {card["name"] for card in json.loads(said)} >= {"ct-threshold", "meshnet-gwm"}
    assert process.returncode == 0


@pytest.mark.parametrize("words", [("broken",), ("--help",)])
def test_a_command_that_cannot_be_imported_stops_no_other(tmp_path: Path, words: tuple[str, ...]) -> None:
    """A third party's broken command is named in a warning and is then not there."""
    metadata = tmp_path / "third_party-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[voxfleet.commands]\nbroken = no_such_module:command\n")
    done, _ = voxfleet(*words, path=tmp_path)
    assert "command broken of no_such_module:command cannot be loaded" in done.stderr
    assert done.returncode == (2 if words == ("broken",) else 0)
    assert "broken" not in done.stdout
