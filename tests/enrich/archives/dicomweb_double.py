"""A DICOMweb service of a few lines that keeps objects as files, and lets in whom it is told to."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import SEEK_END
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs

import pydicom
from pydicom import Dataset

BOUNDARY = "b0undary"
HEAD = f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
TAIL = f"\r\n--{BOUNDARY}--\r\n".encode()
MULTIPART = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'
CHUNK = 1 << 20
COUNT = "00201209"


@dataclass
class DicomwebDouble:
    """What the service holds and saw.

    Attributes
    ----------
    folder : Path
        A file ``INSTANCE.dcm`` for each object.
    lets_in : callable
        From the Authorization field of a request to whether it is answered; else 401.
    store_statuses : list of int
        Answers to the next stores, in order; 200 stores.
    retry_after : str
        Field of answers that are no success.
    """

    folder: Path
    url: str = ""
    lets_in: Callable[[str], bool] = lambda _: True
    store_statuses: list[int] = field(default_factory=list)
    retry_after: str = "0"
    seen: list[tuple[str, str, str]] = field(default_factory=list)
    """Method, path and Authorization field of each request."""


@contextmanager
def running_dicomweb(folder: Path) -> Iterator[DicomwebDouble]:
    """Run the service on a free port of 127.0.0.1, in threads of this process."""
    double = DicomwebDouble(folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"double": double}))
    server.daemon_threads = True
    double.url = f"http://127.0.0.1:{server.server_port}/dicom-web"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield double
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    double: DicomwebDouble

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        status = 401 if not self._may() else (self.double.store_statuses or [200]).pop(0)
        self._take(keep=status == 200)
        self._say(status, b"{}")

    def do_GET(self) -> None:
        if not self._may():
            self._say(401, b"")
        elif found := re.search(r"/series/([\d.]+)(?:/instances/([\d.]+))?$", self.path):
            held = [path for path, dataset in self._held() if dataset.SeriesInstanceUID == found[1]]
            self._give([each for each in held if found[2] in (None, each.stem)])
        else:
            query = parse_qs(self.path.partition("?")[2])
            start, most = (int(query.get(name, [usual])[0]) for name, usual in (("offset", "0"), ("limit", "100000")))
            told = [_told(row, set(query.get("includefield", ()))) for row in self._series()]
            self._say(200, json.dumps(told[start : start + most]).encode())

    def _may(self) -> bool:
        authorization = self.headers.get("Authorization", "")
        self.double.seen.append((self.command, self.path, authorization))
        return self.double.lets_in(authorization)

    def _held(self) -> list[tuple[Path, Dataset]]:
        paths = sorted(self.double.folder.glob("*.dcm"))
        return [(path, pydicom.dcmread(path, stop_before_pixels=True)) for path in paths]

    def _series(self) -> list[dict[str, object]]:
        found: dict[tuple[str, str, str], int] = {}
        for _, dataset in self._held():
            key = (dataset.Modality, dataset.StudyInstanceUID, dataset.SeriesInstanceUID)
            found[key] = found.get(key, 0) + 1
        tags = ("00080060", "0020000D", "0020000E", COUNT)
        return [
            {tag: {"Value": [value]} for tag, value in zip(tags, (*key, n), strict=True)} for key, n in found.items()
        ]

    def _take(self, *, keep: bool) -> None:
        """Read the body, and keep its one object."""
        left, path = int(self.headers["Content-Length"]), self.double.folder / "body.part"
        with path.open("w+b") as file:
            while left:
                left -= file.write(self.rfile.read(min(left, CHUNK)))
            boundary = self.headers["Content-Type"].partition("boundary=")[2].strip('"')
            end = file.seek(-256, SEEK_END)
            file.truncate(end + file.read().rindex(f"\r\n--{boundary}--".encode()))
            file.seek(0)
            start = file.read(1024).index(b"\r\n\r\n") + 4
        if keep:
            uid = _without_head(path, start)
            path.rename(self.double.folder / f"{uid}.dcm")
        path.unlink(missing_ok=True)

    def _give(self, paths: list[Path]) -> None:
        if not paths:
            self._say(404, b"")
            return
        separator = TAIL[: -len(b"--\r\n")] + HEAD[len(f"--{BOUNDARY}") :]
        length = len(HEAD) + len(TAIL) + len(separator) * (len(paths) - 1) + sum(each.stat().st_size for each in paths)
        self.send_response(200)
        self.send_header("Content-Type", MULTIPART)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        for number, path in enumerate(paths):
            self.wfile.write(separator if number else HEAD)
            with path.open("rb") as file:
                shutil.copyfileobj(file, self.wfile, CHUNK)
        self.wfile.write(TAIL)

    def _say(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/dicom+json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Retry-After", self.double.retry_after)
        self.end_headers()
        self.wfile.write(body)


def _told(row: dict[str, object], asked: set[str]) -> dict[str, object]:
    """A match with what PS3.18 table 10.6.3-4 requires, and of the rest what was asked for."""
    return {tag: value for tag, value in row.items() if tag != COUNT or tag in asked}


def _without_head(path: Path, start: int) -> str:
    """Take the first bytes off a file, in place; gives the SOP Instance UID of what is left."""
    with path.open("r+b") as file:
        position = 0
        while True:
            file.seek(start + position)
            chunk = file.read(CHUNK)
            if not chunk:
                break
            file.seek(position)
            position += file.write(chunk)
        file.truncate(position)
    return str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID)
