"""A cell as a KubeRay RayJob (ray.io/v1, KubeRay 1.7): one Ray cluster that does one command and is gone.

Pure: a description in, the manifest out. The head is on demand and takes no work; workers are on spot
machines, with on-demand ones to fall back on. Whatever happens to whoever started it, a cell ends: its
job has a deadline, and its cluster goes with its job.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from dataclasses import dataclass
from typing import Any

from .. import Error

API_VERSION, KIND = "ray.io/v1", "RayJob"

MOST_NAME = 47
"""Characters of a RayJob's name: KubeRay 1.7 refuses more (ValidateRayJobMetadata)."""

GRACE_S = 25
"""From a worker's notice to its end; Google gives a spot machine 30 s, Amazon 120 s."""

SLACK_S = 3600
"""A cell may take so much longer than its command: machines start, and drain."""

KEPT_S = 3600
"""A finished job can be looked at for so long."""

MOST_WORKERS = 200
"""Of one cell: its head has to keep up."""

RAY_WITH_PRIORITIES = (2, 56)
"""The first Ray whose autoscaler prefers one group of workers to another."""

GIB = 2**30
RUNS = "/var/lib/voxfleet"
"""Where runs are kept in a cell's machines."""

MANIFEST_SHA256 = "voxfleet/manifest-sha256"
"""Annotation that tells one version of a cell from another."""

_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_DIGEST = re.compile(r"[^\s@]+@sha256:[0-9a-f]{64}")


class BadCell(Error):
    """A cell that Kubernetes or KubeRay would refuse, or that would lose work."""

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
        Secret whose entry ``url`` is the address of a shared ledger.
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

    def __post_init__(self) -> None:
        job = self.job
        if not _NAME.fullmatch(job) or len(job) > MOST_NAME:
            raise BadCell(job, f"a cell's name has small letters, digits and -, and {MOST_NAME} characters at most")
        if not _DIGEST.fullmatch(self.image):
            raise BadCell(job, f"image {self.image} is not given by digest, NAME@sha256:...")
        if not self.access.ledger_secret and not self.access.claim:
            raise BadCell(job, "the run would die with its cell: give --ledger-secret or --claim")
        if not 1 <= self.workers.number <= MOST_WORKERS:
            raise BadCell(job, f"{self.workers.number} workers: a cell has 1 to {MOST_WORKERS}; take more cells")

        if _version(self.ray_version) < RAY_WITH_PRIORITIES and self.falls_back:
            raise BadCell(job, f"Ray {self.ray_version} cannot fall back from spot (2.56 can): take --fallback 0")

    @property
    def falls_back(self) -> bool:
        """Whether on-demand workers take the place of spot ones that are not to be had."""
        return self.workers.spot and bool(self.platform.market) and self.workers.fallback > 0

    @property
    def job(self) -> str:
        """Name of the RayJob."""
        return f"{self.run}-{self.name}"

    @property
    def labels(self) -> dict[str, str]:
        """On every object of the cell: a provider's bill is divided by them."""
        return {"app.kubernetes.io/name": "voxfleet", "run": self.run, "cell": self.name}


def manifest(cell: Cell) -> dict[str, Any]:
    """The cell's RayJob, as the API server takes it."""
    spot = cell.workers.spot and bool(cell.platform.market)
    groups = [_group(cell, "spot" if spot else "on-demand", cell.workers.number, spot=spot)]
    if cell.falls_back:
        groups.append(_group(cell, "fallback", cell.workers.fallback, spot=False))
    cluster: dict[str, Any] = {
        "rayVersion": cell.ray_version,
        "headGroupSpec": {
            "rayStartParams": {"num-cpus": "0", "dashboard-host": "0.0.0.0"},  # noqa: S104 - within its pod
            "template": _template(cell, _head(cell), spot=False),
        },
        "workerGroupSpecs": groups,
    }
    if len(groups) > 1:
        # Priorities are those of Ray's second autoscaler, since Ray 2.56; KubeRay refuses them without it.
        cluster |= {"enableInTreeAutoscaling": True, "autoscalerOptions": {"version": "v2", "idleTimeoutSeconds": 60}}
        groups[0] |= {"priority": 10, "minReplicas": 0}
        groups[1] |= {"priority": 0, "minReplicas": 0, "replicas": 0}
    spec: dict[str, Any] = {
        "entrypoint": _entrypoint(cell.words),
        "submissionMode": "K8sJobMode",
        "activeDeadlineSeconds": round(cell.deadline_s) + SLACK_S,
        "backoffLimit": 3,
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": KEPT_S,
        "rayClusterSpec": cluster,
    }
    labels = dict(cell.labels)
    if cell.queue:
        labels["kueue.x-k8s.io/queue-name"] = cell.queue
        spec["suspend"] = True
    digest = hashlib.sha256(json.dumps([labels, spec], sort_keys=True).encode()).hexdigest()
    metadata = {
        "name": cell.job,
        "namespace": cell.namespace,
        "labels": labels,
        "annotations": {MANIFEST_SHA256: digest},
    }
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec}


def _entrypoint(words: tuple[str, ...]) -> str:
    """The command for the shells of KubeRay's submitter and of Ray, one after the other; each gets it quoted.

    Series that failed (3) and a budget that is spent (4) are in the ledger. A job that failed would be
    done again on machines of its own.
    """
    script = f"{shlex.join(words)}; code=$?; [ $code -eq 3 ] || [ $code -eq 4 ] || exit $code"
    return shlex.join(("sh", "-c", script))


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2] if part.isdigit())


def _group(cell: Cell, name: str, number: int, *, spot: bool) -> dict[str, Any]:
    """One worker group; a worker is one agent, so that Ray puts no second one on it."""
    start = {"num-cpus": "1"} | ({"num-gpus": "1"} if cell.workers.gpu else {})
    return {
        "groupName": name,
        "replicas": number,
        "minReplicas": number,
        "maxReplicas": number,
        "rayStartParams": start,
        "template": _template(cell, _worker(cell), spot=spot),
    }


def _template(cell: Cell, container: dict[str, Any], *, spot: bool) -> dict[str, Any]:
    """A pod on a machine of one market."""
    works = container["name"] == "worker"
    kept: dict[str, Any] = {"name": "runs", "emptyDir": {}}
    if cell.access.claim and not works:
        kept = {"name": "runs", "persistentVolumeClaim": {"claimName": cell.access.claim}}
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": GRACE_S,
        "securityContext": {"runAsNonRoot": True, "fsGroup": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [kept, {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}}],
    }
    if cell.access.service_account:
        spec["serviceAccountName"] = cell.access.service_account
    terms = _terms(cell, spot=spot, works=works)
    if terms:
        required = {"nodeSelectorTerms": [{"matchExpressions": terms}]}
        spec["affinity"] = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
    tolerations = []
    if spot:
        tolerations.append({"key": cell.platform.market, "operator": "Exists", "effect": "NoSchedule"})
    if works and cell.workers.gpu:
        tolerations.append({"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"})
    if tolerations:
        spec["tolerations"] = tolerations
    return {"metadata": {"labels": cell.labels}, "spec": spec}


def _terms(cell: Cell, *, spot: bool, works: bool) -> list[dict[str, Any]]:
    """What the labels of a pod's machine must be."""
    platform, terms = cell.platform, []
    value = platform.spot if spot else platform.on_demand
    if platform.market and value:
        terms.append({"key": platform.market, "operator": "In", "values": [value]})
    elif platform.market:
        terms.append({"key": platform.market, "operator": "DoesNotExist"})
    if works and cell.workers.accelerator and platform.accelerator:
        terms.append({"key": platform.accelerator, "operator": "In", "values": [cell.workers.accelerator]})
    return terms


def _head(cell: Cell) -> dict[str, Any]:
    environment: list[dict[str, Any]] = [{"name": "VOXFLEET_RUNS", "value": RUNS}]
    if cell.access.ledger_secret:
        source = {"secretKeyRef": {"name": cell.access.ledger_secret, "key": "url"}}
        environment.append({"name": "VOXFLEET_LEDGER", "valueFrom": source})
    return _container(cell, "head", environment, {"cpu": "2", "memory": "8Gi"}, {"memory": "8Gi"})


def _worker(cell: Cell) -> dict[str, Any]:
    workers = cell.workers
    memory = f"{-(-workers.memory_bytes // GIB)}Gi"
    limits = {"memory": memory} | ({"nvidia.com/gpu": "1"} if workers.gpu else {})
    return _container(cell, "worker", [], {"cpu": str(workers.cpus)} | limits, limits)


def _container(
    cell: Cell, name: str, environment: list[dict[str, Any]], requests: dict[str, str], limits: dict[str, str]
) -> dict[str, Any]:
    return {
        "name": name,
        "image": cell.image,
        "env": environment,
        "envFrom": [{"secretRef": {"name": secret}} for secret in cell.access.secrets],
        "resources": {"requests": requests, "limits": limits},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "runs", "mountPath": RUNS}, {"name": "shm", "mountPath": "/dev/shm"}],  # noqa: S108
    }
