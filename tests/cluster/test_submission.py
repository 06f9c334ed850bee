"""``voxfleet submission`` over a small real run: packages that other tools read, and what is refused."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from threading import Event

import pydicom
import pytest
from rocrate.rocrate import ROCrate
from typer.testing import CliRunner
from voxfleet.cluster.ledger import Run
from voxfleet.cluster.ledgers.sqlite import SqliteLedger
from voxfleet.cluster.results.retracted import note_retracted
from voxfleet.cluster.results.submission import Collector, NotSubmittable
from voxfleet.cluster.results.submission_command import submission
from voxfleet.enrich.archives.folder.archive import FolderArchive
from voxfleet.enrich.archives.opening import open_archive
from voxfleet.enrich.digest import dataset_digest
from voxfleet.enrich.phantom import CtIdentity, chest_phantom, write_ct_series
from voxfleet.runners.workitem import Outcome, State, Workitem

pytestmark = pytest.mark.slow

ABOUT = """
title = "Lungs of phantoms"
nickname = "phantom-lungs"
abstract = "Two of them."
licence = "CC-BY-4.0"
[source]
collection = "phantoms"
doi = "10.7937/phantoms"
licence = "CC-BY-3.0"
[[authors]]
first_name = "Ada"
last_name = "Lovelace"
orcid = "0000-0002-1825-0097"
email = "ada@example.org"
"""


def enriched(folder: Path, *options: str) -> Path:
    """A run over two small phantoms; its folder."""
    for number in range(2):
        phantom = chest_phantom(shape=(24, 64, 64), spacing_mm=(12.0, 5.6, 5.6), seed=number)
        write_ct_series(phantom.volume, folder / "ct" / str(number), identity=CtIdentity.named(f"submission-{number}"))
    command = ["enrich", folder / "ct", "-m", "ct-threshold", "--to", f"dir:{folder}/out", "--run", folder / "run"]
    done = subprocess.run(
        [sys.executable, "-m", "voxfleet", *map(str, command), *options], capture_output=True, text=True, check=False
    )
    assert done.returncode in {0, 3, 4}, done.stderr
    return folder / "run"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two series: two SEG, two SR."""
    return enriched(tmp_path_factory.mktemp("submission"))


@pytest.fixture
def about(tmp_path: Path) -> Path:
    """What people tell."""
    (tmp_path / "about.toml").write_text(ABOUT)
    return tmp_path / "about.toml"


def called(*words: object) -> tuple[int, dict]:
    """A submission command's exit code and JSON."""
    result = CliRunner().invoke(submission, [*map(str, words), "--json"])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, json.loads(result.stdout)


def table(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV or TSV."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","))


def test_idc_manifest_lists_every_blob_with_its_md5(run, about, tmp_path):
    """IDC's columns; URL, UIDs and md5 of each object, by md5sum and dcmread; nothing in the bucket is unlisted."""
    out = tmp_path / "idc"
    code, said = called("idc", run, "-o", out, "--bucket", "gs://bucket/prefix/", "--about", about)
    rows = table(out / "bucket" / "manifest.csv")
    assert (code, said["objects"], said["missing"], len(rows)) == (3, 4, [], 4)
    assert "4 objects do not say that they are de-identified" in said["warnings"][0]
    assert said["idc"]["groups"] == said["idc"]["groups_listed"] > 0
    blobs = {path.relative_to(out / "bucket").as_posix() for path in (out / "bucket").rglob("*") if path.is_file()}
    assert blobs == {row["ingestion_url"].removeprefix("gs://bucket/prefix/") for row in rows} | {"manifest.csv"}
    for row in rows:
        path = out / "bucket" / row["ingestion_url"].removeprefix("gs://bucket/prefix/")
        assert subprocess.check_output(["md5sum", path], text=True).split()[0] == row["md5_hash"]
        header = pydicom.dcmread(path, stop_before_pixels=True)
        assert (row["patientID"], row["collection_id"]) == (header.PatientID, "phantoms")
        assert [row[name] for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")] == [
            header.StudyInstanceUID,
            header.SeriesInstanceUID,
            header.SOPInstanceUID,
        ]
    (listed,) = table(out / "analysis_results.csv")
    assert (listed["subjects"], listed["modalities"], listed["license_short_name"]) == ("2", "SEG,SR", "CC-BY-4.0")


def test_tcia_tables_and_description(run, about, tmp_path):
    """Tables hang together by their ids, the source is a related work, the description tells model and weights."""
    out = tmp_path / "tcia"
    code, said = called("tcia", run, "-o", out, "--about", about)
    assert code == 3
    assert [each for each in said["missing"] if "contacts" in each]
    files = table(out / "metadata" / "File.tsv")
    assert len(files) == 4
    for key, node, name in (
        ("subject.subject_id", "Subject", "subject_id"),
        ("procedure.procedure_id", "Procedure", "procedure_id"),
        ("radiology.radiology_id", "Radiology", "Radiology_id"),
    ):
        assert {row[key] for row in files} == {row[name] for row in table(out / "metadata" / f"{node}.tsv")}
    for node, name in (("Subject", "subject_id"), ("Procedure", "procedure_id"), ("Radiology", "Radiology_id")):
        keys = [row[name] for row in table(out / "metadata" / f"{node}.tsv")]
        assert len(keys) == len(set(keys)), node
    assert all((out / row["file_name"]).stat().st_size == int(row["file_size"]) for row in files)
    works = table(out / "metadata" / "Related_Work.tsv")
    assert (works[0]["DOI"], works[0]["relationship_type"]) == ("10.7937/phantoms", "IsDerivedFrom")
    assert "10.1109/42.929615" in {row["DOI"] for row in works}
    text = (out / "phantom-lungs_description.md").read_text()
    for part in ("**ct-threshold 1.0**", "lung_hu: -500", "pyradiomics", "2 subjects", "### Data Acquisition"):
        assert part in text
    assert len(list(out.glob("phantom-lungs_*_20??-??-??.tsv"))) == 2


def test_zenodo_crate_proves_itself(run, about, tmp_path):
    """The packed crate, unpacked: sha256sum finds every file as listed, and the RO-Crate library reads it."""
    out = tmp_path / "zenodo"
    _, said = called("zenodo", run, "-o", out, "--about", about)
    assert said["missing"] == []
    with zipfile.ZipFile(out / "crate.zip") as pack:
        pack.extractall(tmp_path / "unpacked")
    subprocess.run(["sha256sum", "-c", "--quiet", "checksums.sha256"], cwd=tmp_path / "unpacked", check=True)
    crate = ROCrate(tmp_path / "unpacked")
    objects = [each for each in crate.data_entities if each.get("encodingFormat") == "application/dicom"]
    assert len(objects) == 4
    assert crate.license.id == "https://spdx.org/licenses/CC-BY-4.0"
    assert crate.root_dataset["author"]["name"] == "Ada Lovelace"
    assert crate.publisher["name"] == "Zenodo"
    assert crate.root_dataset["isBasedOn"].id == "https://doi.org/10.7937/phantoms"
    deposit = json.loads((out / "zenodo.json").read_text())["metadata"]
    assert deposit["creators"] == [{"name": "Lovelace, Ada", "orcid": "0000-0002-1825-0097"}]
    assert deposit["related_identifiers"][0]["relation"] == "isDerivedFrom"


def test_check_says_that_all_would_be_listed(run):
    """Exit code 0 and equal numbers."""
    code, said = called("check", run)
    assert (code, said["broken"]) == (0, [])
    assert said["measurements"] == said["measurements_listed"] > 100


class Counted(FolderArchive):
    """A folder that counts what is asked of it."""

    retrieved = 0

    def retrieve(self, entry, into):
        """See FolderArchive."""
        self.retrieved += 1
        return super().retrieve(entry, into)


def collector(run: Path, root: Path, *, partial: bool = False) -> Collector:
    """What a command sets up."""
    ledger = SqliteLedger(run / "ledger.sqlite")
    return Collector(ledger, Counted(Path(ledger.run().target.partition(":")[2])), root, partial=partial)


def test_goes_on_where_it_was_stopped(run, tmp_path):
    """What is here is not read again; a file cut short is."""
    stop = Event()
    first = collector(run, tmp_path)
    with pytest.raises(NotSubmittable, match="stopped after 1 objects"):
        first.collect(stop, lambda done, _: stop.set() if done == 0 else None)
    (path,) = tmp_path.rglob("*.dcm")
    path.write_bytes(path.read_bytes()[:1000])
    again = collector(run, tmp_path)
    assert len(again.collect(Event(), lambda *_: None).files) == 4
    last = collector(run, tmp_path)
    assert len(last.collect(Event(), lambda *_: None).files) == 4
    assert (first.archive.retrieved, again.archive.retrieved, last.archive.retrieved) == (1, 4, 0)


def test_missing_and_changed_objects_are_refused_or_left_out(run, tmp_path):
    """One deleted, one with another patient: refused with the UID; with --partial two are left, and the rest told."""
    whole = SqliteLedger(run / "ledger.sqlite").run().target.partition(":")[2]
    shutil.copytree(whole, tmp_path / "target")
    gone, changed, *_ = sorted((tmp_path / "target").rglob("*.dcm"))
    gone.unlink()
    dataset = pydicom.dcmread(changed)
    dataset.PatientID = "another"
    dataset.save_as(changed)

    def collect(partial: bool):
        ledger = SqliteLedger(run / "ledger.sqlite")
        given = Collector(ledger, FolderArchive(tmp_path / "target"), tmp_path / "out", partial=partial)
        return given.collect(Event(), lambda *_: None)

    with pytest.raises(NotSubmittable, match="target and 1 more"):
        collect(partial=False)
    found = collect(partial=True)
    assert len(found.files) == 2
    assert set(found.left_out) == {f"{gone.stem} is not in the target", f"{changed.stem} was changed in the target"}


def test_what_was_retracted_is_no_part_of_it(run, tmp_path):
    """An object that the run took back is neither handed over nor missed."""
    shutil.copytree(run, tmp_path / "run")
    ledger = SqliteLedger(tmp_path / "run" / "ledger.sqlite")
    note_retracted(ledger, ledger.stored()[0].object.sop_instance_uid, "deleted")
    ledger.close()
    found = collector(tmp_path / "run", tmp_path / "out").collect(Event(), lambda *_: None)
    assert (len(found.files), found.left_out) == (3, ())


def test_folder_that_cannot_be_written_is_one_line(run, tmp_path):
    """A file where the package's folder should be: told with its name, and no traceback."""
    (tmp_path / "file").write_text("")
    with pytest.raises(NotSubmittable, match=r"file.*cannot be written: Not a directory"):
        called("tcia", run, "-o", tmp_path / "file")


@pytest.mark.orthanc
def test_objects_come_from_a_dicomweb_archive_too(orthanc, ct_slices, tmp_path):
    """What a run left in Orthanc is read back equal, file by file."""
    archive = open_archive(orthanc.uri)
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    asked = Run("run", "dir:/in", archive.uri, ("toy 1.0",), {}, "0.1.0", "local", datetime.now(UTC))
    ledger.create_run(asked)
    (dataset,) = ct_slices(1)
    item = Workitem(str(dataset.StudyInstanceUID), "2.25.1", "CT", 1, "dir:/in", archive.uri, "toy", "1.0", "none")
    ledger.add([item])
    (lease,) = ledger.lease("me", 1)
    ledger.finish(lease, Outcome(item.key, State.COMPLETED, (), (archive.store(dataset),)))
    (found,) = Collector(ledger, archive, tmp_path / "out").collect(Event(), lambda *_: None).files
    assert found.patient_id == dataset.PatientID
    assert dataset_digest(pydicom.dcmread(tmp_path / "out" / found.path)) == dataset_digest(dataset)


def test_folder_of_another_submission_is_refused(run, tmp_path):
    """Every blob of a bucket must be listed: objects of something else are not mixed in."""
    (tmp_path / "stranger.dcm").write_bytes(b"")
    with pytest.raises(NotSubmittable, match=r"stranger\.dcm"):
        collector(run, tmp_path).collect(Event(), lambda *_: None)


def test_run_that_is_not_complete_is_refused(tmp_path):
    """Workitems that nobody worked on: refused, and with --partial there is nothing to submit."""
    run = enriched(tmp_path, "--on", "nothing")
    with pytest.raises(NotSubmittable, match="2 workitems still to do"):
        called("idc", run, "-o", tmp_path / "idc", "--bucket", "gs://b")
    with pytest.raises(NotSubmittable, match="nothing was stored"):
        called("idc", run, "-o", tmp_path / "idc", "--bucket", "gs://b", "--partial")
