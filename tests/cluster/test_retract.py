"""What a run stored, taken back by its ledger, from a folder and from a DICOMweb archive."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pydicom
import pytest
from pydicom import Dataset
from typer import Typer
from typer.testing import CliRunner
from voxfleet.cluster.ledger import Run
from voxfleet.cluster.ledgers.sqlite import SqliteLedger
from voxfleet.cluster.results.retract import CannotRetract, plan, way_of
from voxfleet.cluster.results.retract_command import retract
from voxfleet.cluster.results.verify import verify
from voxfleet.enrich.archives.archive import SeriesEntry
from voxfleet.enrich.archives.opening import open_archive
from voxfleet.enrich.digest import dataset_digest
from voxfleet.enrich.rejection_note import rejection_note
from voxfleet.runners.workitem import Outcome, State, Workitem

APP = Typer()
APP.command()(retract)


@pytest.fixture
def stored(ct_slices, tmp_path: Path) -> Callable[[str], Path]:
    """A run that left two series of one instance in a target; its folder."""

    def make(target: str) -> Path:
        folder = tmp_path / "run"
        folder.mkdir()
        ledger = SqliteLedger(folder / "ledger.sqlite")
        archive = open_archive(target)
        ledger.create_run(Run("run", "dir:/in", archive.uri, ("toy 1.0",), {}, "0.1.0", "local", datetime.now(UTC)))
        for number in range(2):
            (dataset,) = ct_slices(1)
            source = f"2.25.{number}"
            item = Workitem(
                str(dataset.StudyInstanceUID), source, "CT", 1, "dir:/in", archive.uri, "toy", "1.0", "none"
            )
            ledger.add([item])
            (lease,) = ledger.lease("me", 1)
            ledger.finish(lease, Outcome(item.key, State.COMPLETED, (), (archive.store(dataset),)))
        ledger.close()
        return folder

    return make


def called(run: Path, *options: str) -> tuple[int, dict]:
    """The command's exit code and JSON."""
    result = CliRunner().invoke(APP, [str(run), *options, "--json"])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, json.loads(result.stdout)


def held(target: Path) -> set[str]:
    """Instances in a folder."""
    return {path.stem for path in target.rglob("*.dcm")}


def test_without_yes_nothing_happens_and_with_it_all_goes(stored, tmp_path):
    """First what would go; then it goes, with its empty folders and nothing else, and the ledger says so."""
    target = tmp_path / "out"
    run = stored(f"dir:{target}")
    before = held(target)
    (target / "notes.txt").write_text("not ours")
    code, said = called(run)
    assert (code, said["done"], set(said["objects"]), said["left"], held(target)) == (0, False, before, {}, before)
    code, said = called(run, "--yes")
    assert (code, said["done"], set(said["objects"])) == (0, True, before)
    assert [path.name for path in target.rglob("*")] == ["notes.txt"]
    ledger = SqliteLedger(run / "ledger.sqlite")
    found = verify(ledger, open_archive(f"dir:{target}"))
    assert (found.sound, found.equal) == (True, 0)
    events = [each.detail for each in ledger.events() if each.kind == "retracted"]
    assert events == [f"{uid} deleted" for uid in said["objects"]]
    assert ledger.counts().completed == 2
    ledger.close()
    with pytest.raises(CannotRetract, match="holds no object"):
        called(run)


def test_a_bucket(stored, make_prefix, ct_slices, tmp_path):
    """From a bucket go the keys that the ledger names, unless another object lies there now; others stay."""
    target = make_prefix("rclone")
    run = stored(target)
    archive = open_archive(target)
    first, second = (each.object for each in SqliteLedger(run / "ledger.sqlite").stored())
    stranger = archive.store(ct_slices(1)[0])
    code, said = called(run)
    assert (code, said["done"], set(said["objects"])) == (0, False, {first.sop_instance_uid, second.sop_instance_uid})
    assert [archive.digest_at(each.uri) for each in (first, second)] == [first.sha256, second.sha256]
    (other,) = ct_slices(1)
    other.save_as(tmp_path / "other.dcm", enforce_file_format=True)
    archive.remove(second.uri)
    archive._bucket.put_new(second.uri.removeprefix(f"{target}/"), tmp_path / "other.dcm")
    code, said = called(run, "--yes")
    assert (code, said["objects"]) == (3, [first.sop_instance_uid])
    assert said["left"] == {second.sop_instance_uid: "was changed since"}
    assert [archive.digest_at(each.uri) for each in (first, second, stranger)] == [
        None,
        dataset_digest(other),
        stranger.sha256,
    ]
    archive.remove(second.uri)
    assert called(run, "--yes")[1]["left"] == {second.sop_instance_uid: "is not there any more"}
    events = [each.detail for each in SqliteLedger(run / "ledger.sqlite").events() if each.kind == "retracted"]
    assert events == [f"{first.sop_instance_uid} deleted"]


def test_what_was_changed_taken_or_not_ours_is_left(stored, ct_slices, tmp_path):
    """An object edited since, and one that was removed, are left and named; a stranger is not even seen."""
    target = tmp_path / "out"
    run = stored(f"dir:{target}")
    edited, gone = sorted(target.rglob("*.dcm"))
    dataset = pydicom.dcmread(edited)
    dataset.PatientID = "another"
    dataset.save_as(edited)
    gone.unlink()
    stranger = open_archive(f"dir:{target}").store(ct_slices(1)[0]).sop_instance_uid
    code, said = called(run, "--yes")
    assert (code, said["objects"]) == (3, [])
    assert said["left"] == {edited.stem: "was changed since", gone.stem: "is not there any more"}
    assert held(target) == {edited.stem, stranger}


def test_damage_is_a_change(stored, tmp_path):
    """A file of whose data set nothing is left to read is left and named."""
    target = tmp_path / "out"
    run = stored(f"dir:{target}")
    damaged, cut = sorted(target.rglob("*.dcm"))
    content = damaged.read_bytes()
    damaged.write_bytes(content[:400] + b"\xff" * (len(content) - 400))
    cut.write_bytes(cut.read_bytes()[:-7])
    code, said = called(run, "--yes")
    assert (code, said["left"]) == (3, dict.fromkeys((damaged.stem, cut.stem), "was changed since"))
    assert held(target) == {damaged.stem, cut.stem}


def test_what_is_changed_after_the_plan_stays(stored, tmp_path):
    """Each object is looked at once more just before it goes: another one that came meanwhile is not deleted."""
    target = tmp_path / "out"
    ledger = SqliteLedger(stored(f"dir:{target}") / "ledger.sqlite")
    way = way_of(open_archive(f"dir:{target}"))
    found = plan(ledger, way)
    last = Path(found.going[-1].object.uri.partition(":")[2])
    dataset = pydicom.dcmread(last)
    dataset.PatientID = "another"
    dataset.save_as(last)
    done = []
    with pytest.raises(CannotRetract, match="was changed since"):
        way.take_back(found.going, lambda each, _: done.append(each))
    assert (done, held(target)) == ([found.going[0]], {last.stem})
    ledger.close()


def test_one_series_by_its_source(stored, tmp_path):
    """--series takes what was made from that series; the other stays."""
    target = tmp_path / "out"
    run = stored(f"dir:{target}")
    before = held(target)
    _, said = called(run, "--series", "2.25.1", "--yes")
    assert len(said["objects"]) == 1
    assert held(target) == before - set(said["objects"])
    with pytest.raises(CannotRetract, match=r"2\.25\.77"):
        called(run, "--series", "2.25.77")


def test_object_that_another_run_stored_first_is_left(stored, tmp_path):
    """What was there before is not this run's to take."""
    target = tmp_path / "out"
    run = stored(f"dir:{target}")
    before = held(target)
    ledger = SqliteLedger(run / "ledger.sqlite")
    with ledger._write(durable=True) as steps:
        steps.sql.execute("UPDATE stored SET already_there = 1")
    ledger.close()
    code, said = called(run, "--yes")
    assert (code, said["objects"], len(said["left"]), held(target)) == (3, [], 2, before)


def test_note_is_valid_dicom(ct_slices, tmp_path, recwarn):
    """Dicom3tools find no error in it; it names each object, in the objects' study; no warning tells the patient."""
    slices: list[Dataset] = ct_slices(3)
    for each in slices:
        each.PatientName = "Anonymous"
    recwarn.clear()
    note = rejection_note(slices, "wrong model")
    assert [str(each.message) for each in recwarn] == []
    path = tmp_path / "note.dcm"
    note.save_as(path, enforce_file_format=True)
    program = Path(sys.executable).parent / "dciodvfy"
    found = subprocess.run([program, "-new", path], capture_output=True, text=True, timeout=60, check=False)
    lines = (found.stdout + found.stderr).splitlines()
    assert "KeyObjectSelectionDocument" in lines
    assert [line for line in lines if line.startswith(("Error", "Abort"))] == []
    assert note.ConceptNameCodeSequence[0].CodeValue == "113001"
    named = [
        item.ReferencedSOPInstanceUID
        for series in note.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    ]
    assert named == [each.SOPInstanceUID for each in slices]
    assert note.StudyInstanceUID == slices[0].StudyInstanceUID
    with pytest.raises(ValueError, match="one study"):
        rejection_note([*slices, *ct_slices(1)], "")


@pytest.mark.orthanc
def test_dicomweb_archive_gets_a_rejection_note(stored, orthanc, tmp_path):
    """Without --yes none; with it one for each study, which names the object; Orthanc keeps what is named."""
    run = stored(orthanc.uri)
    archive = open_archive(orthanc.uri)
    entries = {each.series_instance_uid for each in archive.search() if isinstance(each, SeriesEntry)}
    assert called(run)[1]["left"] == {}
    assert len(list(archive.search())) == 2
    _, said = called(run, "--yes")
    notes = [each for each in archive.search() if isinstance(each, SeriesEntry) and each.modality == "KO"]
    assert (len(notes), len(said["objects"])) == (2, 2)
    named = set()
    for number, each in enumerate(notes):
        (tmp_path / str(number)).mkdir()
        (instance,) = archive.retrieve(each, tmp_path / str(number)).instances
        note = pydicom.dcmread(instance.path)
        (series,) = note.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
        assert series.SeriesInstanceUID in entries
        named.add(series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
    assert named == set(said["objects"])
    assert entries <= {each.series_instance_uid for each in archive.search() if isinstance(each, SeriesEntry)}


def test_other_archives_are_refused(tmp_path, ct_slices):
    """An archive that can neither delete nor reject is named, before anything is read."""
    run = tmp_path / "run"
    run.mkdir()
    ledger = SqliteLedger(run / "ledger.sqlite")
    target = "dimse://NODE@127.0.0.1:1"
    ledger.create_run(Run("run", "dir:/in", target, ("toy 1.0",), {}, "0.1.0", "local", datetime.now(UTC)))
    ledger.close()
    with pytest.raises(CannotRetract, match="only folders, buckets and DICOMweb"):
        called(run, "--yes")
