"""The uploads of Google's XML API before fake-gcs-server, which knows those of the JSON API alone.

Listing, reading and removing pass through to it as they are; what is written, and on which condition, is
told to it in the JSON API's words. So the server itself keeps objects and looks at generations.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import quote, unquote

HOP_BY_HOP = frozenset({"connection", "transfer-encoding", "content-length", "date", "server"})
BOUNDARY = "part-of-an-upload"


@contextmanager
def fronting(target: str) -> Iterator[str]:
    """Run the front of a server, e.g. ``127.0.0.1:5000``; gives its own address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            """An object; written as JSON API's multipart upload."""
            bucket, _, name = self.path.lstrip("/").partition("/")
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            condition = self.headers.get("x-goog-if-generation-match")
            query = f"uploadType=multipart&name={quote(unquote(name), safe='')}"
            query += f"&ifGenerationMatch={condition}" if condition is not None else ""
            described = json.dumps({"name": unquote(name)}).encode()
            parts = [(b"application/json", described), (b"application/dicom", body)]
            sent = b"".join(
                b"--%s\r\nContent-Type: %s\r\n\r\n%s\r\n" % (BOUNDARY.encode(), kind, content)
                for kind, content in parts
            )
            sent += b"--%s--\r\n" % BOUNDARY.encode()
            kind = {"Content-Type": f"multipart/related; boundary={BOUNDARY}"}
            status, _, content = self._ask("POST", f"/upload/storage/v1/b/{bucket}/o?{query}", sent, kind)
            told = json.loads(content) if status == http.HTTPStatus.OK else {}
            self._answer(status, [("ETag", f'"{told["etag"]}"')] if told else [], b"")

        def _pass_on(self) -> None:
            headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
            status, fields, content = self._ask(self.command, self.path, b"", headers)
            self._answer(status, fields, content)

        do_GET = do_HEAD = do_DELETE = _pass_on  # noqa: N815 - names of http.server

        def _ask(
            self, method: str, path: str, body: bytes, headers: dict[str, str]
        ) -> tuple[int, list[tuple[str, str]], bytes]:
            upstream = http.client.HTTPConnection(target, timeout=120)
            upstream.request(method, path, body, headers)
            answer = upstream.getresponse()
            content = answer.read()
            fields = [(name, value) for name, value in answer.getheaders() if name.lower() not in HOP_BY_HOP]
            length = answer.getheader("Content-Length", "0") if method == "HEAD" else str(len(content))
            upstream.close()
            return answer.status, [*fields, ("Content-Length", length)], content

        def _answer(self, status: int, fields: list[tuple[str, str]], content: bytes) -> None:
            self.send_response(status)
            if not any(name == "Content-Length" for name, _ in fields):
                fields = [*fields, ("Content-Length", str(len(content)))]
            for name, value in fields:
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
