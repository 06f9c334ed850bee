"""A run's folder: found by name or path, held by one driver at a time."""

from __future__ import annotations

import subprocess
import sys

import pytest
from voxfleet.cluster.run_folder import RunBusy, RunFolder, RunFolderError


def test_name_and_path(tmp_path, monkeypatch):
    """A name lies under $VOXFLEET_RUNS, a path where it says."""
    monkeypatch.setenv("VOXFLEET_RUNS", str(tmp_path))
    assert RunFolder("nlst-1").path == tmp_path / "nlst-1"
    assert RunFolder(f"{tmp_path}/x/nlst-2").path == tmp_path / "x" / "nlst-2"


@pytest.mark.parametrize("name", ["", "..", "a b", "-x", "a\nb"])
def test_odd_names_are_refused(name):
    """A name that could escape its folder, or a terminal, is an error."""
    with pytest.raises(RunFolderError):
        RunFolder(name)


def test_a_run_that_was_never_begun(tmp_path):
    """Asking for it says so."""
    with pytest.raises(RunFolderError, match="no run was begun"):
        RunFolder(str(tmp_path / "none")).must_exist()


def test_a_place_that_cannot_be_written(tmp_path):
    """A file in the way, or a place where nobody may write: one line that names the folder."""
    (tmp_path / "file").touch()
    for place, reason in ((f"{tmp_path}/file/run", "Not a directory"), ("/proc/run", "No such file")):
        with pytest.raises(RunFolderError, match=f"{place}: cannot be written: {reason}"), RunFolder(place).locked():
            pytest.fail("there is no such folder")


def test_a_folder_of_the_same_path_elsewhere_has_another_driver(tmp_path):
    """A driver that begins again has its name; machines that know their folders by one path have each their own."""
    folder = RunFolder(str(tmp_path / "worker"))
    with folder.locked():
        here = folder.driver("local")
    with folder.locked():
        assert RunFolder(str(tmp_path / "worker")).driver("local") == here
    folder.path.rename(tmp_path / "moved")
    with folder.locked():
        assert folder.driver("local") != here


def test_one_driver_at_a_time_and_a_dead_one_does_not_count(tmp_path):
    """A second process is refused while the first lives; SIGKILL of the first frees the run."""
    code = (
        "import sys; from voxfleet.cluster.run_folder import RunFolder\n"
        "with RunFolder(sys.argv[1]).locked(): print('held', flush=True); sys.stdin.read()\n"
    )
    folder = RunFolder(str(tmp_path / "run"))
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(folder.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(RunBusy), folder.locked():
        pass
    holder.kill()
    holder.wait()
    with folder.locked():
        pass
