"""Manifests of cells: what KubeRay's own schema lets pass, and what a cell must be."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from voxfleet.cluster.drivers.kinds import CPU_RESOURCE
from voxfleet.cluster.kubernetes.cell import CELL_VARIABLE, GROUP_VARIABLE, PLATFORMS, Access, BadCell, Cell, Workers
from voxfleet.cluster.kubernetes.manifest import manifest

GIB = 2**30
IMAGE = "registry.example/voxfleet@sha256:" + "0123456789abcdef" * 4
CELL = Cell(
    run="nlst",
    name="c0",
    namespace="ct",
    image=IMAGE,
    words=("voxfleet", "enrich", "dicomweb+https://a/dw", "--param", "lung_hu=-500 $(id)"),
    deadline_s=8 * 3600,
    workers=Workers(100, 40, spot=True, cpus=4, memory_bytes=16 * GIB + 1, gpu=True, accelerator="nvidia-l4"),
    access=Access(("dicomweb",), "ledger", "", "runner"),
    platform=PLATFORMS["gke"],
    ray_version="2.60.0",
)
BESIDE = Workers(10, 0, spot=True, cpus=8, memory_bytes=8 * GIB, gpu=False)
"""Workers without GPUs beside those."""


def pods(job: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Specifications of head and workers, by group."""
    cluster = job["spec"]["rayClusterSpec"]
    groups = {each["groupName"]: each["template"]["spec"] for each in cluster["workerGroupSpecs"]}
    return {"head": cluster["headGroupSpec"]["template"]["spec"], **groups}


def market(pod: dict[str, Any]) -> list[dict[str, Any]]:
    """What the labels of a pod's machine must be."""
    (term,) = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    return term["matchExpressions"]


@pytest.mark.parametrize("platform", sorted(PLATFORMS))
@pytest.mark.parametrize("spot", [True, False])
@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ({"gpu": True, "fallback": 40}, {}),
        ({"gpu": True, "fallback": 0}, {"queue": "q", "beside": BESIDE}),
        ({"gpu": False, "fallback": 40}, {"queue": "q"}),
        ({"gpu": True, "fallback": 40}, {"beside": BESIDE}),
        ({"gpu": True, "fallback": 0}, {"beside": replace(BESIDE, fallback=4)}),
    ],
)
def test_kuberays_own_schema_lets_it_pass(
    rayjob_schema: Any, platform: str, spot: bool, kind: dict[str, Any], more: dict[str, Any]
) -> None:
    """Each kind of cell is a valid ray.io/v1 RayJob of KubeRay 1.7, with no field that the schema does not name."""
    workers = replace(CELL.workers, spot=spot, **kind)
    job = manifest(replace(CELL, platform=PLATFORMS[platform], workers=workers, **more))
    rayjob_schema.validate(json.loads(json.dumps(job)))
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")


def test_the_head_is_on_demand_and_takes_no_work() -> None:
    """No CPU of the head is Ray's to give; its machine is none of spot."""
    job = manifest(CELL)
    head = job["spec"]["rayClusterSpec"]["headGroupSpec"]
    assert head["rayStartParams"]["num-cpus"] == "0"
    assert market(pods(job)["head"]) == [{"key": "cloud.google.com/gke-spot", "operator": "DoesNotExist"}]
    assert "tolerations" not in pods(job)["head"]


def test_spot_first_and_on_demand_to_fall_back_on() -> None:
    """Two groups for the second autoscaler: spot has the higher priority, the other begins with none."""
    job = manifest(CELL)
    cluster = job["spec"]["rayClusterSpec"]
    spot, fallback = cluster["workerGroupSpecs"]
    assert (spot["groupName"], spot["replicas"], spot["maxReplicas"]) == ("spot", 100, 100)
    assert (fallback["groupName"], fallback["replicas"], fallback["maxReplicas"]) == ("fallback", 0, 40)
    assert spot["priority"] > fallback["priority"]
    assert cluster["enableInTreeAutoscaling"]
    assert cluster["autoscalerOptions"]["version"] == "v2"
    gpu = {"key": "cloud.google.com/gke-accelerator", "operator": "In", "values": ["nvidia-l4"]}
    assert market(pods(job)["spot"]) == [
        {"key": "cloud.google.com/gke-spot", "operator": "In", "values": ["true"]},
        gpu,
    ]
    assert gpu in market(pods(job)["fallback"])


@pytest.mark.parametrize("change", [{"fallback": 0}, {"spot": False}])
def test_one_group_has_a_fixed_size(change: dict) -> None:
    """Without a fallback nothing scales, and no priority is given, which KubeRay would refuse."""
    cluster = manifest(replace(CELL, workers=replace(CELL.workers, **change)))["spec"]["rayClusterSpec"]
    (group,) = cluster["workerGroupSpecs"]
    assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == (100, 100, 100)
    assert "enableInTreeAutoscaling" not in cluster
    assert "priority" not in group


def test_workers_ask_for_what_the_model_needs() -> None:
    """One GPU and one CPU of Ray each, so that there is one agent; 16 GiB and a byte are 17 GiB."""
    job = manifest(CELL)
    group = job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]
    assert group["rayStartParams"] == {"num-cpus": "1", "num-gpus": "1"}
    resources = pods(job)["spot"]["containers"][0]["resources"]
    assert resources["requests"] == {"cpu": "4", "memory": "17Gi", "nvidia.com/gpu": "1"}
    assert resources["limits"] == {"memory": "17Gi", "nvidia.com/gpu": "1"}


def test_everything_that_a_cell_must_have_is_there() -> None:
    """Field by field: of the job, of its head, of its groups, of every pod."""
    job = manifest(replace(CELL, queue="gpus"))
    spec, cluster = job["spec"], job["spec"]["rayClusterSpec"]
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert spec["activeDeadlineSeconds"] > CELL.deadline_s
    assert (spec["shutdownAfterJobFinishes"], spec["ttlSecondsAfterFinished"]) == (True, 60)
    assert spec["backoffLimit"] == 3
    assert (spec["suspend"], job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"]) == (True, "gpus")
    assert cluster["rayVersion"] == CELL.ray_version
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert [group["groupName"] for group in cluster["workerGroupSpecs"]] == ["spot", "fallback"]
    for name, pod in pods(job).items():
        (container,) = pod["containers"]
        assert container["image"] == IMAGE
        assert container["image"].partition("@sha256:")[2]
        assert pod["terminationGracePeriodSeconds"] == 25
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert {"cpu", "memory"} <= set(container["resources"]["requests"])
        assert ("nvidia.com/gpu" in container["resources"]["limits"]) is (name != "head")
        assert container["envFrom"] == [{"secretRef": {"name": "dicomweb"}}]
        assert not any("value" in each and "postgresql" in each["value"] for each in container["env"])


def test_a_run_of_rules_alone_has_workers_without_gpus() -> None:
    """Where no model is a network, machines have none, and bear no taint of one."""
    job = manifest(replace(CELL, workers=replace(CELL.workers, gpu=False, accelerator="")))
    for group in job["spec"]["rayClusterSpec"]["workerGroupSpecs"]:
        assert group["rayStartParams"] == {"num-cpus": "1"}
        (container,) = group["template"]["spec"]["containers"]
        assert "nvidia.com/gpu" not in container["resources"]["limits"]
        keys = {each["key"] for each in group["template"]["spec"].get("tolerations", [])}
        assert "nvidia.com/gpu" not in keys


def test_workers_without_gpus_beside_those_with_them() -> None:
    """A third group, on spot as the first: no GPU, no taint of one, no label of its model; its own size and name."""
    job = manifest(replace(CELL, beside=BESIDE))
    cluster = job["spec"]["rayClusterSpec"]
    assert [group["groupName"] for group in cluster["workerGroupSpecs"]] == ["spot", "fallback", "cpu"]
    group, pod = cluster["workerGroupSpecs"][2], pods(job)["cpu"]
    assert (group["minReplicas"], group["replicas"], group["maxReplicas"]) == (0, 10, 10)
    assert market(pod) == [{"key": "cloud.google.com/gke-spot", "operator": "In", "values": ["true"]}]
    assert [each["key"] for each in pod["tolerations"]] == ["cloud.google.com/gke-spot"]
    (container,) = pod["containers"]
    assert container["resources"] == {"requests": {"cpu": "8", "memory": "8Gi"}, "limits": {"memory": "8Gi"}}
    assert {"name": GROUP_VARIABLE, "value": "cpu"} in container["env"]
    assert pods(job)["spot"] == pods(manifest(CELL))["spot"]
    job = manifest(replace(CELL, beside=replace(BESIDE, fallback=4)))
    groups = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert [(each["groupName"], each["priority"], each["replicas"], each["maxReplicas"]) for each in groups] == [
        ("spot", 10, 100, 100),
        ("fallback", 0, 0, 40),
        ("cpu", 10, 10, 10),
        ("cpu-fallback", 0, 0, 4),
    ]
    instead = pods(job)["cpu-fallback"]
    assert market(instead) == [{"key": "cloud.google.com/gke-spot", "operator": "DoesNotExist"}]
    assert instead["containers"][0]["resources"] == container["resources"]
    assert "tolerations" not in instead
    assert groups[3]["rayStartParams"] == groups[2]["rayStartParams"]
    fixed = manifest(replace(CELL, workers=replace(CELL.workers, spot=False), beside=replace(BESIDE, spot=False)))
    cluster = fixed["spec"]["rayClusterSpec"]
    assert "enableInTreeAutoscaling" not in cluster
    assert [(each["groupName"], each["minReplicas"]) for each in cluster["workerGroupSpecs"]] == [
        ("on-demand", 100),
        ("cpu", 10),
    ]


def test_rays_autoscaler_tells_the_groups_apart() -> None:
    """As it reads the cluster itself: GPUs in the first two, and in the others what agents for other models ask for.

    The operator writes `ray start --resources=VALUE` for a shell, to which Ray gets JSON.
    """
    parse = pytest.importorskip("ray.autoscaler._private.kuberay.autoscaling_config")
    cluster = manifest(replace(CELL, beside=replace(BESIDE, fallback=4)))["spec"]["rayClusterSpec"]
    types = parse._generate_available_node_types_from_ray_cr_spec(cluster)
    told = {name: each["resources"] for name, each in types.items()}
    assert [(each["CPU"], each.get("GPU"), each.get(CPU_RESOURCE)) for each in told.values()] == [
        (0, None, None),
        (1, 1, None),
        (1, 1, None),
        (1, None, 1),
        (1, None, 1),
    ]
    assert {name: each["priority"] for name, each in types.items() if "priority" in each} == {
        "spot": 10,
        "fallback": 0,
        "cpu": 10,
        "cpu-fallback": 0,
    }
    value = cluster["workerGroupSpecs"][2]["rayStartParams"]["resources"]
    shell = subprocess.run(["bash", "-c", f"printf %s {value}"], capture_output=True, text=True, check=True)
    assert json.loads(shell.stdout) == {CPU_RESOURCE: 1}


def test_a_cell_ends_whatever_happens() -> None:
    """An hour after its command's deadline the job is ended; its cluster goes with it; workers have 25 s to leave."""
    job = manifest(CELL)
    spec = job["spec"]
    assert spec["activeDeadlineSeconds"] == 9 * 3600
    assert spec["shutdownAfterJobFinishes"] is True
    assert {pod["terminationGracePeriodSeconds"] for pod in pods(job).values()} == {25}


def test_labels_for_the_bill_stand_on_job_and_pods() -> None:
    """Run and cell, by which a provider's bill is divided."""
    job = manifest(CELL)
    cluster = job["spec"]["rayClusterSpec"]
    templates = [cluster["headGroupSpec"]["template"], *(each["template"] for each in cluster["workerGroupSpecs"])]
    for metadata in (job["metadata"], *(each["metadata"] for each in templates)):
        assert (metadata["labels"]["run"], metadata["labels"]["cell"]) == ("nlst", "c0")
    (head,) = pods(manifest(CELL))["head"]["containers"]
    assert {"name": CELL_VARIABLE, "value": "c0"} in head["env"], "and the driver tells the ledger"
    assert {"name": GROUP_VARIABLE, "value": "head"} in head["env"], "as which it is paid"


def test_secrets_are_named_and_not_told() -> None:
    """The ledger's address and password come from a secret to the head only; archives' credentials to all."""
    job = manifest(CELL)
    head, worker = (pods(job)[name]["containers"][0] for name in ("head", "spot"))
    assert {"name": "VOXFLEET_LEDGER", "valueFrom": {"secretKeyRef": {"name": "ledger", "key": "url"}}} in head["env"]
    password = {"secretKeyRef": {"name": "ledger", "key": "password", "optional": True}}
    assert {"name": "PGPASSWORD", "valueFrom": password} in head["env"]
    assert worker["env"] == [{"name": GROUP_VARIABLE, "value": "spot"}]
    assert head["envFrom"] == worker["envFrom"] == [{"secretRef": {"name": "dicomweb"}}]
    assert pods(job)["spot"]["serviceAccountName"] == "runner"


def test_a_run_in_a_file_stands_on_a_claim() -> None:
    """The head keeps the run on the claim, so that the next head goes on with it; workers do not hold it."""
    job = manifest(replace(CELL, access=Access(claim="runs")))
    assert pods(job)["head"]["volumes"][0]["persistentVolumeClaim"] == {"claimName": "runs"}
    assert pods(job)["spot"]["volumes"][0]["emptyDir"] == {}


def test_kueue_starts_what_is_queued() -> None:
    """A cell of a queue carries its label and waits suspended."""
    job = manifest(replace(CELL, queue="gpus"))
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
    assert job["spec"]["suspend"] is True


@pytest.mark.parametrize(("ends", "code"), [(0, 0), (3, 0), (4, 0), (1, 1), (137, 137)])
def test_the_entrypoint_comes_through_two_shells(tmp_path: Path, ends: int, code: int) -> None:
    """As in KubeRay 1.7 bash splits it for `ray job submit`, which joins the words for another shell on the head.

    Every word arrives as it was; failed series (3) and a spent budget (4) are no reason to do the job again.
    """
    program = tmp_path / "voxfleet"
    program.write_text(f'#!/bin/sh\nfor word; do echo "$word"; done > {tmp_path}/words\nexit {ends}\n')
    program.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    join = [sys.executable, "-c", "import shlex, sys; print(shlex.join(sys.argv[1:]))"]
    submitter = f"{shlex.join(join)} {manifest(CELL)['spec']['entrypoint']} ;"
    submitted = subprocess.run(["bash", "-c", submitter], capture_output=True, text=True, check=True, env=environment)
    done = subprocess.run(submitted.stdout.strip(), shell=True, check=False, env=environment)
    assert done.returncode == code
    assert (tmp_path / "words").read_text().splitlines() == list(CELL.words[1:])


def test_the_same_cell_has_the_same_digest() -> None:
    """And another size another one."""
    digests = [
        manifest(cell)["metadata"]["annotations"]["voxfleet/manifest-sha256"]
        for cell in (CELL, CELL, replace(CELL, workers=replace(CELL.workers, number=99)))
    ]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"image": "voxfleet:latest"}, "by digest"),
        ({"image": "voxfleet@sha256:12"}, "by digest"),
        ({"run": "NLST"}, "small letters"),
        ({"run": "1st"}, "small letters"),
        ({"run": "n" * 45}, "47 characters"),
        ({"access": Access()}, "would die with its cell"),
        ({"workers": replace(CELL.workers, number=201)}, "1 to 200"),
        ({"workers": replace(CELL.workers, number=0)}, "1 to 200"),
        ({"beside": replace(BESIDE, number=101)}, "201 workers: a cell has 1 to 200"),
        ({"beside": replace(BESIDE, number=-1)}, "1 to 200"),
        ({"ray_version": "2.55.1"}, "cannot fall back"),
        (
            {
                "ray_version": "2.55.1",
                "workers": replace(CELL.workers, fallback=0),
                "beside": replace(BESIDE, fallback=1),
            },
            "cannot fall back",
        ),
    ],
)
def test_cells_that_cannot_be_are_refused(change: dict, reason: str) -> None:
    """An image that may change, a name that KubeRay refuses, a run that nothing keeps, too many workers, an old Ray."""
    with pytest.raises(BadCell, match=reason):
        replace(CELL, **change)
