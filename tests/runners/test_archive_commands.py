"""``voxfleet archive`` as a user calls it, and one cohort carried through every kind of archive."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pydicom
import pytest
from click.testing import Result
from pydicom import Dataset
from typer.testing import CliRunner
from voxfleet.enrich.archives.read_only import ReadOnlyArchive
from voxfleet.enrich.digest import dataset_digest
from voxfleet.runners import archive_commands
from voxfleet.runners.archive_commands import archive as commands

MakeSlices = Callable[..., list[Dataset]]


def archive(*words: object) -> Result:
    """`voxfleet archive`, in this process."""
    return CliRunner().invoke(commands, [str(each) for each in words], env={"COLUMNS": "200"})


def written(folder: Path, datasets: list[Dataset]) -> Path:
    """A folder of files."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, each in enumerate(datasets):
        pydicom.dcmwrite(folder / f"{number}.dcm", each, enforce_file_format=True)
    return folder


def digests(folder: Path) -> dict[str, str]:
    """SOP Instance UID -> digest of all files in a folder."""
    read = [pydicom.dcmread(path) for path in folder.rglob("*.dcm")]
    return {each.SOPInstanceUID: dataset_digest(each) for each in read}


def test_it_is_a_command() -> None:
    """The command is installed with its three verbs."""
    told = subprocess.run(
        [sys.executable, "-m", "voxfleet", "archive", "--help"], capture_output=True, text=True, check=True
    )
    assert [verb for verb in ("ls", "check", "copy") if f" {verb} " not in told.stdout] == []


def test_ls_tells_each_series(ct_slices: MakeSlices, tmp_path: Path) -> None:
    """A table and JSON with counts and sizes; a damaged object is told and makes the exit code 3, a text does not."""
    slices = ct_slices(2)
    folder = written(tmp_path / "data", slices)
    (folder / "notes.txt").write_text("no DICOM")
    told = archive("ls", folder)
    assert (told.exit_code, slices[0].SeriesInstanceUID in told.stdout) == (0, True)
    (folder / "cut.dcm").write_bytes((folder / "0.dcm").read_bytes()[:300])
    listed = archive("ls", folder, "--json")
    assert listed.exit_code == 3
    document = json.loads(listed.stdout)
    assert [(each["series_instance_uid"], each["modality"], each["instances"]) for each in document["series"]] == [
        (slices[0].SeriesInstanceUID, "CT", 2)
    ]
    assert document["series"][0]["bytes"] == sum((folder / f"{n}.dcm").stat().st_size for n in (0, 1))
    assert {each["identifier"]: each["code"] for each in document["refused"]} == {
        "notes.txt": "NOT_DICOM",
        "cut.dcm": "UNREADABLE",
    }


def test_check_says_what_can_be_done(ct_slices: MakeSlices, tmp_path: Path) -> None:
    """A folder can be read and written, a zip file only read, and what is not there neither."""
    folder = written(tmp_path / "data", ct_slices(1))
    assert archive("check", folder).exit_code == 0
    assert sorted(each.name for each in folder.iterdir()) == ["0.dcm"]
    assert archive("check", folder, "--write").exit_code == 0
    assert archive("check", folder, "--write").exit_code == 0
    assert len(list(folder.rglob("*.dcm"))) == 2
    subprocess.run([sys.executable, "-m", "zipfile", "-c", tmp_path / "a.zip", folder], check=True)
    packed = archive("check", tmp_path / "a.zip", "--json")
    assert packed.exit_code == 3
    assert {verb: each["code"] for verb, each in json.loads(packed.stdout).items()} == {
        "read": "",
        "write": "READ_ONLY",
    }
    nothing = archive("check", "dir:/proc/nothing", "--json")
    assert nothing.exit_code == 1
    assert {each["code"] for each in json.loads(nothing.stdout).values()} == {"SOURCE_NOT_THERE", "STORE_FAILED"}


def test_the_tiny_object_is_valid_dicom(tmp_path: Path) -> None:
    """Dciodvfy finds no error in what `check --write` leaves behind."""
    assert archive("check", tmp_path / "new", "--write").exit_code == 3  # an absent folder cannot be read before
    (path,) = (tmp_path / "new").rglob("*.dcm")
    judged = subprocess.run(["dciodvfy", "-new", path], capture_output=True, text=True, check=False)
    assert [line for line in judged.stderr.splitlines() if line.startswith("Error")] == []


def test_copy_goes_on_where_it_stopped(ct_slices: MakeSlices, tmp_path: Path) -> None:
    """A second copy sends nothing; a conflict is recorded, left as it was, and makes the exit code 3."""
    slices = ct_slices(3)
    source, target = written(tmp_path / "from", slices), tmp_path / "to"
    first = json.loads(archive("copy", source, target, "--json").stdout)
    assert (first["objects"], first["already_there"], first["refused"]) == (3, 0, 0)
    assert digests(target) == digests(source)
    again = archive("copy", source, target, "--json")
    assert (again.exit_code, json.loads(again.stdout)["already_there"]) == (0, 3)
    slices[0].PatientComments = "changed"
    written(source, slices[:1])
    before = digests(target)
    conflict = archive("copy", source, target, "--record", tmp_path / "record.jsonl", "--json")
    assert (conflict.exit_code, json.loads(conflict.stdout)["refused"]) == (3, 1)
    lines = [json.loads(line) for line in (tmp_path / "record.jsonl").read_text().splitlines()]
    assert [each["code"] for each in lines if "code" in each] == ["STORE_CONFLICT"]
    assert {each["sop_instance_uid"] for each in lines if "sha256" in each} == {s.SOPInstanceUID for s in slices[1:]}
    assert digests(target) == before


def test_copy_that_the_user_stops(ct_slices: MakeSlices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the second series gives exit code 4; the first is there, and the same command brings the rest."""
    source, target = written(tmp_path / "from", [*ct_slices(1), *ct_slices(1)]), tmp_path / "to"
    true_copy, calls = archive_commands.copy_series, []

    def copy_series(*words: object) -> object:
        calls.append(words)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return true_copy(*words)

    monkeypatch.setattr(archive_commands, "copy_series", copy_series)
    assert archive("copy", source, target).exit_code == 4
    assert len(digests(target)) == 1
    assert archive("copy", source, target).exit_code == 0
    assert digests(target) == digests(source)


def test_copy_of_one_series(ct_slices: MakeSlices, tmp_path: Path) -> None:
    """Only the series named is copied; one that is not there is a mistake in the command."""
    wanted, other = ct_slices(1), ct_slices(1)
    source = written(tmp_path / "from", [*wanted, *other])
    done = archive("copy", source, tmp_path / "to", "--series", wanted[0].SeriesInstanceUID)
    assert (done.exit_code, list(digests(tmp_path / "to"))) == (0, [wanted[0].SOPInstanceUID])
    assert archive("copy", source, tmp_path / "to", "--series", "1.2.3").exit_code == 2


def test_copy_without_a_scratch_folder(ct_slices: MakeSlices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no scratch folder can be made, the series is recorded as refused, with the reason."""
    source = written(tmp_path / "from", ct_slices(1))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    result = archive("copy", source, tmp_path / "to", "--json")
    (refused,) = json.loads(result.stdout)["refused_objects"]
    assert (result.exit_code, refused["code"]) == (3, "RETRIEVE_FAILED")
    assert refused["reason"].startswith("no scratch folder can be made here")


def test_copy_into_what_cannot_be_written(ct_slices: MakeSlices, tmp_path: Path) -> None:
    """A target that is only read is an error before anything is read."""
    source = written(tmp_path / "from", ct_slices(1))
    subprocess.run([sys.executable, "-m", "zipfile", "-c", tmp_path / "a.zip", source], check=True)
    done = archive("copy", source, tmp_path / "a.zip")
    assert isinstance(done.exception, ReadOnlyArchive)


@pytest.mark.orthanc
def test_a_cohort_through_every_archive(orthanc, dcmqrscp, ct_slices, shared_data, tmp_path: Path) -> None:
    """Folder, Orthanc by DICOMweb, Orthanc by DIMSE, dcmqrscp, zip and folder: CT, SEG and SR are equal at the end."""
    products = ("seg_image_ct_binary_overlap.dcm", "sr_document_with_multiple_groups.dcm")
    made = [*ct_slices(3), *ct_slices(1)]
    made += [pydicom.dcmread(next(shared_data.glob(f"**/{name}"))) for name in products]
    source = written(tmp_path / "from", made)
    steps = [source, orthanc.uri, dcmqrscp.uri, tmp_path / "unpacked"]
    by_dimse = {orthanc.uri: orthanc.dimse_uri}
    for old, new in pairwise(steps):
        done = archive("copy", by_dimse.get(old, old), new, "--json")
        assert (done.exit_code, json.loads(done.stdout)["objects"]) == (0, 6), done.stdout + done.stderr
    subprocess.run([sys.executable, "-m", "zipfile", "-c", tmp_path / "a.zip", tmp_path / "unpacked"], check=True)
    assert archive("copy", tmp_path / "a.zip", tmp_path / "to").exit_code == 0
    assert digests(tmp_path / "to") == digests(source)
