"""A port for a server of our own that cannot be told to find one for itself."""

from __future__ import annotations

import secrets
import socket
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Final

_GIVEN_OUT: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_FIRST: Final = 10_000
_KEPT: Final = 64
_ours: Final[deque[socket.socket]] = deque()


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens, below those that Linux gives to connections going out.

    So none of these takes it until the server listens. Nor does who asks at the port whether the server is up meet
    himself: one that Linux gives out may be given to the very connection that asks, which then stands (RFC 9293 3.5).
    Nor is it given to anybody else by this function, here or in another process, before 64 more were given out here:
    a server may take long to listen, or call back late.
    """
    beyond = int(_GIVEN_OUT.read_text().split()[0])
    while beyond > _FIRST:
        port = _FIRST + secrets.randbelow(beyond - _FIRST)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            _keep(port)
            return port
    with socket.create_server(("127.0.0.1", 0)) as free:  # a machine that gives out nearly all
        return int(free.getsockname()[1])


def _keep(port: int) -> None:
    """Mark a port as given out, by taking the one of UDP that has its number; raises OSError if somebody has it."""
    mark = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        mark.bind(("127.0.0.1", port))
    except OSError:
        mark.close()
        raise
    _ours.append(mark)
    if len(_ours) > _KEPT:
        _ours.popleft().close()
