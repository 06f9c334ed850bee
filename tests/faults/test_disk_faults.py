"""Folder archives on disks that are full or closed: real ones, of 16 kB, in a mount namespace of their own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import Dataset

MakeSlices = Callable[..., list[Dataset]]
DISK = """
import pickle, sys, pydicom
from pathlib import Path
from voxfleet.enrich.archives.folder.archive import FolderArchive
from voxfleet.enrich.archives.archive import ArchiveError
root = Path(sys.argv[1])
try:
    FolderArchive(root).store(pydicom.dcmread(sys.argv[2]))
except ArchiveError as exc:
    print(exc.code, exc.retryable, exc)
print(sum(each.is_file() for each in root.rglob("*")), "files")
"""


SEARCH = """
import os, sys
from pathlib import Path
from voxfleet.enrich.archives.folder.archive import FolderArchive
os.environ["VOXFLEET_CACHE"] = sys.argv[1]
root = Path(sys.argv[2]).parent / "source"
for entry in FolderArchive(root).search():
    print(len(FolderArchive(root).retrieve(entry, root).instances))
"""


def _on_disk(tmp_path: Path, options: str, dataset: Dataset, program: str = DISK) -> list[str]:
    """Lines that a program prints, given a small file system of its own and an object."""
    own = ["unshare", "--map-root-user", "--mount"]
    if not shutil.which("unshare") or subprocess.run([*own, "true"], check=False, capture_output=True).returncode:
        pytest.skip("needs a mount namespace of its own (unshare)")
    dataset.save_as(tmp_path / "object.dcm")
    disk = tmp_path / "disk"
    disk.mkdir()
    script = 'mount -t tmpfs -o "$1" tmpfs "$2" && exec "$3" -c "$4" "$2" "$5"'
    command = [*own, "sh", "-c", script, "sh", options, disk, sys.executable, program, tmp_path / "object.dcm"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def test_a_full_disk(tmp_path: Path, ct_slices: MakeSlices) -> None:
    """A disk with room for less than the object: one line that names it, and no half file left."""
    (dataset,) = ct_slices(1)
    error, files = _on_disk(tmp_path, "size=16k", dataset)
    assert error.startswith("NO_SPACE False dir:")
    assert dataset.SOPInstanceUID in error
    assert "No space left on device" in error
    assert files == "0 files"


def test_a_disk_that_may_not_be_written(tmp_path: Path, ct_slices: MakeSlices) -> None:
    """A read-only disk: one line that names the object and the reason."""
    (dataset,) = ct_slices(1)
    error, files = _on_disk(tmp_path, "ro", dataset)
    assert error.startswith("ACCESS_DENIED False dir:")
    assert dataset.SOPInstanceUID in error
    assert "Read-only file system" in error
    assert files == "0 files"


def test_a_disk_with_room(tmp_path: Path, ct_slices: MakeSlices) -> None:
    """The same with room enough stores the object."""
    assert _on_disk(tmp_path, "size=1m", ct_slices(1)[0]) == ["1 files"]


@pytest.mark.parametrize("size", ["4k", "128k"])
def test_a_disk_without_room_for_the_index(tmp_path: Path, ct_slices: MakeSlices, size: str) -> None:
    """Wherever the index of 300 files finds its disk full, the series is found and retrieved whole."""
    (dataset,) = ct_slices(1)
    del dataset.PixelData
    (tmp_path / "source").mkdir()
    for number in range(300):
        dataset.SOPInstanceUID = f"1.2.3.{number}"
        dataset.save_as(tmp_path / "source" / f"{number}.dcm")
    assert _on_disk(tmp_path, f"size={size}", dataset, SEARCH) == ["300"]


LEDGER = """
import json, sys, time
from dataclasses import asdict
from pathlib import Path
from voxfleet.benchmarks.performance.toll import Harm, toll_of
sys.path.insert(0, {here!r})
from conftest import StubFleet

class Told:
    def settle(self, ledger, begun, held):
        print(json.dumps(asdict(toll_of(ledger, [Harm(freed)], fleet.segmented(), held))))

disk, ballast = Path(sys.argv[1]), Path(sys.argv[1]) / "ballast"
folder = disk.parent / "fleet"
folder.mkdir()
items = [{{"seconds": "0.2"}}] * 3 + [{{"seconds": "0.2", "waits": "segment"}}] * 21
fleet = StubFleet(str(disk / "ledger.sqlite"), folder, items, Told())
driver = fleet.start("a")
fleet.until(lambda: fleet.ledger.counts().completed == len(fleet.held("a")) == 3)
with ballast.open("wb", buffering=0) as file:
    try:
        while file.write(bytes(4096)):
            pass
    except OSError as exc:
        print(exc.strerror)
fleet.go()
done, stood_s = [], 0
# What fits into the room that its files have already is written all the same.
while stood_s < 2:
    done.append(fleet.ledger.counts().completed)
    time.sleep(1)
    stood_s = stood_s + 1 if done[-1] == fleet.ledger.counts().completed else 0
print(driver.poll(), done[-1] < 24)
ballast.unlink()
freed = time.time()
print(driver.wait(60), {{outcome.value: count for outcome, count in fleet.check().items()}})
fleet.close()
"""


def test_the_ledgers_disk_is_full_for_a_while(
    tmp_path: Path, ct_slices: MakeSlices, record_property: Callable[[str, object], None]
) -> None:
    """A driver whose ledger finds no room on its disk: it waits, and goes on when there is some; nothing is lost."""
    program = LEDGER.format(here=str(Path(__file__).parent))
    full, waited, ended, toll = _on_disk(tmp_path, "size=2m", ct_slices(1)[0], program)
    record_property("toll", toll)
    assert full == "No space left on device"
    assert waited == "None True"
    assert ended == "0 {'completed': 24}"


LOCAL_CACHE = """
import sys
from pathlib import Path
from voxfleet.enrich.phantom import chest_phantom
from voxfleet.enrich.series import Series, SourceImage
from voxfleet.runners.handover import save_image
from voxfleet.runners.workitem import Failure
image = SourceImage(Series("1.2", "1.3", "CT", ()), chest_phantom(seed=1).volume, ())
try:
    save_image(image, Path(sys.argv[1]))
except OSError as exc:
    print(Failure.from_error("read", exc))
"""


def test_a_full_local_cache_is_told_as_what_it_is(tmp_path: Path, ct_slices: MakeSlices) -> None:
    """No room for the volume between two stages: the failure says NO_SPACE, and not how many bytes were asked."""
    (failure,) = _on_disk(tmp_path, "size=64k", ct_slices(1)[0], LOCAL_CACHE)
    assert "code='NO_SPACE'" in failure
    assert "No space left on device" in failure
