"""A server that answers as NBIA's source code does (restAPI/v4); on 127.0.0.1, in this process."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, urlsplit

import pydicom
from pydicom import Dataset

USER, PASSWORD = "curator", "s3cret word"


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

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

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


@contextmanager
def running_nbia() -> Iterator[Nbia]:
    """Run an empty server on loopback."""
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
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
