"""Consumption: what a stage used, a physical fact; and the meter that fills it."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Consumption:
    """What one stage of one attempt used on the machine it ran on.

    Attributes
    ----------
    stage : str
        ``retrieve``, ``read``, ``segment``, ``measure``, ``encode``, ``store``.
    started : float
        Unix time in UTC seconds.
    wall_s, cpu_s, gpu_s : float
        Seconds; `gpu_s` is the time for which the stage held the GPU.
    peak_bytes : int
        Highest resident memory, so far, of the process that ran it.
    bytes_in, bytes_out : int
        Read from and written to archives.
    """

    stage: str
    started: float
    wall_s: float
    cpu_s: float
    gpu_s: float = 0.0
    peak_bytes: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


@dataclass(slots=True)
class Meter:
    """Fills one Consumption per stage of an attempt, also for a stage that raises."""

    consumption: list[Consumption] = field(default_factory=list)
    stage: str = ""
    """The stage that is running, or ran last: the one to name when something is raised."""
    bytes_in: int = 0
    bytes_out: int = 0

    @contextmanager
    def measure(self, stage: str, *, holds_gpu: bool = False) -> Iterator[Meter]:
        """Meter the block; inside it, add to `bytes_in` and `bytes_out`."""
        self.stage, self.bytes_in, self.bytes_out = stage, 0, 0
        started, wall, cpu = time.time(), time.perf_counter(), _cpu_s()
        try:
            yield self
        finally:
            wall_s = time.perf_counter() - wall
            self.consumption.append(
                Consumption(
                    stage=stage,
                    started=started,
                    wall_s=wall_s,
                    cpu_s=_cpu_s() - cpu,
                    gpu_s=wall_s if holds_gpu else 0.0,
                    peak_bytes=_peak_bytes(),
                    bytes_in=self.bytes_in,
                    bytes_out=self.bytes_out,
                )
            )


def _cpu_s() -> float:
    """CPU seconds of this process, its threads, and its ended children."""
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def _peak_bytes() -> int:
    # ru_maxrss is in kilobytes on Linux (getrusage(2)).
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
