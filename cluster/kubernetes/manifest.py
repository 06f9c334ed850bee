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
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from ..drivers.kinds import CPU_RESOURCE
from .cell import CELL_VARIABLE, CPU, CPU_FALLBACK, FALLBACK, GROUP_VARIABLE, HEAD, ON_DEMAND, SPOT, Cell, Workers

API_VERSION, KIND = "ray.io/v1", "RayJob"

GRACE_S = 25
"""From a worker's notice to its end; Google gives a spot machine 30 s, Amazon 120 s."""

SLACK_S = 3600
"""A cell may take so much longer than its command: machines start, and drain."""

ENDED_S = 60
"""From a job's end to that of its machines (KubeRay's ttlSecondsAfterFinished): its last words are read."""

GIB = 2**30
RUNS = "/var/lib/voxfleet"
"""Where runs are kept in a cell's machines."""

FALLBACKS = (FALLBACK, CPU_FALLBACK)
"""Groups that stand in for others."""

MANIFEST_SHA256 = "voxfleet/manifest-sha256"
"""Annotation that tells one version of a cell from another."""

_DEADLINE = re.compile(r"--deadline (\d+)s")


def manifest(cell: Cell) -> dict[str, Any]:
    """The cell's RayJob, as the API server takes it."""
    cluster: dict[str, Any] = {
        "rayVersion": cell.ray_version,
        "headGroupSpec": {
            "rayStartParams": {"num-cpus": "0", "dashboard-host": "0.0.0.0"},  # noqa: S104 - within its pod
            "template": _template(cell, _head(cell), None, spot=False),
        },
        "workerGroupSpecs": _groups(cell),
    }
    if cell.falls_back:
        # Priorities are those of Ray's second autoscaler, since Ray 2.56; KubeRay refuses them without it.
        cluster |= {"enableInTreeAutoscaling": True, "autoscalerOptions": {"version": "v2", "idleTimeoutSeconds": 60}}
        for group in cluster["workerGroupSpecs"]:
            group |= {"minReplicas": 0, "priority": 10}
            if group["groupName"] in FALLBACKS:
                group |= {"priority": 0, "replicas": 0}
    spec: dict[str, Any] = {
        "entrypoint": _entrypoint(cell.words),
        "submissionMode": "K8sJobMode",
        "activeDeadlineSeconds": round(cell.deadline_s) + SLACK_S,
        "backoffLimit": 3,
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": ENDED_S,
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


def groups_of(jobs: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """Names of the groups of the machines of cells."""
    workers = (group["groupName"] for job in jobs for group in job["spec"]["rayClusterSpec"]["workerGroupSpecs"])
    return frozenset((HEAD, *workers))


def within(job: Mapping[str, Any], left_s: float | None) -> dict[str, Any]:
    """The same cell, for a run that has no more than so many seconds left; None: as it is.

    Its command's deadline counts from its own begin, and a cell that replaces another begins late.
    It keeps its digest: how late it was created does not make it another cell.
    """
    spec = dict(job["spec"])
    told = _DEADLINE.search(spec["entrypoint"])
    if left_s is not None and told is not None and left_s < float(told[1]):
        seconds = max(1, round(left_s))
        spec["entrypoint"] = _DEADLINE.sub(f"--deadline {seconds}s", spec["entrypoint"])
        spec["activeDeadlineSeconds"] = seconds + SLACK_S
    return {**job, "spec": spec}


def _entrypoint(words: tuple[str, ...]) -> str:
    """The command for the shells of KubeRay's submitter and of Ray, one after the other; each gets it quoted.

    Series that failed (3) and a budget that is spent (4) are in the ledger. A job that failed would be
    done again on machines of its own.
    """
    script = f"{shlex.join(words)}; code=$?; [ $code -eq 3 ] || [ $code -eq 4 ] || exit $code"
    return shlex.join(("sh", "-c", script))


def _groups(cell: Cell) -> list[dict[str, Any]]:
    """The worker groups: each kind of workers, and those on demand that it falls back on."""
    spot = cell.workers.spot and bool(cell.platform.market)
    groups = []
    for workers, name, fallback in (
        (cell.workers, SPOT if spot else ON_DEMAND, FALLBACK),
        (cell.beside, CPU, CPU_FALLBACK),
    ):
        if workers is None:
            continue
        groups.append(_group(cell, name, workers, spot=spot))
        if cell.falls_back_of(workers):
            groups.append(_group(cell, fallback, replace(workers, number=workers.fallback), spot=False))
    return groups


def _group(cell: Cell, name: str, workers: Workers, *, spot: bool) -> dict[str, Any]:
    """One worker group; a worker is one agent, so that Ray puts no second one on it."""
    start = {"num-cpus": "1"} | ({"num-gpus": "1"} if workers.gpu else {})
    if name in (CPU, CPU_FALLBACK):
        # Quoted twice: the operator's shell takes the outer quotes away, and Ray's autoscaler expects them.
        start["resources"] = json.dumps(json.dumps({CPU_RESOURCE: 1}))
    return {
        "groupName": name,
        "replicas": workers.number,
        "minReplicas": workers.number,
        "maxReplicas": workers.number,
        "rayStartParams": start,
        "template": _template(cell, _worker(cell, name, workers), workers, spot=spot),
    }


def _template(cell: Cell, container: dict[str, Any], workers: Workers | None, *, spot: bool) -> dict[str, Any]:
    """A pod on a machine of one market: of one of these workers, or of the head."""
    kept: dict[str, Any] = {"name": "runs", "emptyDir": {}}
    if cell.access.claim and workers is None:
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
    terms = _terms(cell, workers, spot=spot)
    if terms:
        required = {"nodeSelectorTerms": [{"matchExpressions": terms}]}
        spec["affinity"] = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
    tolerations = []
    if spot:
        tolerations.append({"key": cell.platform.market, "operator": "Exists", "effect": "NoSchedule"})
    if workers and workers.gpu:
        tolerations.append({"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"})
    if tolerations:
        spec["tolerations"] = tolerations
    return {"metadata": {"labels": cell.labels}, "spec": spec}


def _terms(cell: Cell, workers: Workers | None, *, spot: bool) -> list[dict[str, Any]]:
    """What the labels of a pod's machine must be."""
    platform, terms = cell.platform, []
    value = platform.spot if spot else platform.on_demand
    if platform.market and value:
        terms.append({"key": platform.market, "operator": "In", "values": [value]})
    elif platform.market:
        terms.append({"key": platform.market, "operator": "DoesNotExist"})
    if workers and workers.accelerator and platform.accelerator:
        terms.append({"key": platform.accelerator, "operator": "In", "values": [workers.accelerator]})
    return terms


def _head(cell: Cell) -> dict[str, Any]:
    environment: list[dict[str, Any]] = [
        {"name": "VOXFLEET_RUNS", "value": RUNS},
        {"name": CELL_VARIABLE, "value": cell.name},
        {"name": GROUP_VARIABLE, "value": HEAD},
    ]
    if cell.access.ledger_secret:
        source = {"secretKeyRef": {"name": cell.access.ledger_secret, "key": "url"}}
        environment.append({"name": "VOXFLEET_LEDGER", "valueFrom": source})
        # No URL of a ledger holds a password: libpq takes it from here.
        password = {"secretKeyRef": {"name": cell.access.ledger_secret, "key": "password", "optional": True}}
        environment.append({"name": "PGPASSWORD", "valueFrom": password})
    return _container(cell, "head", environment, {"cpu": "2", "memory": "8Gi"}, {"memory": "8Gi"})


def _worker(cell: Cell, group: str, workers: Workers) -> dict[str, Any]:
    memory = f"{-(-workers.memory_bytes // GIB)}Gi"
    limits = {"memory": memory} | ({"nvidia.com/gpu": "1"} if workers.gpu else {})
    environment = [{"name": GROUP_VARIABLE, "value": group}]
    return _container(cell, "worker", environment, {"cpu": str(workers.cpus)} | limits, limits)


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
