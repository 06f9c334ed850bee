"""Where a run stands: how many workitems, at what rate, what they used and left."""

from __future__ import annotations

from dataclasses import dataclass

from ...enrich.archives.archive import StoredObject
from ...runners.workitem import Workitem
from .attempt import AttemptClass


@dataclass(frozen=True, slots=True)
class Usage:
    """What the ended attempts of one model with one outcome used together."""

    model: str
    outcome: AttemptClass
    attempts: int
    wall_s: float
    cpu_s: float
    gpu_s: float
    bytes_in: int
    bytes_out: int


@dataclass(frozen=True, slots=True)
class Recent:
    """Workitems settled (completed, refused, failed for good) in the last `span_s` seconds."""

    settled: int
    span_s: float

    @property
    def per_s(self) -> float:
        """Workitems settled per second; 0 where nothing was."""
        return self.settled / self.span_s if self.span_s > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Counts:
    """How many workitems stand where; `refused` and `failed` are both CANCELED.

    Attributes
    ----------
    outgrown : int
        Of the scheduled, those that ran out of memory and that no node of the run has the memory for: they fail
        unless a larger one comes.
    """

    scheduled: int = 0
    in_progress: int = 0
    completed: int = 0
    refused: int = 0
    failed: int = 0
    never_workitems: int = 0
    outgrown: int = 0

    @property
    def total(self) -> int:
        """Workitems, refused source objects aside."""
        return self.scheduled + self.in_progress + self.completed + self.refused + self.failed

    @property
    def open(self) -> int:
        """Workitems that still need something done."""
        return self.scheduled + self.in_progress


@dataclass(frozen=True, slots=True)
class Stored:
    """One object that a COMPLETED workitem left in the target archive."""

    key: str
    object: StoredObject


@dataclass(frozen=True, slots=True)
class Staged:
    """One object on its way from a staging store to the archive.

    Attributes
    ----------
    position : int
        Which of the workitem's objects it is.
    """

    workitem: Workitem
    object: StoredObject
    position: int


@dataclass(frozen=True, slots=True)
class Publication:
    """How many stored objects stand where on their way from a staging store to the archive."""

    waiting: int = 0
    published: int = 0
    rejected: int = 0


@dataclass(frozen=True, slots=True)
class Trouble:
    """One reason for which workitems, or source objects, were refused or failed.

    Attributes
    ----------
    stage : str
        Where; empty before the first.
    count : int
        How many.
    example : str
        What was said of one of them.
    """

    refused: bool
    stage: str
    code: str
    count: int
    example: str
