"""Buckets as archives: faults, credentials and conditions, against rclone's and moto's servers on loopback."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import obstore
import pydicom
import pytest
from obstore.store import S3Store
from pydicom import Dataset
from voxfleet.enrich.archives.address import BadArchiveUri, MissingExtra
from voxfleet.enrich.archives.archive import (
    AccessDenied,
    NoSpace,
    RefusedObject,
    RetrieveError,
    SearchUnanswered,
    SeriesEntry,
    SourceNotThere,
    StoreConflict,
    StoreError,
    StoreRefused,
)
from voxfleet.enrich.archives.bucket import objects as bucket_module
from voxfleet.enrich.archives.bucket.archive import S3Archive
from voxfleet.enrich.archives.bucket.store import BucketAddress, BucketPatience, aws_keys
from voxfleet.enrich.archives.credentials import BadCredentials
from voxfleet.enrich.archives.opening import open_archive
from voxfleet.enrich.digest import dataset_digest

MakeSlices = Callable[..., list[Dataset]]
MakePrefix = Callable[[str], str]
HASTE = BucketPatience(connect_s=20, request_s=60, retries=2, retries_s=60, first_pause_s=0.01)


@pytest.fixture
def spoiler(
    moto: Any, make_prefix: MakePrefix, faulty_proxy: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    """Stand between us and moto."""
    make_prefix("moto")
    with faulty_proxy.spoiling(moto.url) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy


def _hasty(uri: str) -> S3Archive:
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    return S3Archive(BucketAddress("s3", bucket, prefix), HASTE)


def _raw(server: Any, uri: str) -> S3Store:
    """A client of its own for what a test puts into a bucket behind the archive's back."""
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    keys = {"access_key_id": server.key_id, "secret_access_key": server.secret, "region": "us-east-1"}
    return S3Store(bucket, prefix=prefix, endpoint=server.url, client_options={"allow_http": True}, **keys)


def _entry(archive: S3Archive) -> SeriesEntry:
    (entry,) = [each for each in archive.search() if isinstance(each, SeriesEntry)]
    return entry


def _bytes_of(dataset: Dataset, folder: Path) -> bytes:
    path = folder / "object.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return path.read_bytes()


def test_a_wrong_secret_is_told_without_it(
    rclone: Any, make_prefix: MakePrefix, ct_slices: MakeSlices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Search, probe, store and retrieve say ACCESS_DENIED, where credentials come from, and no secret."""
    uri, (dataset,) = make_prefix("rclone"), ct_slices(1)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "WRONGSECRET")
    archive = _hasty(uri)
    entry = SeriesEntry(dataset.StudyInstanceUID, dataset.SeriesInstanceUID, "CT", 1)
    for verb in (
        lambda: list(archive.search()),
        archive.probe,
        lambda: archive.store(dataset),
        lambda: archive.retrieve(entry, tmp_path / "into"),
    ):
        with pytest.raises(AccessDenied, match=r"AWS_\*") as caught:
            verb()
        assert not caught.value.retryable
        assert "WRONGSECRET" not in repr(caught.value)
        assert rclone.secret not in repr(caught.value)


def test_no_bucket(make_prefix: MakePrefix, ct_slices: MakeSlices) -> None:
    """A bucket that is not there is told as such, by search and by store, and no retry mends it."""
    make_prefix("rclone")
    archive = _hasty("s3://no-such-bucket/x")
    with pytest.raises(SourceNotThere):
        list(archive.search())
    with pytest.raises(StoreRefused, match="no such bucket"):
        archive.probe()
    with pytest.raises(StoreRefused, match="no such bucket"):
        archive.store(ct_slices(1)[0])


def test_no_service(make_prefix: MakePrefix, ct_slices: MakeSlices, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing listens, search and store may be tried again."""
    uri = make_prefix("rclone")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(SearchUnanswered):
        list(_hasty(uri).search())
    with pytest.raises(StoreError) as caught:
        _hasty(uri).store(ct_slices(1)[0])
    assert caught.value.retryable


@pytest.mark.parametrize(
    "uri",
    [
        "s3://KEY:SECRET@bucket/x",
        "gs://token@bucket",
        "s3://",
        "s3://b",
        "s3://bucket/a/../b",
        "s3://bucket/a//b",
        "s3://bucket?x=1",
        "s3://Bucket",
        "gs://bucket/x#y",
    ],
)
def test_addresses_that_are_none(uri: str) -> None:
    """Credentials, queries, dots and names that no bucket can have are refused; the message holds no secret."""
    with pytest.raises(BadArchiveUri) as caught:
        open_archive(uri)
    assert not any(secret in str(caught.value) for secret in ("KEY", "SECRET", "token"))


def test_busy_then_well(spoiler: Any, make_prefix: MakePrefix, ct_slices: MakeSlices, tmp_path: Path) -> None:
    """503 SlowDown, 500 and 429, once for each verb, are waited out."""
    uri = f"s3://test-bucket/busy-{spoiler.url[-5:]}"
    faults: list[int] = []
    spoiler.fault = lambda _method, _path: faults.pop() if faults else None
    archive, slices = _hasty(uri), ct_slices(2)
    for dataset in slices:
        faults[:] = [503, 429]
        archive.store(dataset)
    faults[:] = [500]
    entry = _entry(archive)
    faults[:] = [503]
    assert len(archive.retrieve(entry, tmp_path / "into").instances) == 2


def test_busy_for_good(spoiler: Any, ct_slices: MakeSlices) -> None:
    """503 without end is an error that names it and may pass; 507 is a full archive, which does not."""
    archive = _hasty("s3://test-bucket/never")
    spoiler.fault = lambda _method, _path: 503
    with pytest.raises(SearchUnanswered, match="503"):
        list(archive.search())
    spoiler.fault = lambda method, _path: 507 if method == "PUT" else None
    with pytest.raises(NoSpace) as caught:
        archive.store(ct_slices(1)[0])
    assert not caught.value.retryable


def test_a_connection_that_is_cut(spoiler: Any, ct_slices: MakeSlices, tmp_path: Path) -> None:
    """The rest of an object is asked for when the connection ends in its middle: what comes is whole."""
    archive, (dataset,) = _hasty(f"s3://test-bucket/cut-{spoiler.url[-5:]}"), ct_slices(1)
    archive.store(dataset)
    entry = _entry(archive)
    cuts = ["cut"]
    spoiler.fault = lambda method, path: cuts.pop() if cuts and method == "GET" and path.endswith(".dcm") else None
    (instance,) = archive.retrieve(entry, tmp_path / "into").instances
    assert not cuts
    assert dataset_digest(pydicom.dcmread(instance.path)) == dataset_digest(dataset)


def test_half_an_object_that_is_called_whole(spoiler: Any, ct_slices: MakeSlices, tmp_path: Path) -> None:
    """A body of half the size with status 200 is no instance, whether it is retrieved or read back."""
    archive, slices = _hasty(f"s3://test-bucket/short-{spoiler.url[-5:]}"), ct_slices(2)
    archive.store(slices[0])
    entry = _entry(archive)
    spoiler.fault = lambda method, path: "short" if method == "GET" and path.endswith(".dcm") else None
    with pytest.raises(RetrieveError) as caught:
        archive.retrieve(entry, tmp_path / "into")
    assert caught.value.retryable
    with pytest.raises(StoreError):
        archive.store(slices[1])


def test_an_object_that_changed_since_it_was_listed(
    moto: Any, make_prefix: MakePrefix, ct_slices: MakeSlices, tmp_path: Path
) -> None:
    """It is told by its ETag; the next try looks anew and takes what is there."""
    uri, (dataset,) = make_prefix("moto"), ct_slices(1)
    raw, archive = _raw(moto, uri), _hasty(uri)
    obstore.put(raw, "any/name", _bytes_of(dataset, tmp_path))
    entry = _entry(archive)
    dataset.PatientComments = "changed"
    obstore.put(raw, "any/name", _bytes_of(dataset, tmp_path))
    with pytest.raises(RetrieveError, match="not what it was") as caught:
        archive.retrieve(entry, tmp_path / "into")
    assert caught.value.retryable
    (instance,) = archive.retrieve(entry, tmp_path / "again").instances
    assert pydicom.dcmread(instance.path).PatientComments == "changed"


@pytest.mark.parametrize("server", ["moto", "gcs"])
def test_of_two_writers_at_once_the_first_wins(
    server: str,
    request: pytest.FixtureRequest,
    make_prefix: MakePrefix,
    ct_slices: MakeSlices,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The service itself refuses the second write: another object is a conflict, an equal one is there already."""
    if server == "gcs":
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", request.getfixturevalue("gcs"))
    archive = open_archive("gs://test-bucket/two-writers" if server == "gcs" else make_prefix(server))
    (dataset,) = ct_slices(1)
    archive.store(dataset)
    other = copy.deepcopy(dataset)
    other.PatientComments = "other"
    found = bucket_module.Bucket.find
    answers: list[Any] = []
    # What a writer sees who looked just before the first one wrote.
    monkeypatch.setattr(bucket_module.Bucket, "find", lambda self, key: answers.pop() if answers else found(self, key))
    answers[:] = [None]
    with pytest.raises(StoreConflict):
        archive.store(other)
    answers[:] = [None]
    assert archive.store(dataset).already_there


@pytest.mark.parametrize("server", ["moto", "rclone"])
def test_a_large_object(
    server: str, make_prefix: MakePrefix, ct_slices: MakeSlices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """22 MB go out in parts and come back in pieces, or in one where the server can do neither; no part is left."""
    monkeypatch.setattr(bucket_module, "PART_BYTES", 20 << 20)
    monkeypatch.setattr(bucket_module, "RANGE_BYTES", 3 << 20)
    archive, (dataset,) = open_archive(make_prefix(server)), ct_slices(1)
    dataset.Rows, dataset.Columns = 3380, 3380
    dataset.PixelData = bytes(range(256)) * (2 * 3380 * 3380 // 256 + 1)
    stored = archive.store(dataset)
    assert stored.bytes > 22_000_000
    (instance,) = archive.retrieve(_entry(archive), tmp_path / "into").instances
    assert dataset_digest(pydicom.dcmread(instance.path)) == stored.sha256 == dataset_digest(dataset)
    changed = copy.deepcopy(dataset)
    changed.PatientComments = "changed"
    with pytest.raises(StoreConflict):
        archive.store(changed)
    prefix = archive.uri.removeprefix("s3://").partition("/")[2]
    assert not [each for each in _keys(archive) if prefix and "part" in each]


def _keys(archive: Any) -> list[str]:
    store = archive._bucket._store
    return [meta["path"] for page in obstore.list(store) for meta in page]


def test_a_search_reads_headers_and_each_once(spoiler: Any, ct_slices: MakeSlices) -> None:
    """Of each object the first 8,192 bytes are read, and by the second search none: the index knows them."""
    archive = _hasty(f"s3://test-bucket/headers-{spoiler.url[-5:]}")
    for dataset in ct_slices(3):
        archive.store(dataset)
    spoiler.seen.clear()
    assert _entry(archive).instances == 3
    ranges = [field for method, path, field in spoiler.seen if method == "GET" and path.endswith(".dcm")]
    assert ranges == ["bytes=0-8191"] * 3
    spoiler.seen.clear()
    assert _entry(archive).instances == 3
    assert all(not path.endswith(".dcm") for _, path, _ in spoiler.seen)


@pytest.mark.parametrize("server", ["moto", "rclone"])
def test_a_bucket_of_any_shape(
    server: str,
    request: pytest.FixtureRequest,
    make_prefix: MakePrefix,
    ct_slices: MakeSlices,
    tmp_path: Path,
) -> None:
    """Keys do not matter; what is no DICOM is told, a folder's mark is not, doubled UIDs leave their series out."""
    uri = make_prefix(server)
    raw, archive = _raw(request.getfixturevalue(server), uri), _hasty(uri)
    good, doubled = ct_slices(2), ct_slices(1)[0]
    for number, dataset in enumerate(good):
        obstore.put(raw, f"a/b {number}/x.y.z", _bytes_of(dataset, tmp_path))
    obstore.put(raw, "a copy", _bytes_of(good[0], tmp_path))
    obstore.put(raw, "notes.txt", b"not DICOM")
    obstore.put(raw, "one.dcm", _bytes_of(doubled, tmp_path))
    doubled.PatientComments = "differs"
    obstore.put(raw, "two.dcm", _bytes_of(doubled, tmp_path))
    found = list(archive.search())
    assert [(each.series_instance_uid, each.instances) for each in found if isinstance(each, SeriesEntry)] == [
        (good[0].SeriesInstanceUID, 2)
    ]
    refused = {(each.identifier, each.code) for each in found if isinstance(each, RefusedObject)}
    assert refused == {("notes.txt", "NOT_DICOM"), ("one.dcm", "DUPLICATE_UID"), ("two.dcm", "DUPLICATE_UID")}
    assert len(archive.retrieve(_entry(archive), tmp_path / "into").instances) == 2


def test_public_buckets_need_no_credentials(
    serve_public: Callable[[Path], Any], ct_slices: MakeSlices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without credentials in the environment requests go unsigned, and a public bucket answers."""
    place = tmp_path / "buckets" / "public-bucket" / "ct"
    place.mkdir(parents=True)
    (dataset,) = ct_slices(1)
    dataset.save_as(place / "1.dcm")
    monkeypatch.setenv("AWS_ENDPOINT_URL", serve_public(tmp_path / "buckets").url)
    monkeypatch.setenv("HOME", str(tmp_path))
    archive = _hasty("s3://public-bucket")
    (instance,) = archive.retrieve(_entry(archive), tmp_path / "into").instances
    assert instance.sop_instance_uid == dataset.SOPInstanceUID


def test_keys_come_from_the_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment comes first, then the profile that is asked for; half a pair and an empty profile are errors."""
    (tmp_path / "credentials").write_text(
        "[default]\naws_access_key_id = A\naws_secret_access_key = SECRET1\n"
        "[lab]\naws_access_key_id = B\naws_secret_access_key = SECRET2\n[half]\naws_access_key_id = C\n[none]\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    assert aws_keys().key_id == "A"
    monkeypatch.setenv("AWS_PROFILE", "lab")
    keys = aws_keys()
    assert (keys.key_id, keys.secret) == ("B", "SECRET2")
    assert "SECRET2" not in repr(keys)
    for name in ("half", "none"):
        monkeypatch.setenv("AWS_PROFILE", name)
        with pytest.raises(BadCredentials, match=name):
            aws_keys()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "D")
    with pytest.raises(BadCredentials, match="together"):
        aws_keys()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "E")
    assert aws_keys().key_id == "D"


@pytest.mark.parametrize("content", ["", '{"type": "service_account", "private_key": "SECRET", "client_email": "x"}'])
def test_a_google_account_that_cannot_be_used(content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the variable, and nothing that the file holds."""
    (tmp_path / "account.json").write_text(content)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "account.json"))
    with pytest.raises(BadCredentials, match="GOOGLE_") as caught:
        open_archive("gs://bucket")
    assert "SECRET" not in repr(caught.value)


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where obstore is not installed, the message says what to install."""
    for name in [each for each in sys.modules if each.startswith("voxfleet.enrich.archives.bucket")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "obstore", None)
    monkeypatch.delitem(sys.modules, "obstore.store")
    with pytest.raises(MissingExtra, match=r"voxfleet\[cloud\]"):
        open_archive("s3://bucket")
