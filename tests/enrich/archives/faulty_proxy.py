"""Proxies on loopback that pass requests on to a real server and spoil some of them: one of HTTP, one of TCP."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer
from threading import Thread
from urllib.parse import unquote

HOP_BY_HOP = frozenset({"connection", "transfer-encoding", "content-length", "date", "server"})
Whole = tuple[int, str, bytes]
"""An answer: HTTP status, media type, body."""
Fault = int | str | Whole | Callable[[bytes], bytes] | None
SPOILT = b"<Error><Code>Spoilt</Code><Message>by the test</Message></Error>"


@dataclass
class Spoiler:
    """What a proxy does to requests, and what it saw of them.

    Attributes
    ----------
    fault : callable
        From method and path to what is done: an HTTP status or a whole answer to give, ``drop`` (the
        connection ends before the request is passed on), ``cut`` (it ends in the middle of the body),
        ``short`` (half of the body, as if it were whole), a function that changes the body, or None.
    """

    target: str
    fault: Callable[[str, str], Fault] = lambda _method, _path: None
    token: str = ""
    """If set, a request without it is answered 401 (RFC 6750)."""
    seen: list[tuple[str, str, str]] = field(default_factory=list)
    """Method, path and Range field of each request."""
    url: str = ""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    spoiler: Spoiler

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.spoiler.seen.append((self.command, self.path, self.headers.get("Range", "")))
        fault = self.spoiler.fault(self.command, unquote(self.path))
        if self.spoiler.token and self.headers.get("Authorization") != f"Bearer {self.spoiler.token}":
            fault = 401
        if fault == "drop":
            return self._hang_up()
        if isinstance(fault, int | tuple):
            status, kind, content = fault if isinstance(fault, tuple) else (fault, "application/xml", SPOILT)
            length = [("Content-Length", "0")] if self.command == "HEAD" else []
            return self._answer(status, [("Content-Type", kind), *length], content)
        upstream = http.client.HTTPConnection(self.spoiler.target.partition("://")[2], timeout=120)
        upstream.request(self.command, self.path, body, dict(self.headers))
        answer = upstream.getresponse()
        content = answer.read()
        headers = [(name, value) for name, value in answer.getheaders() if name.lower() not in HOP_BY_HOP]
        if self.command == "HEAD":
            headers.append(("Content-Length", answer.getheader("Content-Length", "0")))
        if callable(fault):
            content = fault(content)
        upstream.close()
        content = content[: len(content) // 2] if fault == "short" else content
        return self._answer(answer.status, headers, content, cut=fault == "cut")

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass_on  # noqa: N815 - names of http.server

    def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes, cut: bool = False) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(content[: len(content) // 2] if cut else content)
        if cut:
            self.wfile.flush()
            self._hang_up()

    def _hang_up(self) -> None:
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Say nothing: a client that does not trust our certificate hangs up."""


@contextmanager
def spoiling(target: str, certificate: Path | None = None) -> Iterator[Spoiler]:
    """Run a proxy to a server, e.g. ``http://127.0.0.1:5000``; by TLS with a file of key and certificate."""
    spoiler = Spoiler(target)
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"spoiler": spoiler}))
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    spoiler.url = f"http{'s' if certificate else ''}://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield spoiler
    finally:
        server.shutdown()
        server.server_close()


@dataclass
class Wire:
    """A TCP connection to a server, and what is done to it.

    Attributes
    ----------
    first : callable
        From the number of the connection, counted from 0, to what is answered in the server's place, after
        which it ends; None to pass it on.
    cut_after : callable
        From the number of the connection to the bytes, of both directions, after which it ends; None for never.
    """

    target: int
    first: Callable[[int], bytes | None] = lambda _number: None
    cut_after: Callable[[int], int | None] = lambda _number: None
    connections: int = 0
    port: int = 0


class _Passer(BaseRequestHandler):
    wire: Wire

    def handle(self) -> None:
        """One connection."""
        number, self.wire.connections = self.wire.connections, self.wire.connections + 1
        answer, self.left = self.wire.first(number), self.wire.cut_after(number)
        if answer is not None:
            self.request.recv(1 << 16)
            self.request.sendall(answer)
            self.request.shutdown(socket.SHUT_WR)
            with suppress(OSError):
                while self.request.recv(1 << 16):
                    pass  # who closes with something unread resets the connection, and the answer may be lost
            return
        with socket.create_connection(("127.0.0.1", self.wire.target), 120) as server:
            back = Thread(target=self._pump, args=(server, self.request), daemon=True)
            back.start()
            self._pump(self.request, server)
            back.join()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while (self.left is None or self.left > 0) and (data := source.recv(1 << 14)):
                target.sendall(data)
                self.left = None if self.left is None else self.left - len(data)
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


@contextmanager
def wiring(target: int) -> Iterator[Wire]:
    """Run a proxy of TCP to a port of this machine."""
    wire = Wire(target)
    server = ThreadingTCPServer(("127.0.0.1", 0), type("Passer", (_Passer,), {"wire": wire}), bind_and_activate=True)
    server.daemon_threads = True
    wire.port = server.server_address[1]
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield wire
    finally:
        server.shutdown()
        server.server_close()
