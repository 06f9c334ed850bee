"""An HTTP proxy on loopback that passes requests on to a real server and spoils some of them."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

HOP_BY_HOP = frozenset({"connection", "transfer-encoding", "content-length", "date", "server"})


@dataclass
class Spoiler:
    """What a proxy does to requests, and what it saw of them.

    Attributes
    ----------
    fault : callable
        From method and path to what is done: an HTTP status to answer, ``cut`` (the connection ends in
        the middle of the body), ``short`` (half of the body, as if it were whole), or None.
    """

    fault: Callable[[str, str], int | str | None] = lambda _method, _path: None
    seen: list[tuple[str, str, str]] = field(default_factory=list)
    """Method, path and Range field of each request."""
    url: str = ""


@contextmanager
def spoiling(target: str) -> Iterator[Spoiler]:
    """Run a proxy to a server, e.g. ``http://127.0.0.1:5000``."""
    spoiler = Spoiler()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            spoiler.seen.append((self.command, self.path, self.headers.get("Range", "")))
            fault = spoiler.fault(self.command, self.path)
            if isinstance(fault, int):
                self._answer(
                    fault,
                    [("Content-Length", "0")] if self.command == "HEAD" else [],
                    b"<Error><Code>Spoilt</Code><Message>by the test</Message></Error>",
                )
                return
            upstream = http.client.HTTPConnection(target.partition("://")[2], timeout=20)
            upstream.request(self.command, self.path, body, dict(self.headers))
            answer = upstream.getresponse()
            content = answer.read()
            headers = [(name, value) for name, value in answer.getheaders() if name.lower() not in HOP_BY_HOP]
            if self.command == "HEAD":
                headers.append(("Content-Length", answer.getheader("Content-Length", "0")))
            self._answer(answer.status, headers, content[: len(content) // 2] if fault == "short" else content, fault)
            upstream.close()

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass_on  # noqa: N815 - names of http.server

        def _answer(
            self, status: int, headers: list[tuple[str, str]], content: bytes, fault: int | str | None = None
        ) -> None:
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            if self.command != "HEAD":
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command == "HEAD":
                return
            self.wfile.write(content[: len(content) // 2] if fault == "cut" else content)
            if fault == "cut":
                self.wfile.flush()
                self.connection.shutdown(2)
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    spoiler.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield spoiler
    finally:
        server.shutdown()
        server.server_close()
