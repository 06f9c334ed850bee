"""Ports for servers of our own."""

from __future__ import annotations

import secrets
import socket
import subprocess
import sys
from itertools import repeat
from pathlib import Path

import pytest
from voxfleet.benchmarks.performance.ports import _FIRST, free_port


def test_no_connection_is_given_the_port() -> None:
    """A free port is none of those that Linux gives to connections going out, and refuses whoever asks there."""
    port = free_port()
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert 1024 <= port < first
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port)).close()
    with socket.create_server(("127.0.0.1", port)):
        assert free_port() != port


def test_no_port_is_given_out_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever hits upon a port that was given out, here or in another process, takes another; a server may have it."""
    port, usual = free_port(), secrets.randbelow
    hits = repeat(port - _FIRST, 3)
    monkeypatch.setattr(secrets, "randbelow", lambda beyond: next(hits, usual(beyond)))
    assert free_port() != port
    assert list(hits) == []
    ask = (
        "import secrets, sys; from voxfleet.benchmarks.performance.ports import _FIRST, free_port\n"
        "usual, hits = secrets.randbelow, [int(sys.argv[1]) - _FIRST] * 3\n"
        "secrets.randbelow = lambda beyond: hits.pop() if hits else usual(beyond)\n"
        "print(free_port(), hits)"
    )
    said = subprocess.run([sys.executable, "-c", ask, str(port)], check=True, capture_output=True, text=True).stdout
    assert not said.startswith(f"{port} ")
    assert said.endswith(" []\n")
    with socket.create_server(("127.0.0.1", port)) as server:
        socket.create_connection(server.getsockname()).close()
