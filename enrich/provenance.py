"""Activity: how a result came about, in the words of W3C PROV; and runs of many."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from .. import Error
from ..models.model import ModelCard
from .archives.archive import StoredObject
from .series import Instance


class InvalidActivity(Error):
    """An activity that cannot have been."""

    code = "INVALID_ACTIVITY"

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)


class StageUse(Protocol):
    """What one stage used; `runners.consumption.Consumption` is one."""

    @property
    def stage(self) -> str:
        """Name of the stage."""
        ...

    @property
    def started(self) -> float:
        """Unix time in UTC seconds."""
        ...

    @property
    def wall_s(self) -> float:
        """Seconds that it took."""
        ...

    @property
    def cpu_s(self) -> float:
        """CPU seconds."""
        ...

    @property
    def gpu_s(self) -> float:
        """Seconds for which it held the GPU."""
        ...

    @property
    def peak_bytes(self) -> int:
        """Highest resident memory of its process."""
        ...

    @property
    def bytes_in(self) -> int:
        """Read from archives."""
        ...

    @property
    def bytes_out(self) -> int:
        """Written to archives."""
        ...


@dataclass(frozen=True, slots=True)
class Machine:
    """What a node is; never its host name, which may be a hospital's.

    Attributes
    ----------
    node : str
        Name of the node within the run.
    os : str
        Kernel and distribution, e.g. ``Linux 6.1, Debian GNU/Linux 12``.
    cpu_cores : int
        That this process may use.
    gpus : tuple of str
        Models; empty for none.
    """

    node: str
    os: str
    cpu_model: str
    cpu_cores: int
    memory_bytes: int
    gpus: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CostStatement:
    """What an activity cost, by which price: an opinion, formed later than all else here."""

    usd: Decimal
    price_source: str
    price_dated: str


@dataclass(frozen=True, slots=True)
class Activity:
    """One attempt at one workitem that gave objects (PROV-DM 5.1.2).

    Attributes
    ----------
    key : str
        The workitem's key.
    modality : str
        Of the source series, whose UIDs stand before it.
    source : str
        URI of the archive; of it documents leave out what looks like a secret, and where on this machine a folder lies.
    used : tuple of Instance
        The source instances with the digests of their files; their paths are not told.
    card : ModelCard
        Of the model.
    parameters, settings : mapping of str to str
        The model's, and the platform's (``segmentation_type``, ``repair``).
    software : mapping of str to str
        Package name to version.
    git_commit : str or None
        Of Voxfleet, where it is known.
    started, ended : datetime
        Aware.
    stages : tuple of StageUse
        In the order in which they ran.
    generated : tuple of StoredObject
        The SEG, then the SR.
    repairs, failed_features : tuple of str
        What was mended or left out, in sentences.
    """

    key: str
    study_instance_uid: str
    series_instance_uid: str
    modality: str
    source: str
    used: tuple[Instance, ...]
    card: ModelCard
    parameters: Mapping[str, str]
    settings: Mapping[str, str]
    software: Mapping[str, str]
    git_commit: str | None
    machine: Machine
    started: datetime
    ended: datetime
    stages: tuple[StageUse, ...]
    generated: tuple[StoredObject, ...]
    repairs: tuple[str, ...] = ()
    failed_features: tuple[str, ...] = ()
    cost: CostStatement | None = None

    def __post_init__(self) -> None:
        check_times(self.series_instance_uid, self.started, self.ended)


@dataclass(frozen=True, slots=True)
class Member:
    """The provenance file of one result of a run.

    Attributes
    ----------
    path : str
        Relative to the run's own document, with ``/``.
    sha256 : str
        Of the file.
    """

    series_instance_uid: str
    model: str
    path: str
    sha256: str


@dataclass(frozen=True, slots=True)
class RunActivity:
    """A whole run: one command's work on one collection.

    Attributes
    ----------
    models : tuple of str
        ``name version``.
    totals : mapping of str to int
        Series by what became of them.
    """

    name: str
    source: str
    target: str
    models: tuple[str, ...]
    parameters: Mapping[str, str]
    software: Mapping[str, str]
    git_commit: str | None
    started: datetime
    ended: datetime
    totals: Mapping[str, int]
    members: tuple[Member, ...]
    cost: CostStatement | None = None

    def __post_init__(self) -> None:
        check_times(self.name, self.started, self.ended)


def check_times(name: str, started: datetime, ended: datetime) -> None:
    """Refuse times that are not aware, or that run backwards.

    Raises
    ------
    InvalidActivity
        Naming what they are of.
    """
    if started.utcoffset() is None or ended.utcoffset() is None:
        raise InvalidActivity(name, "times without a time zone")
    if ended < started:
        raise InvalidActivity(name, f"ended {ended.isoformat()} before it started {started.isoformat()}")
