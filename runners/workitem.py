"""Workitem and Outcome: all that crosses the network."""

from __future__ import annotations

import errno
import hashlib
import json
from dataclasses import dataclass, field
from enum import StrEnum

from .. import Error, __version__
from ..enrich.archives.archive import StoredObject
from .consumption import Consumption

SCHEMA_VERSION = 2
"""Raised when the same inputs give another object by our own design."""


NO_SPACE, WORKER_STUCK = "NO_SPACE", "WORKER_STUCK"
"""Codes of lost attempts whose machine cannot go on: its own disk is full, or a process on it does not end."""

TYPICAL_SLICE_BYTES = 512 * 512 * 2
"""Size taken for an instance where the archive does not say: orders work and keeps room for it, prices nothing."""

_SORTED = json.JSONEncoder(sort_keys=True)


class State(StrEnum):
    """Procedure Step State of a workitem (PS3.4 CC.1.1)."""

    SCHEDULED = "SCHEDULED"
    IN_PROGRESS = "IN PROGRESS"
    COMPLETED = "COMPLETED"
    CANCELED = "CANCELED"


@dataclass(frozen=True, slots=True)
class Workitem:
    """One series to be enriched by one model (PS3.4 CC, Unified Procedure Step).

    Attributes
    ----------
    source, target : str
        Archive URIs; not part of the key.
    model, model_version, weights_sha256 : str
        From the model's card.
    parameters : tuple of (str, str)
        All of the model's parameters, sorted by name.
    segmentation_type : str
        ``BINARY``, ``BINARY_DEFLATED`` or ``LABELMAP``: `enrich.encoding.seg_kinds`.
    repair : bool
        Whether tilt and uneven gaps are resampled.
    features : str
        Content of a parameter file of pyradiomics (`enrich.features.feature_parameters`); empty
        for the published features.
    """

    study_instance_uid: str
    series_instance_uid: str
    modality: str
    instances: int
    source: str
    target: str
    model: str
    model_version: str
    weights_sha256: str
    parameters: tuple[tuple[str, str], ...] = ()
    segmentation_type: str = "BINARY"
    repair: bool = False
    bytes: int | None = None
    features: str = ""

    @property
    def size_bytes(self) -> int:
        """Of its series, guessed from its instances where the archive does not say."""
        return self.bytes if self.bytes is not None else self.instances * TYPICAL_SLICE_BYTES

    @property
    def key(self) -> str:
        """SHA-256 of all that decides the result: the key of idempotence, in hex."""
        identity = {
            "series": self.series_instance_uid,
            "model": self.model,
            "model_version": self.model_version,
            "weights": self.weights_sha256,
            "parameters": sorted(self.parameters),
            "segmentation_type": self.segmentation_type,
            "repair": self.repair,
            "platform": __version__,
            "schema": SCHEMA_VERSION,
            **({"features": self.features} if self.features else {}),
        }
        return hashlib.sha256(_SORTED.encode(identity).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt did not complete.

    Attributes
    ----------
    stage, code, message : str
        Where, the reason in capitals, and one line for people.
    retryable : bool
        Whether the same work may succeed when tried again.
    refused : bool
        Whether the input breaks a rule: nothing failed, nothing is tried again.
    lost : bool
        Whether the infrastructure is to blame (a worker killed from outside), and not the item.
    outage : bool
        Whether an archive that all machines need did not answer: lost, and to be tried again after a pause.
    """

    stage: str
    code: str
    message: str
    retryable: bool = False
    refused: bool = False
    lost: bool = False
    outage: bool = False

    @property
    def of_the_machine(self) -> bool:
        """Whether the machine is to blame, and another workitem would fare no better on it."""
        return self.lost and self.code in (NO_SPACE, WORKER_STUCK)

    @classmethod
    def from_error(cls, stage: str, error: BaseException) -> Failure:
        """The failure that an exception stands for; one line, without a traceback."""
        message = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, Error):
            return cls(stage, error.code, message, error.retryable, error.refused)
        if isinstance(error, OSError) and error.errno is not None:
            code = NO_SPACE if error.errno == errno.ENOSPC else errno.errorcode.get(error.errno, "OSError")
            return cls(stage, code, message)
        return cls(stage, type(error).__name__, message)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one attempt at a workitem ended.

    Attributes
    ----------
    key : str
        The workitem's.
    state : State
        COMPLETED, or CANCELED with a failure.
    stored : tuple of StoredObject
        Read back and compared; in order SEG, SR.
    repairs, failed_features : tuple of str
        What was done or left out, in sentences.
    """

    key: str
    state: State
    consumption: tuple[Consumption, ...] = ()
    stored: tuple[StoredObject, ...] = ()
    failure: Failure | None = None
    repairs: tuple[str, ...] = ()
    failed_features: tuple[str, ...] = ()
    node: str = field(default="")
