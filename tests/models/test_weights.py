"""Weights: found, fetched, resumed, and never used unless their SHA-256 is the card's."""

from __future__ import annotations

import fcntl
import hashlib
import io
import re
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from voxfleet.models import catalogue, fetching, weights
from voxfleet.models.archive_fetching import Archive, fetch_archive
from voxfleet.models.fetching import FetchFailed, fetch, source_of
from voxfleet.models.model import ModelCard, Weights
from voxfleet.models.weights import WeightsMissing, WrongHash

CONTENT = bytes(range(256)) * 20_000
CHUNK = fetching.CHUNK_BYTES
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Server:
    """What a server does, and what it was asked."""

    url: str = ""
    content: bytes = CONTENT
    cut_at: list[int] = field(default_factory=list)
    """Bytes after which each next answer breaks off."""
    ranges: bool = True
    status: int = 0
    asked: list[str] = field(default_factory=list)
    """Range header of each request."""


@pytest.fixture
def server() -> Iterator[Server]:
    """A real HTTP server on loopback that can break off, ignore Range, or fail."""
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append(self.headers.get("Range", ""))
            if state.status:
                self.send_error(state.status)
                return
            wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")) if state.ranges else None
            start = int(wanted[1]) if wanted else 0
            if wanted and start >= len(state.content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(state.content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206 if wanted else 200)
            if wanted:
                self.send_header("Content-Range", f"bytes {start}-{len(state.content) - 1}/{len(state.content)}")
            self.send_header("Content-Length", str(len(state.content) - start))
            self.end_headers()
            body = state.content[start:]
            self.wfile.write(body[: state.cut_at.pop(0)] if state.cut_at else body)

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    state.url = f"http://127.0.0.1:{http.server_port}/models/net.pth"
    yield state
    http.shutdown()
    thread.join()
    http.server_close()


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store, and no pauses between attempts."""
    monkeypatch.setenv("VOXFLEET_WEIGHTS", str(tmp_path / "store"))
    monkeypatch.setattr(fetching, "PAUSE_S", 0.0)
    return tmp_path / "store"


@pytest.fixture
def card() -> ModelCard:
    """A model of one weights file."""
    wanted = (Weights("https://example.org/models/net.pth?token=x", SHA256),)
    return replace(catalogue.card("ct-threshold"), name="net", weights=wanted)


def quiet(done: int, total: int | None) -> None:
    """Progress that nobody watches."""


def test_missing_weights_name_the_command(card):
    """A model whose weights are not here is an error that says what fetches them; nothing is downloaded."""
    with pytest.raises(WeightsMissing, match=r"weights net\.pth are not in .*store; run: voxfleet models fetch net"):
        weights.verified(card)


def test_fetched_weights_are_found(card, server, store):
    """What was fetched lies under its SHA-256 and is found by the card; the bar saw every byte; one request."""
    seen = []
    path = fetch("net", card.weights[0], server.url, lambda done, total: seen.append((done, total)))
    assert path == store / SHA256 / "net.pth"
    assert path.read_bytes() == CONTENT
    assert weights.verified(card) == (path,)
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert server.asked == [""]
    assert fetch("net", card.weights[0], server.url, quiet) == path
    assert server.asked == [""]


def test_broken_transfer_goes_on_where_it_stopped(card, server):
    """Each answer that breaks off is followed by a request for the rest, and for nothing else."""
    server.cut_at = [20 * CHUNK, 30 * CHUNK + 5]
    path = fetch("net", card.weights[0], server.url, quiet)
    assert path.read_bytes() == CONTENT
    assert server.asked == ["", f"bytes={20 * CHUNK}-", f"bytes={50 * CHUNK}-"]


def test_next_fetch_goes_on_where_the_last_gave_up(card, server, store, monkeypatch):
    """A fetch that gives up keeps its bytes; the next one, from a mirror, asks for the rest alone."""
    monkeypatch.setattr(fetching, "ATTEMPTS", 1)
    server.cut_at = [20 * CHUNK, 0, 0]
    with pytest.raises(FetchFailed, match=f"{20 * CHUNK} bytes are kept") as caught:
        fetch("net", card.weights[0], server.url, quiet)
    assert caught.value.retryable
    assert [path.name for path in (store / SHA256).iterdir()] == [".net.pth.part"]
    server.cut_at = []
    assert fetch("net", card.weights[0], server.url, quiet).read_bytes() == CONTENT
    assert server.asked[-1] == f"bytes={20 * CHUNK}-"


def test_server_without_ranges_begins_anew(card, server):
    """Where the server sends all of it again, the file is begun anew and comes out whole."""
    server.ranges = False
    server.cut_at = [1_000_000]
    assert fetch("net", card.weights[0], server.url, quiet).read_bytes() == CONTENT


def test_file_that_was_complete_is_kept(card, server, store):
    """Where the last fetch died between the last byte and the rename, nothing is sent again."""
    part = store / SHA256 / ".net.pth.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT)
    assert fetch("net", card.weights[0], server.url, quiet).read_bytes() == CONTENT
    assert server.asked == [f"bytes={len(CONTENT)}-"]


def test_wrong_content_is_refused_and_deleted(card, server, store):
    """A file with another SHA-256 never appears in the store, and does not stand in the way of the next fetch."""
    server.content = CONTENT[:-1] + b"!"
    with pytest.raises(WrongHash, match=f"has SHA-256 .*, the card says {SHA256}"):
        fetch("net", card.weights[0], server.url, quiet)
    assert list((store / SHA256).iterdir()) == []
    server.content = CONTENT
    assert fetch("net", card.weights[0], server.url, quiet).read_bytes() == CONTENT


@pytest.mark.parametrize(("status", "requests"), [(404, 1), (403, 1), (503, fetching.ATTEMPTS)])
def test_refusal_of_the_server_is_told(card, server, status, requests):
    """What is not there is told at once; a server in trouble is asked a few times more."""
    server.status = status
    with pytest.raises(FetchFailed, match=re.escape(server.url)):
        fetch("net", card.weights[0], server.url, quiet)
    assert len(server.asked) == requests


def test_no_server_is_told(card, server):
    """An address where nobody listens is an error that names it."""
    with pytest.raises(FetchFailed, match=r"127\.0\.0\.1:1/net\.pth: ConnectionError"):
        fetch("net", card.weights[0], "http://127.0.0.1:1/net.pth", quiet)


def test_file_is_copied(card, tmp_path):
    """A file of the user's is checked and copied; one that is not there is named."""
    (tmp_path / "mine.pth").write_bytes(CONTENT)
    assert fetch("net", card.weights[0], str(tmp_path / "mine.pth"), quiet).read_bytes() == CONTENT
    other = replace(card.weights[0], sha256="0" * 64)
    with pytest.raises(FetchFailed, match=r"none\.pth cannot be read: No such file"):
        fetch("net", other, str(tmp_path / "none.pth"), quiet)


def test_one_fetch_at_a_time(card, server, store):
    """While another process fetches the file, a second one says so and leaves it alone."""
    (store / SHA256).mkdir(parents=True)
    with (store / SHA256 / ".net.pth.part").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(FetchFailed, match="another process"):
            fetch("net", card.weights[0], server.url, quiet)
    assert server.asked == []


def test_a_file_that_another_process_has_just_finished(card, store, tmp_path, monkeypatch):
    """It came to its end between our opening and our lock: what it made is found, and not written to."""
    place = store / SHA256 / "net.pth"
    part, mine, lock = place.with_name(".net.pth.part"), tmp_path / "mine.pth", fcntl.flock
    place.parent.mkdir(parents=True)
    for path in (part, mine):
        path.write_bytes(CONTENT)
    before = part.stat()

    def finished_before(file: object, how: int) -> None:
        if not place.exists():
            part.replace(place)
        lock(file, how)

    monkeypatch.setattr(fetching.fcntl, "flock", finished_before)
    assert fetch("net", card.weights[0], str(mine), quiet) == place
    assert (place.stat().st_ino, place.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert list(place.parent.iterdir()) == [place]


def test_changed_file_is_not_used(card, server):
    """A file that was changed in the store after it was fetched is refused when it is to be used, and when fetched."""
    path = fetch("net", card.weights[0], server.url, quiet)
    path.write_bytes(CONTENT + b"x")
    with pytest.raises(WrongHash, match="it is not used"):
        weights.verified(card)
    with pytest.raises(WrongHash, match="delete it and fetch again"):
        fetch("net", card.weights[0], server.url, quiet)


def test_source_of_each_file(card, tmp_path):
    """A mirror is a folder or a URL with a slash for many files, a file or its URL for one."""
    one, two = card.weights[0], Weights("https://example.org/b.pth", "1" * 64)
    both = replace(card, weights=(one, two))
    assert one.file == "net.pth"
    assert source_of(card, one, None) == one.url
    assert source_of(both, two, "https://mirror.org/x/") == "https://mirror.org/x/b.pth"
    assert source_of(both, two, str(tmp_path)) == str(tmp_path / "b.pth")
    assert source_of(card, one, "https://mirror.org/x") == "https://mirror.org/x"
    with pytest.raises(FetchFailed, match=r"one file; a folder .* with net\.pth, b\.pth is needed"):
        source_of(both, two, "https://mirror.org/x")


def test_what_cannot_be_fetched_is_told(card):
    """A card without a SHA-256, and one whose weights lie in the model's own folder, fetch nothing."""
    with pytest.raises(FetchFailed, match=r"no SHA-256 for net\.pth"):
        source_of(card, replace(card.weights[0], sha256="not-installed"), "/mine/net.pth")
    with pytest.raises(FetchFailed, match=r"models/model\.pt belongs in the model's own folder"):
        source_of(card, Weights("models/model.pt", SHA256), None)


def test_store_is_in_the_cache_by_default(monkeypatch, tmp_path):
    """Without a folder named, weights lie in the user's cache (XDG Base Directory Specification)."""
    monkeypatch.delenv("VOXFLEET_WEIGHTS")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert weights.store_folder() == tmp_path / "voxfleet" / "weights"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert weights.store_folder() == tmp_path / ".cache" / "voxfleet" / "weights"


def zipped(names: dict[str, bytes]) -> bytes:
    """An archive of some files, not compressed."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name, content in names.items():
            archive.writestr(name, content)
    return written.getvalue()


def squeezed() -> bytes:
    """An archive of one compressed file, whose compressed data are no data (a block of type 3, RFC 1951, 3.2.3)."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("Dataset7/net.pth", bytes(1000))
    content = bytearray(written.getvalue())
    content[30 + len("Dataset7/net.pth")] = 0xFF  # the first byte behind the local header
    return bytes(content)


def locked() -> bytes:
    """An archive that says that it has a password (bit 0 of the flags, at 6 locally and at 8 in the directory)."""
    content = bytearray(zipped({"Dataset7/net.pth": b"x"}))
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    return bytes(content)


def archive_at(server: Server) -> Archive:
    """The archive of `Dataset7` that the server gives."""
    return Archive(f"{server.url}/Dataset7.zip", "Dataset7")


def test_archive_is_resumed_and_unpacked(card, server, tmp_path):
    """A transfer that broke off goes on where it stopped; the folder appears, and nothing beside it."""
    server.content, server.cut_at = zipped({"Dataset7/fold_0/net.pth": CONTENT}), [CHUNK]
    digest = fetch_archive("net", archive_at(server), server.url, tmp_path, quiet)
    assert server.asked == ["", f"bytes={CHUNK}-"]
    assert digest == hashlib.sha256(server.content).hexdigest()
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()] == [
        "Dataset7/fold_0/net.pth"
    ]
    assert (tmp_path / "Dataset7" / "fold_0" / "net.pth").read_bytes() == CONTENT
    assert fetch_archive("net", archive_at(server), server.url, tmp_path, quiet) is None


def test_an_archive_that_another_process_has_just_unpacked(server, tmp_path, monkeypatch):
    """It came to its end between our opening and our lock: nothing is fetched, and nothing left."""
    lock, place = fcntl.flock, tmp_path / "Dataset7"
    (tmp_path / ".Dataset7.zip.part").write_bytes(b"all of it")

    def unpacked_before(file: object, how: int) -> None:
        if not place.exists():
            place.mkdir()
            (tmp_path / ".Dataset7.zip.part").unlink()
        lock(file, how)

    monkeypatch.setattr(fetching.fcntl, "flock", unpacked_before)
    assert fetch_archive("net", archive_at(server), server.url, tmp_path, quiet) is None
    assert (server.asked, list(tmp_path.iterdir())) == ([], [place])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (zipped({"Dataset7/../../evil": b"x"}), r"it holds Dataset7/\.\./\.\./evil"),
        (zipped({"Dataset8/net.pth": b"x"}), "it holds Dataset8/net.pth"),
        (zipped({"/etc/evil": b"x"}), "it holds /etc/evil"),
        (zipped({"Dataset7/net.pth": b"weights"}).replace(b"weights", b"weighty"), "Bad CRC-32"),
        (squeezed(), "Error -3 while decompressing"),
        (locked(), "password required"),
        (zipped({}), "it holds no folder"),
        (zipped({"Dataset7": b"x"}), "it holds no folder"),
        (b"<html>no such page</html>", "not a zip file"),
    ],
    ids=["above", "other", "root", "damaged", "squeezed", "locked", "empty", "file", "page"],
)
def test_what_is_no_such_archive_is_refused(server, tmp_path, content, message):
    """Another folder, a path out of it, a damaged file, a page of a proxy: an error, and nothing is left."""
    server.content, folder = content, tmp_path / "weights"
    with pytest.raises(FetchFailed, match=rf"is no archive of Dataset7: .*{message}"):
        fetch_archive("net", archive_at(server), server.url, folder, quiet)
    assert list(tmp_path.rglob("*")) == [folder]
