"""Consumption: what a stage used, a physical fact; and the meter that fills it."""

from __future__ import annotations

from dataclasses import dataclass


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
        Highest resident memory of the process that ran it.
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
