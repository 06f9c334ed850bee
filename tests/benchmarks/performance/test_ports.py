"""Ports for servers of our own."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from voxfleet.benchmarks.performance.ports import free_port


def test_no_connection_is_given_the_port() -> None:
    """A free port is none of those that Linux gives to connections going out, and refuses whoever asks there."""
    port = free_port()
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert 1024 <= port < first
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port)).close()
    with socket.create_server(("127.0.0.1", port)):
        assert free_port() != port
