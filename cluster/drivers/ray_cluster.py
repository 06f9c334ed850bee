"""The Ray cluster of a cell: one that is there, or one of this machine's own; and what Ray says of it in a line."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import ray
from ray._private import ray_constants
from ray.exceptions import RayActorError, RayError

from .agent import CellFailed, CellSettings
from .kinds import Kind

LOOPBACK = "127.0.0.1"

OBJECT_STORE_BYTES = 80 * 2**20
"""Shared memory of a cluster on this machine: outcomes are a few kB, pixels never travel."""

TAKEN_AWAY = "terminated expectedly"
"""What Ray says of an agent whose node was told to end (SIGTERM), and did; for one drained before it has a flag."""

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def connect(settings: CellSettings) -> bool:
    """Connect to the cluster, or start one on this machine; whether it is ours to end.

    Raises
    ------
    CellFailed
        If there is none.
    """
    if ray.is_initialized():
        return False
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING}
    if settings.address is None:
        options |= {
            # Not None: that would follow $RAY_ADDRESS to some other cluster.
            "address": "local",
            "num_cpus": max(1, round(sum(kind.number * kind.cpus for kind in settings.kinds))),
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE_BYTES,
            "_node_ip_address": LOOPBACK,
        }
        if gpus := sum(kind.number * kind.gpus for kind in settings.kinds):
            options["num_gpus"] = max(1, round(gpus))
        options["resources"] = dict(sum((_all_of(kind) for kind in settings.kinds), Counter[str]()))
    else:
        options["address"] = settings.address
    try:
        with _loopback_only() if settings.address is None else nullcontext():
            ray.init(**options)
    except (RayError, ConnectionError, RuntimeError, ValueError) as exc:
        raise CellFailed(f"no Ray cluster at {settings.address or 'this machine'}: {exc}") from exc
    return True


def nodes_alive() -> set[str]:
    """Host names of the nodes that Ray takes for alive."""
    return {node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"]}


def was_taken_away(error: RayError) -> bool:
    """Whether an agent went with its node after the node was told to go."""
    return isinstance(error, RayActorError) and (error.preempted or TAKEN_AWAY in str(error))


def line_of(error: Exception) -> str:
    """The first line and the last of what Ray says: what happened, and the cause."""
    lines = [" ".join(line.split()) for line in _COLOUR.sub("", str(error)).strip().splitlines()] or [
        type(error).__name__
    ]
    return lines[0] if len(lines) == 1 else f"{lines[0]} {lines[-1][:300]}"


def _all_of(kind: Kind) -> Counter[str]:
    """What all agents of a kind reserve of the cluster's own resources."""
    return Counter({name: kind.number * each for name, each in kind.resources.items()})


@contextmanager
def _loopback_only() -> Iterator[None]:
    """Let nothing of a cluster for one machine listen beyond this machine.

    Asked for 127.0.0.1, Ray takes the outward address instead and listens on all interfaces,
    unless this is set (as it is on macOS): `services.resolve_ip_for_localhost`, Ray 2.60.
    """
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before
