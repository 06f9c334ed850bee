"""A server that answers those REST calls of an XNAT that xnatpy and we make; on 127.0.0.1, in this process.

Written after XNAT's REST documentation and what xnatpy 0.8.1 reads; no real XNAT was recorded.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import secrets
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

USER, PASSWORD = "radiologist", "s3cret-XNAT"
PROJECT = "AFRICAI"
GUEST = b'<html><span id="user_info">Logged in as: <span style="color:red;">Guest</span></html>'
"""By which xnatpy knows that guests are let in."""
Answer = tuple[int, bytes]


@dataclass
class Node:
    """A subject, session, scan or resource: its fields, what is below it, its files."""

    fields: dict[str, str] = field(default_factory=dict)
    kind: str = ""
    below: dict[str, Node] = field(default_factory=dict)
    resources: dict[str, dict[str, bytes]] = field(default_factory=dict)


@dataclass
class Fault:
    """What happens to requests of a method and path, so many times.

    `act` gives an answer, or None for the usual one, or status 0 after it has written what it wants and
    the connection is to be closed.
    """

    method: str
    path: str
    act: Callable[[Handler], Answer | None]
    times: int = 1


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    server: Xnat

    def log_message(self, *_: object) -> None:
        """Stay silent."""

    def do_GET(self) -> None:
        """Answer."""
        self._answer()

    def do_PUT(self) -> None:
        """Answer."""
        self._answer()

    def do_DELETE(self) -> None:
        """Answer."""
        self._answer()

    def _answer(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        self.query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        self.parts = [unquote(each) for each in parts.path.split("/")[1:]]
        with self.server.lock:
            self.server.asked.append((self.command, self.path, dict(self.headers), self.body))
            status, body = self.server.faulty(self) or self.server.answer(self)
        if not status:
            self.close_connection = True
            return
        self.send_response(status)
        if status == 200 and self.parts[:3] == ["data", "services", "auth"]:
            self.send_header("Set-Cookie", f"JSESSIONID={body.decode()}; Path=/")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Xnat(ThreadingHTTPServer):
    """The project and who is logged in."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock = threading.RLock()
        self.subjects: dict[str, Node] = {}
        self.sessions: set[str] = set()
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        self.faults: list[Fault] = []
        self.guests = False

    @property
    def uri(self) -> str:
        """For `open_archive`."""
        return f"xnat+http://127.0.0.1:{self.server_address[1]}/{PROJECT}"

    @property
    def experiments(self) -> dict[str, Node]:
        """All sessions by ID."""
        return {each.fields["ID"]: each for subject in self.subjects.values() for each in subject.below.values()}

    def faulty(self, request: Handler) -> Answer | None:
        """What a fault makes of a request, or None."""
        for fault in self.faults:
            if fault.times and fault.method == request.command and re.search(fault.path, request.path):
                fault.times -= 1
                return fault.act(request)
        return None

    def answer(self, request: Handler) -> Answer:  # noqa: PLR0911 - one for each call
        """What XNAT answers."""
        match [request.command, *request.parts]:
            case ["GET", ""]:
                return 200, GUEST if self.guests else b"<html>XNAT</html>"
            case ["PUT", "data", "services", "auth"]:
                return self._login({key: values[0] for key, values in parse_qs(request.body.decode()).items()})
        cookie = re.search("JSESSIONID=([0-9A-F]+)", request.headers.get("Cookie", ""))
        if cookie is None and self.guests and request.parts == ["data", "JSESSION"]:
            self.sessions.add(session := secrets.token_hex(16).upper())
            return 200, session.encode()
        if cookie is None or cookie[1] not in self.sessions:
            return 401, b"<!DOCTYPE html><title>Unauthorized</title>"
        match [request.command, *request.parts]:
            case ["GET", "data", "JSESSION"]:
                return 200, cookie[1].encode()
            case ["DELETE", "data", "JSESSION"]:
                self.sessions.discard(cookie[1])
                return 200, b""
            case ["GET", "data", "auth"]:
                return 200, f"User '{USER}' is logged in".encode()
            case [command, "data", "projects", project, *rest] if project == PROJECT:
                return self._project(command, rest, request)
            case [command, "data", "experiments", experiment, *rest] if experiment in self.experiments:
                return self._experiment(command, self.experiments[experiment], rest, request)
        return 404, b""

    def _login(self, form: dict[str, str]) -> Answer:
        if (form.get("username"), form.get("password")) != (USER, PASSWORD):
            return 401, b"<html><h3>Bad credentials</h3></html>"
        session = secrets.token_hex(16).upper()
        self.sessions.add(session)
        return 200, session.encode()

    def _project(self, command: str, rest: list[str], request: Handler) -> Answer:
        match [command, *rest]:
            case ["GET"]:
                return item(Node({"ID": PROJECT}, "xnat:projectData"))
            case ["GET", "experiments"]:
                uid = request.query.get("xnat:imageSessionData/UID")
                found = [each.fields for each in self.experiments.values() if uid in (None, each.fields.get("UID"))]
                return rows([{"ID": each["ID"], "xnat:imagesessiondata/uid": each.get("UID", "")} for each in found])
            case ["PUT", "subjects", subject]:
                self.subjects.setdefault(subject, Node({"ID": f"S{len(self.subjects)}"}, "xnat:subjectData"))
                return 201, b"S"
            case ["PUT", "subjects", subject, "experiments", label]:
                number = f"XNAT_E{len(self.experiments):05d}"
                node = self.subjects[subject].below.setdefault(label, Node({"ID": number, "label": label}))
                return made(node, request.query)
        return 404, b""

    def _experiment(self, command: str, node: Node, rest: list[str], request: Handler) -> Answer:
        match [command, *rest]:
            case ["GET"]:
                return item(node)
            case ["PUT", "scans", scan]:
                return made(node.below.setdefault(scan, Node({"ID": scan})), request.query)
            case [_, "scans", scan, "resources", *below] if scan in node.below:
                return resource(command, node.below[scan], below, request)
            case [_, "resources", *below]:
                return resource(command, node, below, request)
        return 404, b""


def made(node: Node, query: dict[str, str]) -> Answer:
    """Make or change an object by its query: ``xsiType``, and ``TYPE/FIELD`` for each field."""
    node.kind = query.pop("xsiType", node.kind)
    node.fields.update({key.partition("/")[2]: value for key, value in query.items() if "/" in key})
    return 201, node.fields["ID"].encode()


def resource(command: str, node: Node, rest: list[str], request: Handler) -> Answer:  # noqa: PLR0911
    """Answer for a resource and its files."""
    label = rest[0]
    if command == "PUT" and len(rest) == 1:
        if label in node.resources:
            return 409, b"Specified resource already exists."
        node.resources[label] = {}
        return 200, b""
    if label not in node.resources:
        return 404, b""
    files = node.resources[label]
    if command == "PUT":
        if rest[2] in files and request.query.get("overwrite") != "true":
            return 409, b""
        files[rest[2]] = request.body
        return 200, b""
    if len(rest) > 2:
        return (200, files[rest[2]]) if rest[2] in files else (404, b"")
    if request.query.get("format") == "zip":
        return 200, zipped({f"session/scans/1/resources/{label}/files/{name}": files[name] for name in files})
    return rows([{"Name": name, "Size": str(len(files[name])), "digest": md5(files[name])} for name in files])


def zipped(files: dict[str, bytes]) -> bytes:
    """Zip of files by their names."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


def md5(content: bytes) -> str:
    """Digest as XNAT lists it."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def rows(found: list[dict[str, str]]) -> Answer:
    """Answer with a listing."""
    return 200, json.dumps({"ResultSet": {"Result": found, "totalRecords": str(len(found))}}).encode()


def item(node: Node) -> Answer:
    """Answer with an item."""
    return 200, json.dumps({"items": [_item(node)]}).encode()


def _item(node: Node) -> dict[str, Any]:
    children = [{"field": "scans/scan", "items": [_item(each) for each in node.below.values()]}] if node.below else []
    if node.resources:
        children.append({"field": "file", "items": [_catalog(*each) for each in node.resources.items()]})
    return {"children": children, "meta": {"xsi:type": node.kind, "isHistory": False}, "data_fields": node.fields}


def _catalog(label: str, files: dict[str, bytes]) -> dict[str, Any]:
    fields = {"label": label, "file_count": len(files), "file_size": sum(map(len, files.values()))}
    return {"children": [], "meta": {"xsi:type": "xnat:resourceCatalog"}, "data_fields": fields}


@contextmanager
def running_xnat() -> Iterator[Xnat]:
    """Run a double with an empty project."""
    server = Xnat()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
