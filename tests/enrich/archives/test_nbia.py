"""A collection of an NBIA as an archive, against a server that answers as NBIA's source code does (restAPI/v4)."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from types import ModuleType
from typing import Any

import pydicom
import pytest
from pydicom import Dataset
from voxfleet.enrich.archives.address import BadArchiveUri
from voxfleet.enrich.archives.archive import (
    AccessDenied,
    NotThere,
    RetrieveError,
    SearchError,
    SearchUnanswered,
    SeriesEntry,
    SourceNotThere,
)
from voxfleet.enrich.archives.credentials import BadCredentials
from voxfleet.enrich.archives.http_session import Patience
from voxfleet.enrich.archives.nbia.archive import NbiaArchive
from voxfleet.enrich.archives.nbia.session import parse_address
from voxfleet.enrich.archives.opening import open_archive
from voxfleet.enrich.archives.read_only import ReadOnlyArchive
from voxfleet.enrich.digest import dataset_digest

MakeSlices = Callable[..., list[Dataset]]
PATIENT = Patience(connect_s=20.0, read_s=60.0, retries=1, backoff_s=0.0)


def opened(nbia: Any, collection: str = "LIDC-IDRI", query: str = "") -> NbiaArchive:
    """Open a collection."""
    return NbiaArchive(parse_address(f"nbia+{nbia.url}/{collection}{query}"), PATIENT)


def fill(nbia: Any, *made: list[Dataset]) -> None:
    """Put series into the collection."""
    nbia.series.update({slices[0].SeriesInstanceUID: slices for slices in made})


@pytest.mark.parametrize("query", ["", "?version=v1", "?version=v2"])
def test_a_collection_comes_back(
    nbia: Any, nbia_double: ModuleType, ct_slices: MakeSlices, tmp_path: Path, query: str
) -> None:
    """Each series once, with count and size; its objects are equal, and nothing else is left in the folder."""
    fill(nbia, ct_slices(2), ct_slices(3))
    archive = opened(nbia, query=query)
    entries = list(archive.search())
    assert [each.series_instance_uid for each in entries] == sorted(nbia.series)
    for entry in entries:
        slices = nbia.series[entry.series_instance_uid]
        assert (entry.instances, entry.bytes) == (len(slices), sum(len(nbia_double.encoded(each)) for each in slices))
        into = tmp_path / entry.series_instance_uid
        back = open_archive(archive.uri).retrieve(entry, into).instances
        found = {each.sop_instance_uid: dataset_digest(pydicom.dcmread(each.path)) for each in back}
        assert found == {each.SOPInstanceUID: dataset_digest(each) for each in slices}
        assert len(list(into.iterdir())) == len(slices)
    assert {path.split("/")[3] for path in nbia.seen} == {query.rpartition("=")[2] or "v4"}


def test_a_login_and_a_token_that_expires(
    nbia: Any, nbia_double: ModuleType, ct_slices: MakeSlices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """We log in once, and once more when the token is no longer known."""
    fill(nbia, ct_slices(1))
    nbia.login = True
    monkeypatch.setenv("VOXFLEET_NBIA_USER", nbia_double.USER)
    monkeypatch.setenv("VOXFLEET_NBIA_PASSWORD", nbia_double.PASSWORD)
    archive = opened(nbia)
    (entry,) = archive.search()
    assert len(nbia.tokens) == 1
    nbia.tokens.append("another")
    assert len(archive.retrieve(entry, tmp_path).instances) == 1
    assert len(nbia.tokens) == 3
    assert nbia_double.PASSWORD not in archive.uri


@pytest.mark.parametrize("variable", [{}, {"USER": "curator", "PASSWORD": "wrong"}, {"TOKEN": "old"}])
def test_credentials_that_are_not_good(nbia: Any, monkeypatch: pytest.MonkeyPatch, variable: dict[str, str]) -> None:
    """None, a wrong password and an old token are denied; the message names the variables and holds no secret."""
    nbia.login = True
    for name, value in variable.items():
        monkeypatch.setenv(f"VOXFLEET_NBIA_{name}", value)
    with pytest.raises(AccessDenied, match="VOXFLEET_NBIA_USER") as caught:
        list(opened(nbia).search())
    assert "wrong" not in str(caught.value)


def test_a_login_that_is_sent_elsewhere(nbia: Any, nbia_double: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """A redirect that keeps the body (307, RFC 9110 15.4.8) does not take the password to another address."""
    elsewhere = f"{nbia.url}/nbia-api/oauth/token"

    class Moved(BaseHTTPRequestHandler):
        def log_message(self, *words: object) -> None:
            """Say nothing."""

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(307)
            self.send_header("Location", elsewhere)
            self.send_header("Content-Length", "0")
            self.end_headers()

    monkeypatch.setenv("VOXFLEET_NBIA_USER", nbia_double.USER)
    monkeypatch.setenv("VOXFLEET_NBIA_PASSWORD", nbia_double.PASSWORD)
    with HTTPServer(("127.0.0.1", 0), Moved) as server:
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        archive = NbiaArchive(parse_address(f"nbia+http://127.0.0.1:{server.server_port}/NLST"), PATIENT)
        with pytest.raises(SearchError):
            list(archive.search())
        server.shutdown()
    assert nbia.seen == []
    assert nbia.tokens == []


def test_half_a_login(nbia: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without password is a mistake of ours, told before anything is asked."""
    monkeypatch.setenv("VOXFLEET_NBIA_USER", "curator")
    with pytest.raises(BadCredentials):
        opened(nbia)


def test_a_collection_that_is_not_there(nbia: Any) -> None:
    """The message names the collections that there are."""
    with pytest.raises(SourceNotThere, match="LIDC-IDRI, NLST"):
        list(opened(nbia, "LIDC").search())


def test_a_series_that_we_may_not_have(nbia: Any, tmp_path: Path) -> None:
    """The 400 of NBIA for a series that is not granted is a denial."""
    with pytest.raises(AccessDenied, match="400"):
        opened(nbia).retrieve(SeriesEntry("1.2", "1.2.3", "CT", 1), tmp_path)


@pytest.mark.parametrize(
    ("statuses", "error"),
    [([503], None), ([429], None), ([503, 503], SearchUnanswered), ([500], SearchUnanswered), ([404], SourceNotThere)],
)
def test_a_server_in_trouble(
    nbia: Any, ct_slices: MakeSlices, statuses: list[int], error: type[SearchError] | None
) -> None:
    """Busy once is tried again; busy for longer, broken and absent are errors that say whether to come back."""
    fill(nbia, ct_slices(1))
    nbia.statuses = statuses
    if error is None:
        assert len(list(opened(nbia).search())) == 1
        return
    with pytest.raises(error) as caught:
        list(opened(nbia).search())
    assert caught.value.retryable == (error is SearchUnanswered)


@pytest.mark.parametrize(
    "spoil",
    [lambda zipped: zipped[: len(zipped) // 2], lambda zipped: b"<html>busy</html>", lambda zipped: b""],
    ids=["cut", "page", "empty"],
)
def test_a_zip_that_is_none(nbia: Any, ct_slices: MakeSlices, tmp_path: Path, spoil: Callable) -> None:
    """Half a zip, a page and nothing, each with status 200, are errors that may pass."""
    fill(nbia, ct_slices(2))
    nbia.spoil = spoil
    archive = opened(nbia)
    (entry,) = archive.search()
    with pytest.raises(RetrieveError, match="cannot be unpacked") as caught:
        archive.retrieve(entry, tmp_path)
    assert caught.value.retryable


def test_a_checksum_that_is_wrong(nbia: Any, ct_slices: MakeSlices, tmp_path: Path) -> None:
    """A file that has not the MD5 of the list is an error, and is not left under its name."""
    fill(nbia, ct_slices(1))
    nbia.digest = lambda content: "0" * 32
    archive = opened(nbia)
    (entry,) = archive.search()
    with pytest.raises(RetrieveError, match="MD5"):
        archive.retrieve(entry, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_series_that_is_not_complete(nbia: Any, ct_slices: MakeSlices, tmp_path: Path) -> None:
    """Fewer files than the listing told are an error: NBIA leaves out what its disk lacks and says nothing."""
    fill(nbia, ct_slices(3))
    archive = opened(nbia)
    (entry,) = archive.search()
    nbia.series[entry.series_instance_uid].pop()
    with pytest.raises(RetrieveError, match="2 of 3"):
        archive.retrieve(entry, tmp_path)
    nbia.series[entry.series_instance_uid].clear()
    with pytest.raises(NotThere):
        archive.retrieve(entry, tmp_path)


def test_one_instance_twice(nbia: Any, ct_slices: MakeSlices, tmp_path: Path) -> None:
    """Two files that are one instance are not counted as two: one of them would be lost."""
    first, second = ct_slices(2)
    second.SOPInstanceUID = first.SOPInstanceUID
    second.file_meta.MediaStorageSOPInstanceUID = first.SOPInstanceUID
    fill(nbia, [first, second])
    archive = opened(nbia)
    (entry,) = archive.search()
    with pytest.raises(RetrieveError, match="1 of 2 instances"):
        archive.retrieve(entry, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../escape.dcm", "/tmp/escape.dcm"])
def test_a_zip_that_leads_out(
    nbia: Any, nbia_double: ModuleType, ct_slices: MakeSlices, tmp_path: Path, name: str
) -> None:
    """A member with a path that leads out of the zip refuses the series, and nothing is written outside."""
    (dataset,) = ct_slices(1)
    fill(nbia, [dataset])
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr(name, nbia_double.encoded(dataset))
    nbia.spoil = lambda content: buffer.getvalue()
    archive = opened(nbia)
    (entry,) = archive.search()
    with pytest.raises(RetrieveError, match="leads out"):
        archive.retrieve(entry, tmp_path / "a" / "into")
    assert list(tmp_path.rglob("*escape*")) == []


def test_nothing_is_stored_there(nbia: Any, ct_slices: MakeSlices) -> None:
    """NBIA takes nothing by REST, and says so before any work."""
    archive = opened(nbia)
    for attempt in (archive.probe, lambda: archive.store(ct_slices(1)[0])):
        with pytest.raises(ReadOnlyArchive):
            attempt()


@pytest.mark.parametrize(
    "uri",
    [
        "nbia+https://host",
        "nbia+https://host/",
        "nbia+https://user:word@host/NLST",
        "nbia+https://host/NLST?version=v3",
        "nbia+https://host/NLST?token=x",
    ],
)
def test_what_is_no_address(uri: str) -> None:
    """An address without collection, with credentials or with an unknown option is refused."""
    with pytest.raises(BadArchiveUri) as caught:
        open_archive(uri)
    assert "word" not in str(caught.value)


def test_a_base_of_ones_own() -> None:
    """The path before the collection is the base of the API; names may hold spaces."""
    own = parse_address("nbia+https://host/images/api/RIDER%20Pilot")
    assert (own.base, own.collection) == ("https://host/images/api", "RIDER Pilot")
    usual = parse_address("nbia+https://host/NLST?version=v2")
    assert (usual.base, usual.version, usual.uri) == (
        "https://host/nbia-api",
        "v2",
        "nbia+https://host/NLST?version=v2",
    )
