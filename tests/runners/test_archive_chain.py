"""One collection carried from archive to archive by ``voxfleet archive copy``, and a leg whose server dies."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pydicom
import pytest
from click.testing import Result
from pydicom import Dataset
from typer.testing import CliRunner
from voxfleet.enrich.archives.archive import StoreError
from voxfleet.enrich.archives.bucket import archive as bucket_archive
from voxfleet.enrich.archives.bucket.objects import Bucket
from voxfleet.enrich.archives.bucket.store import BucketPatience
from voxfleet.enrich.digest import dataset_digest
from voxfleet.runners.archive_commands import archive as commands


def copied(source: object, target: object, *options: object) -> Result:
    """`voxfleet archive copy`, in this process."""
    words = ["copy", source, target, "--json", *options]
    return CliRunner().invoke(commands, [str(each) for each in words], env={"COLUMNS": "200"})


def digests(folder: Path) -> dict[str, str]:
    """SOP Instance UID -> digest of all files in a folder."""
    read = [pydicom.dcmread(path) for path in folder.rglob("*.dcm")]
    return {each.SOPInstanceUID: dataset_digest(each) for each in read}


@pytest.fixture
def collection(shared_data: Path, tmp_path: Path) -> Path:
    """Two real CTs of 64 x 64, and the SEG and SR that a model of ours made of the chest."""
    folder = tmp_path / "collection"
    shutil.copytree(shared_data / "tiny-chest-ct-cip" / "ct-64Dicom", folder / "chest")
    shutil.copytree(next(shared_data.glob("tiny-head-ct-slicer/**/*.dcm")).parent, folder / "head")
    words = ["run", "ct-threshold", str(folder / "chest"), "--out", str(tmp_path / "results")]
    subprocess.run([sys.executable, "-m", "voxfleet", *words], check=True, capture_output=True, timeout=240)
    (folder / "results").mkdir()
    for path in (tmp_path / "results").rglob("*.dcm"):
        shutil.copy(path, folder / "results")
    return folder


@pytest.mark.orthanc
@pytest.mark.slow
def test_a_collection_through_orthanc_s3_and_xnat(
    collection: Path,
    orthanc: Any,
    rclone: Any,
    make_prefix: Callable[[str], str],
    xnat: Any,
    tmp_path: Path,
) -> None:
    """Folder, Orthanc, S3, XNAT and folder: after each leg, and at the end, every data set has the digest it had.

    Copied again, each leg finds everything there and sends nothing.
    """
    expected = digests(collection)
    classes = {pydicom.dcmread(path, stop_before_pixels=True).Modality for path in collection.rglob("*.dcm")}
    assert classes == {"CT", "SEG", "SR"}
    places = [collection, orthanc.uri, make_prefix("rclone"), xnat.uri, tmp_path / "end"]
    for number, (old, new) in enumerate(pairwise(places)):
        record = tmp_path / f"leg-{number}.jsonl"
        done = copied(old, new, "--record", record)
        told = json.loads(done.stdout)
        assert (done.exit_code, told["objects"], told["already_there"]) == (0, len(expected), 0), done.stdout
        lines = [json.loads(line) for line in record.read_text().splitlines()]
        assert {each["sop_instance_uid"]: each["sha256"] for each in lines if "sha256" in each} == expected
    assert digests(tmp_path / "end") == expected
    before = _state(orthanc, rclone, xnat, tmp_path / "end")
    for old, new in pairwise(places):
        again = json.loads(copied(old, new).stdout)
        assert (again["already_there"], again["refused"]) == (len(expected), 0)
    assert _state(orthanc, rclone, xnat, tmp_path / "end") == before


def _state(orthanc: Any, rclone: Any, xnat: Any, end: Path) -> tuple[object, ...]:
    """What each archive would show of anything that was written to it."""
    with urllib.request.urlopen(f"{orthanc.url.removesuffix('/dicom-web')}/changes?last", timeout=30) as answer:
        changes = json.load(answer)["Last"]
    files = sorted((str(path), path.stat().st_mtime_ns) for top in (rclone.folder, end) for path in top.rglob("*.dcm"))
    sent = [path for verb, path, _, _ in xnat.asked if verb == "PUT" and "/files/" in path]
    return changes, files, sent


def test_a_leg_whose_server_dies(
    ct_slices: Callable[..., list[Dataset]],
    serve_public: Callable[[Path], Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A server killed after the fifth of twelve objects ends the copy at once; the same command brings the rest.

    What was stored before is found, and not sent again.
    """
    haste = BucketPatience(retries=0, first_pause_s=0.01)
    monkeypatch.setattr(bucket_archive, "BucketPatience", lambda: haste)
    source, buckets = tmp_path / "from", tmp_path / "buckets"
    (buckets / "bucket").mkdir(parents=True)
    for number, each in enumerate([*ct_slices(6), *ct_slices(6)]):
        source.mkdir(exist_ok=True)
        each.save_as(source / f"{number}.dcm", enforce_file_format=True)
    server, sent, put_new = serve_public(buckets), [], Bucket.put_new
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)

    def put_and_die(bucket: Bucket, key: str, path: Path) -> bool:
        sent.append(key)
        if len(sent) == 6:
            _process_at(server.url).kill()
        return put_new(bucket, key, path)

    monkeypatch.setattr(Bucket, "put_new", put_and_die)
    broken = copied(source, "s3://bucket/copy")
    assert isinstance(broken.exception, StoreError), broken.exception
    there = digests(buckets)
    assert 0 < len(there) < 12
    monkeypatch.setattr(Bucket, "put_new", put_new)
    monkeypatch.setenv("AWS_ENDPOINT_URL", serve_public(buckets).url)
    whole = copied(source, "s3://bucket/copy")
    told = json.loads(whole.stdout)
    assert (whole.exit_code, told["objects"], told["already_there"]) == (0, 12, len(there))
    assert digests(buckets) == digests(source)


def _process_at(url: str) -> psutil.Process:
    """Process that listens there."""
    port = int(url.rpartition(":")[2])
    found = [each for each in psutil.net_connections("tcp") if each.status == "LISTEN" and each.laddr.port == port]
    return psutil.Process(found[0].pid)
