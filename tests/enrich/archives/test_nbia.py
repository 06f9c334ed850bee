"""A collection of an NBIA as an archive, against a server that answers as NBIA's source code does (restAPI/v4)."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, urlsplit

import pydicom
import pytest
from pydicom import Dataset
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
from voxfleet.enrich.archives.opening import BadArchiveUri, open_archive
from voxfleet.enrich.archives.read_only import ReadOnlyArchive
from voxfleet.enrich.digest import dataset_digest

MakeSlices = Callable[..., list[Dataset]]
SHORT = Patience(connect_s=2.0, read_s=2.0, retries=1, backoff_s=0.0)
PASSWORD = "s3cret word"


@dataclass
class Nbia:
    """What the server holds and how it misbehaves."""

    port: int = 0
    series: dict[str, list[Dataset]] = field(default_factory=dict)
    tokens: list[str] = field(default_factory=list)
    """Given out, the last one valid; empty where nobody need log in."""
    login: bool = False
    statuses: list[int] = field(default_factory=list)
    """Answers to come before a true one."""
    spoil: Callable[[bytes], bytes] = field(default=lambda content: content)
    digest: Callable[[bytes], str] = field(default=lambda content: hashlib.md5(content).hexdigest())
    seen: list[str] = field(default_factory=list)

    def archive(self, collection: str = "LIDC-IDRI", query: str = "") -> NbiaArchive:
        """Open a collection."""
        return NbiaArchive(parse_address(f"nbia+http://127.0.0.1:{self.port}/{collection}{query}"), SHORT)

    def rows(self, collection: str) -> list[dict]:
        """What getSeries gives."""
        held = self.series.items() if collection == "LIDC-IDRI" else ()
        return [
            {
                "SeriesInstanceUID": uid,
                "StudyInstanceUID": slices[0].StudyInstanceUID,
                "Modality": "CT",
                "Collection": collection,
                "ImageCount": len(slices),
                "FileSize": sum(len(encoded(each)) for each in slices),
                "LicenseName": "Creative Commons Attribution 3.0 Unported License",
            }
            for uid, slices in held
        ]

    def zip_of(self, uid: str) -> bytes:
        """What getImageWithMD5Hash gives: numbered files, then their list."""
        buffer, lines = io.BytesIO(), ["Filename,MD5Hash"]
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
            for number, each in enumerate(self.series[uid], 1):
                content = encoded(each)
                file.writestr(f"{number:08d}.dcm", content)
                lines.append(f"{number:08d}.dcm,{self.digest(content)}")
            file.writestr("md5hashes.csv", "\n".join(lines))
        return self.spoil(buffer.getvalue())

    def answer(self, path: str, query: dict[str, str], said: str | None) -> tuple[int, bytes]:
        """Status and body for a GET."""
        self.seen.append(path)
        if self.statuses:
            return self.statuses.pop(0), b""
        if self.login and (not self.tokens or said != f"Bearer {self.tokens[-1]}"):
            return 401, b'{"error":"invalid_token"}'
        verb = path.rpartition("/")[2]
        if verb == "getSeries":
            rows = self.rows(query["Collection"])
            return 200, json.dumps(rows).encode() if rows else b""
        if verb == "getCollectionValues":
            return 200, b'[{"Collection":"LIDC-IDRI"},{"Collection":"NLST"}]'
        if query["SeriesInstanceUID"] not in self.series:
            return 400, b"The user has not been granted the access to image with given SeriesInstanceUID"
        return 200, self.zip_of(query["SeriesInstanceUID"])


def encoded(dataset: Dataset) -> bytes:
    """The object as a file."""
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


@pytest.fixture
def nbia(monkeypatch: pytest.MonkeyPatch) -> Iterator[Nbia]:
    """Run a server on loopback."""
    for name in ("USER", "PASSWORD", "TOKEN"):
        monkeypatch.delenv(f"VOXFLEET_NBIA_{name}", raising=False)
    state = Nbia()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *words: object) -> None:
            """Say nothing."""

        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            good = form.get("password") == [PASSWORD] and form.get("grant_type") == ["password"]
            if self.path != "/nbia-api/oauth/token" or form.get("client_id") != ["NBIA"] or not good:
                return self._give(400, b'{"error":"invalid_grant","error_description":"Bad credentials"}')
            state.tokens.append(f"token-{len(state.tokens)}")
            return self._give(200, json.dumps({"access_token": state.tokens[-1], "expires_in": 7200}).encode())

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            self._give(*state.answer(parts.path, query, self.headers.get("Authorization")))

        def _give(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.port = server.server_address[1]
    thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


def fill(nbia: Nbia, *made: list[Dataset]) -> None:
    """Put series into the collection."""
    nbia.series.update({slices[0].SeriesInstanceUID: slices for slices in made})


@pytest.mark.parametrize("query", ["", "?version=v1", "?version=v2"])
def test_a_collection_comes_back(nbia: Nbia, ct_slices: MakeSlices, tmp_path: Path, query: str) -> None:
    """Each series once, with count and size; its objects are equal, and nothing else is left in the folder."""
    fill(nbia, ct_slices(2), ct_slices(3))
    archive = nbia.archive(query=query)
    entries = list(archive.search())
    assert [each.series_instance_uid for each in entries] == sorted(nbia.series)
    for entry in entries:
        slices = nbia.series[entry.series_instance_uid]
        assert (entry.instances, entry.bytes) == (len(slices), sum(len(encoded(each)) for each in slices))
        into = tmp_path / entry.series_instance_uid
        back = open_archive(archive.uri).retrieve(entry, into).instances
        found = {each.sop_instance_uid: dataset_digest(pydicom.dcmread(each.path)) for each in back}
        assert found == {each.SOPInstanceUID: dataset_digest(each) for each in slices}
        assert len(list(into.iterdir())) == len(slices)
    assert {path.split("/")[3] for path in nbia.seen} == {query.rpartition("=")[2] or "v4"}


def test_a_login_and_a_token_that_expires(
    nbia: Nbia, ct_slices: MakeSlices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """We log in once, and once more when the token is no longer known."""
    fill(nbia, ct_slices(1))
    nbia.login = True
    monkeypatch.setenv("VOXFLEET_NBIA_USER", "curator")
    monkeypatch.setenv("VOXFLEET_NBIA_PASSWORD", PASSWORD)
    archive = nbia.archive()
    (entry,) = archive.search()
    assert len(nbia.tokens) == 1
    nbia.tokens.append("another")
    assert len(archive.retrieve(entry, tmp_path).instances) == 1
    assert len(nbia.tokens) == 3
    assert PASSWORD not in archive.uri


@pytest.mark.parametrize("variable", [{}, {"USER": "curator", "PASSWORD": "wrong"}, {"TOKEN": "old"}])
def test_credentials_that_are_not_good(nbia: Nbia, monkeypatch: pytest.MonkeyPatch, variable: dict[str, str]) -> None:
    """None, a wrong password and an old token are denied; the message names the variables and holds no secret."""
    nbia.login = True
    for name, value in variable.items():
        monkeypatch.setenv(f"VOXFLEET_NBIA_{name}", value)
    with pytest.raises(AccessDenied, match="VOXFLEET_NBIA_USER") as caught:
        list(nbia.archive().search())
    assert "wrong" not in str(caught.value)


def test_half_a_login(nbia: Nbia, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without password is a mistake of ours, told before anything is asked."""
    monkeypatch.setenv("VOXFLEET_NBIA_USER", "curator")
    with pytest.raises(BadCredentials):
        nbia.archive()


def test_a_collection_that_is_not_there(nbia: Nbia) -> None:
    """The message names the collections that there are."""
    with pytest.raises(SourceNotThere, match="LIDC-IDRI, NLST"):
        list(nbia.archive("LIDC").search())


def test_a_series_that_we_may_not_have(nbia: Nbia, tmp_path: Path) -> None:
    """The 400 of NBIA for a series that is not granted is a denial."""
    with pytest.raises(AccessDenied, match="400"):
        nbia.archive().retrieve(SeriesEntry("1.2", "1.2.3", "CT", 1), tmp_path)


@pytest.mark.parametrize(
    ("statuses", "error"),
    [([503], None), ([429], None), ([503, 503], SearchUnanswered), ([500], SearchUnanswered), ([404], SourceNotThere)],
)
def test_a_server_in_trouble(
    nbia: Nbia, ct_slices: MakeSlices, statuses: list[int], error: type[SearchError] | None
) -> None:
    """Busy once is tried again; busy for longer, broken and absent are errors that say whether to come back."""
    fill(nbia, ct_slices(1))
    nbia.statuses = statuses
    if error is None:
        assert len(list(nbia.archive().search())) == 1
        return
    with pytest.raises(error) as caught:
        list(nbia.archive().search())
    assert caught.value.retryable == (error is SearchUnanswered)


@pytest.mark.parametrize(
    "spoil",
    [lambda zipped: zipped[: len(zipped) // 2], lambda zipped: b"<html>busy</html>", lambda zipped: b""],
    ids=["cut", "page", "empty"],
)
def test_a_zip_that_is_none(nbia: Nbia, ct_slices: MakeSlices, tmp_path: Path, spoil: Callable) -> None:
    """Half a zip, a page and nothing, each with status 200, are errors that may pass."""
    fill(nbia, ct_slices(2))
    nbia.spoil = spoil
    archive = nbia.archive()
    (entry,) = archive.search()
    with pytest.raises(RetrieveError, match="cannot be unpacked") as caught:
        archive.retrieve(entry, tmp_path)
    assert caught.value.retryable


def test_a_checksum_that_is_wrong(nbia: Nbia, ct_slices: MakeSlices, tmp_path: Path) -> None:
    """A file that has not the MD5 of the list is an error, and is not left under its name."""
    fill(nbia, ct_slices(1))
    nbia.digest = lambda content: "0" * 32
    archive = nbia.archive()
    (entry,) = archive.search()
    with pytest.raises(RetrieveError, match="MD5"):
        archive.retrieve(entry, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_series_that_is_not_complete(nbia: Nbia, ct_slices: MakeSlices, tmp_path: Path) -> None:
    """Fewer files than the listing told are an error: NBIA leaves out what its disk lacks and says nothing."""
    fill(nbia, ct_slices(3))
    archive = nbia.archive()
    (entry,) = archive.search()
    nbia.series[entry.series_instance_uid].pop()
    with pytest.raises(RetrieveError, match="2 of 3"):
        archive.retrieve(entry, tmp_path)
    nbia.series[entry.series_instance_uid].clear()
    with pytest.raises(NotThere):
        archive.retrieve(entry, tmp_path)


@pytest.mark.parametrize("name", ["../escape.dcm", "/tmp/escape.dcm"])
def test_a_zip_that_leads_out(nbia: Nbia, ct_slices: MakeSlices, tmp_path: Path, name: str) -> None:
    """A member with a path that leads out of the zip refuses the series, and nothing is written outside."""
    (dataset,) = ct_slices(1)
    fill(nbia, [dataset])
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr(name, encoded(dataset))
    nbia.spoil = lambda content: buffer.getvalue()
    archive = nbia.archive()
    (entry,) = archive.search()
    with pytest.raises(RetrieveError, match="leads out"):
        archive.retrieve(entry, tmp_path / "a" / "into")
    assert list(tmp_path.rglob("*escape*")) == []


def test_nothing_is_stored_there(nbia: Nbia, ct_slices: MakeSlices) -> None:
    """NBIA takes nothing by REST, and says so before any work."""
    archive = nbia.archive()
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
