"""A server that gives tokens, as an OpenID Connect provider, as Google, and as the metadata server of its machines.

To a client by its secret (RFC 6749 4.4), to a service account by a signed assertion (RFC 7523).
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs

from google.auth import jwt

CLIENT, SECRET = "voxfleet", "cl1ent-s3cret"
METADATA = {"Metadata-Flavor": "Google"}


@dataclass
class TokenDouble:
    """What the server gives, and what it gave.

    Attributes
    ----------
    life_s : float
        Of each token.
    public_key : bytes
        Certificate or key (PEM) by which assertions of a service account are checked.
    answers : list of (int, bytes)
        Status and body of the next answers, in order, instead of tokens.
    """

    url: str = ""
    life_s: float = 3600.0
    public_key: bytes = b""
    answers: list[tuple[int, bytes]] = field(default_factory=list)
    good_until: dict[str, float] = field(default_factory=dict)
    """Token -> when it expires, of all that were given."""
    scopes: set[str] = field(default_factory=set)
    """That were asked for."""

    def lets_in(self, authorization: str) -> bool:
        """Whether an Authorization field bears a token of ours that has not expired."""
        return time.monotonic() < self.good_until.get(authorization.removeprefix("Bearer "), 0.0)

    def revoke(self) -> None:
        """Let no token in that was given so far."""
        self.good_until = dict.fromkeys(self.good_until, 0.0)


@contextmanager
def running_tokens() -> Iterator[TokenDouble]:
    """Run the server on a free port of 127.0.0.1."""
    double = TokenDouble()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"double": double}))
    server.daemon_threads = True
    double.url = f"http://127.0.0.1:{server.server_port}/token"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield double
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    double: TokenDouble

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        if self.double.answers:
            self._say(*self.double.answers.pop(0))
        elif self._known(form):
            self._give()
        else:
            # As a careless provider would: it quotes what it got.
            said = {"error": "invalid_client", "error_description": f"{self.headers['Authorization']} {form}"}
            self._say(401, json.dumps(said).encode())

    def do_GET(self) -> None:
        if self.headers["Metadata-Flavor"] != "Google":
            self._say(403, b"")
        elif self.path.partition("?")[0].endswith("/token"):
            self._give()
        elif "service-accounts" in self.path:
            account = {"email": "fleet@example.iam.gserviceaccount.com", "scopes": [], "aliases": ["default"]}
            self._say(200, json.dumps(account).encode())
        else:
            self._say(200, b"project" if self.path.endswith("project-id") else b"")

    def _known(self, form: dict[str, list[str]]) -> bool:
        self.double.scopes.update(form.get("scope", []))
        if form["grant_type"] == ["client_credentials"]:
            basic = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
            return self.headers["Authorization"] == f"Basic {basic}"
        claims = jwt.decode(form["assertion"][0], certs=self.double.public_key)
        self.double.scopes.add(claims["scope"])
        return True

    def _give(self) -> None:
        token = f"t0ken-{len(self.double.good_until)}"
        self.double.good_until[token] = time.monotonic() + self.double.life_s
        # As Keycloak answers, with scopes that nobody asked for.
        said = {"access_token": token, "token_type": "Bearer", "expires_in": self.double.life_s}
        said |= {"refresh_expires_in": 0, "not-before-policy": 0, "scope": "openid profile email"}
        self._say(200, json.dumps(said).encode())

    def _say(self, status: int, body: bytes) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **METADATA}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
