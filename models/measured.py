"""What series took on a machine where a model was measured: read from its card, for who plans a run."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True, slots=True)
class MeasuredSeries:
    """One series that went through all stages, from an archive into an archive.

    Attributes
    ----------
    slices : int
        Of 512 x 512 pixels.
    seconds : float
        CPU seconds of all stages; for a model on a GPU, seconds of its node.
    gpu_s : float
        Of these, for how many the GPU was held; 0 without one.
    bytes_in, bytes_out : int
        Read from the source, and stored (SEG of type BINARY, and SR).
    """

    slices: int
    seconds: float
    gpu_s: float
    bytes_in: int
    bytes_out: int


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured, where and when."""

    machine: str
    date: date
    series: tuple[MeasuredSeries, ...]
