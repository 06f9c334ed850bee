"""A cell on Kubernetes: what it is made of, and where it stands."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ... import Error

MOST_NAME = 47
"""Characters of a RayJob's name: KubeRay 1.7 refuses more (ValidateRayJobMetadata)."""

MOST_WORKERS = 200
"""Of one cell: its head has to keep up."""

RAY_WITH_PRIORITIES = (2, 56)
"""The first Ray whose autoscaler prefers one group of workers to another."""

CELL_VARIABLE = "VOXFLEET_CELL"
"""Environment variable that tells a driver the label ``cell`` of its machines."""

GROUP_VARIABLE = "VOXFLEET_GROUP"
"""Environment variable that tells an agent which group of machines its own is of: one of those below, or yours."""

SPOT, ON_DEMAND, FALLBACK = "spot", "on-demand", "fallback"
"""Groups of a cell's workers."""

CPU, CPU_FALLBACK = "cpu", "cpu-fallback"
"""Groups of those that have no GPU beside those that have."""

HEAD = "head"
"""Group of the heads of cells, where their drivers run: a driver there is paid for as a head."""

ENDED = ("Complete", "Failed")
"""Values of a RayJob's jobDeploymentStatus after which it does nothing more."""

DELETING = "Deleting"
"""Stands in a CellState for a RayJob that is deleted and goes once its machines are gone."""

_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_DIGEST = re.compile(r"[^\s@]+@sha256:[0-9a-f]{64}")


class BadCell(Error):
    """A cell that Kubernetes or KubeRay would refuse, that would lose work, or has machines with nothing to do."""

    code = "BAD_CELL"

    def __init__(self, cell: str, reason: str) -> None:
        super().__init__(cell, reason)

    def __str__(self) -> str:
        return f"{self.args[0]}: {self.args[1]}"


@dataclass(frozen=True, slots=True)
class Platform:
    """How a kind of Kubernetes cluster labels its machines.

    Attributes
    ----------
    market : str
        Node label that tells spot from on demand; empty: there is no such label.
    spot, on_demand : str
        Its values; `on_demand` empty: the label is not there.
    accelerator : str
        Node label with the GPU's model.
    """

    market: str = ""
    spot: str = ""
    on_demand: str = ""
    accelerator: str = ""


PLATFORMS = {
    "gke": Platform("cloud.google.com/gke-spot", "true", "", "cloud.google.com/gke-accelerator"),
    "eks": Platform("eks.amazonaws.com/capacityType", "SPOT", "ON_DEMAND", "k8s.amazonaws.com/accelerator"),
    "karpenter": Platform("karpenter.sh/capacity-type", "spot", "on-demand", "karpenter.k8s.aws/instance-gpu-name"),
    "any": Platform(),
}


@dataclass(frozen=True, slots=True)
class Workers:
    """The machines of a cell that work.

    Attributes
    ----------
    number : int
        Of workers at once, each with one agent.
    fallback : int
        How many of them may be on demand where there are no spot machines; 0: wait for spot.
    spot : bool
        False: all on demand.
    cpus, memory_bytes : int
        Asked for by each.
    gpu : bool
        Whether each gets a GPU.
    accelerator : str
        The GPU's model as the platform's node label has it; empty: any.
    """

    number: int
    fallback: int
    spot: bool
    cpus: int
    memory_bytes: int
    gpu: bool
    accelerator: str = ""


@dataclass(frozen=True, slots=True)
class Access:
    """What a cell is given by reference; no secret stands in a manifest.

    Attributes
    ----------
    secrets : tuple of str
        Secrets whose entries become environment variables, of head and workers.
    ledger_secret : str
        Secret whose entry ``url`` is the address of a shared ledger, and ``password``, if any, the password for it.
    claim : str
        PersistentVolumeClaim in which the run is kept, where its ledger is a file.
    service_account : str
        Of head and workers; empty: the namespace's default.
    """

    secrets: tuple[str, ...] = ()
    ledger_secret: str = ""
    claim: str = ""
    service_account: str = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a run.

    Attributes
    ----------
    image : str
        By digest: ``NAME@sha256:...``.
    words : tuple of str
        The command that the cell is for.
    deadline_s : float
        Of that command.
    queue : str
        Kueue's LocalQueue; empty: none.
    beside : Workers or None
        Workers without GPUs beside those that have them, on the same market.

    Raises
    ------
    BadCell
        If Kubernetes or KubeRay would refuse it, the image is not given by digest, or the run would
        die with the cell.
    """

    run: str
    name: str
    namespace: str
    image: str
    words: tuple[str, ...]
    deadline_s: float
    workers: Workers
    access: Access
    platform: Platform
    ray_version: str
    queue: str = ""
    beside: Workers | None = None

    def __post_init__(self) -> None:
        job = self.job
        if not _NAME.fullmatch(job) or len(job) > MOST_NAME:
            raise BadCell(job, f"a cell's name has small letters, digits and -, and {MOST_NAME} characters at most")
        if not _DIGEST.fullmatch(self.image):
            raise BadCell(job, f"image {self.image} is not given by digest, NAME@sha256:...")
        if not self.access.ledger_secret and not self.access.claim:
            raise BadCell(job, "the run would die with its cell: give --ledger-secret or --claim")
        numbers = [each.number for each in (self.workers, self.beside) if each]
        if min(numbers) < 1 or sum(numbers) > MOST_WORKERS:
            raise BadCell(job, f"{sum(numbers)} workers: a cell has 1 to {MOST_WORKERS}; take more cells")

        if _version(self.ray_version) < RAY_WITH_PRIORITIES and self.falls_back:
            raise BadCell(job, f"Ray {self.ray_version} cannot fall back from spot (2.56 can): take --fallback 0")

    @property
    def falls_back(self) -> bool:
        """Whether on-demand workers take the place of spot ones that are not to be had, of one kind or the other."""
        return any(self.falls_back_of(each) for each in (self.workers, self.beside) if each)

    def falls_back_of(self, workers: Workers) -> bool:
        """Whether these do."""
        return workers.spot and bool(self.platform.market) and workers.fallback > 0

    @property
    def job(self) -> str:
        """Name of the RayJob."""
        return f"{self.run}-{self.name}"

    @property
    def labels(self) -> dict[str, str]:
        """On every object of the cell: a provider's bill is divided by them."""
        return {"app.kubernetes.io/name": "voxfleet", "run": self.run, "cell": self.name}


@dataclass(frozen=True, slots=True)
class CellState:
    """Where one RayJob stands.

    Attributes
    ----------
    deployment : str
        jobDeploymentStatus: Initializing, Running, Complete, Failed, Suspended, Retrying, Waiting; empty at first;
        or `DELETING`.
    job : str
        jobStatus: PENDING, RUNNING, STOPPED, SUCCEEDED, FAILED; empty at first.
    workers : str
        Available of desired.
    """

    name: str
    run: str
    cell: str
    deployment: str
    job: str
    reason: str
    message: str
    started: str
    ended: str
    workers: str

    @property
    def over(self) -> bool:
        """Whether it does nothing more."""
        return self.deployment in ENDED


def cell_label() -> str:
    """Label ``cell`` of the machines of this driver; empty: they have none."""
    return os.environ.get(CELL_VARIABLE, "")


def machine_group() -> str:
    """Group of machines that this one is of; empty: of none."""
    return os.environ.get(GROUP_VARIABLE, "")


def state_of(job: Mapping[str, Any]) -> CellState:
    """Where a RayJob stands, as the API server gives it."""
    metadata, status = job["metadata"], job.get("status") or {}
    labels, cluster = metadata.get("labels", {}), status.get("rayClusterStatus") or {}
    return CellState(
        name=metadata["name"],
        run=labels.get("run", ""),
        cell=labels.get("cell", ""),
        deployment=DELETING if "deletionTimestamp" in metadata else status.get("jobDeploymentStatus", ""),
        job=status.get("jobStatus", ""),
        reason=status.get("reason", ""),
        message=status.get("message", ""),
        started=status.get("startTime", ""),
        ended=status.get("endTime", ""),
        workers=f"{cluster.get('availableWorkerReplicas', 0)}/{cluster.get('desiredWorkerReplicas', 0)}",
    )


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2] if part.isdigit())
