"""Templates for GKE and EKS: what they name, cells ask for; what they hold, the commands take."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from voxfleet.cluster.kubernetes.cell import PLATFORMS
from voxfleet.cluster.kubernetes.group_prices import HEADS
from voxfleet.cluster.kubernetes.options import manifests, read_options
from voxfleet.models import catalogue

FOLDER = Path(__file__).parents[2] / "cluster" / "kubernetes"
MACHINE_GIB = 32 * 0.9
"""Memory of g2-standard-8 and g6.2xlarge, less a tenth for Kubernetes itself."""


def cells_of(name: str, tmp_path: Path, model: str = "meshnet-gwm") -> list[dict[str, Any]]:
    """The RayJobs of a template whose places in capitals are filled in."""
    text = (FOLDER / name).read_text().replace("DIGEST", "0f" * 32)
    path = tmp_path / name
    path.write_text(text)
    return manifests(read_options(path), "nlst", ("voxfleet", "worker", "nlst"), [catalogue.card(model)], 10, 3600)


def worker_of(job: dict[str, Any]) -> dict[str, Any]:
    """The first group's pod."""
    pod: dict[str, Any] = job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["template"]["spec"]
    return pod


@pytest.mark.parametrize("name", ["gke.toml", "eks.toml"])
def test_cells_of_a_template_are_kuberays(rayjob_schema: Any, tmp_path: Path, name: str) -> None:
    """Ten cells, each a valid RayJob, spot first; a worker of a network fits into the template's machine."""
    jobs = cells_of(name, tmp_path)
    assert len(jobs) == 10
    for job in jobs:
        rayjob_schema.validate(job)
        groups = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
        assert [group["groupName"] for group in groups] == ["spot", "fallback"]
    for model in ("meshnet-gwm", "totalsegmentator:total"):
        (container,) = worker_of(cells_of(name, tmp_path, model)[0])["containers"]
        assert int(container["resources"]["limits"]["memory"].removesuffix("Gi")) <= MACHINE_GIB


@pytest.mark.parametrize("name", ["gke.toml", "eks.toml"])
def test_workers_without_gpus_fit_into_the_templates_machines(rayjob_schema: Any, tmp_path: Path, name: str) -> None:
    """Of four CPUs of e2-standard-4 and m6i.xlarge three are left; they ask for no GPU, and bear no taint of one."""
    cells_of(name, tmp_path)
    cards = [catalogue.card(model) for model in ("meshnet-gwm", "ct-threshold")]
    options = replace(read_options(tmp_path / name), cpu_workers=5)
    job = manifests(options, "nlst", ("voxfleet", "worker", "nlst"), cards, 10, 3600)[0]
    rayjob_schema.validate(job)
    pod = job["spec"]["rayClusterSpec"]["workerGroupSpecs"][2]["template"]["spec"]
    asked = pod["containers"][0]["resources"]["requests"]
    assert asked["cpu"] == "3"
    assert int(asked["memory"].removesuffix("Gi")) <= 16 * 0.8
    assert "nvidia.com/gpu" not in {*asked, *(each["key"] for each in pod["tolerations"])}


def test_gke_pools_are_those_that_cells_ask_for(tmp_path: Path) -> None:
    """The script makes pools that grow from nothing: heads without a GPU, spot and on demand with an L4, and CPUs.

    CPUs on demand are what heads are, and what heads are paid as: either may come to the other's pool.
    """
    said = tmp_path / "said"
    program = tmp_path / "gcloud"
    program.write_text(f'#!/bin/sh\necho "$@" >> {said}\n')
    program.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "GKE_CLUSTER": "c", "GKE_LOCATION": "us-central1"}
    subprocess.run(["bash", FOLDER / "gke-nodes.sh"], env=environment, check=True)
    heads, spot, fallback, cpu, cpu_fallback = said.read_text().splitlines()
    for line in (heads, spot, fallback, cpu, cpu_fallback):
        assert "container node-pools create" in line
        assert "--enable-autoscaling --num-nodes 0 --total-min-nodes 0" in line
    assert "--spot" in spot.split()
    assert "--spot" not in [*heads.split(), *fallback.split(), *cpu_fallback.split()]
    assert all(f"--machine-type {HEADS['gcp']}" in line for line in (heads, cpu, cpu_fallback))
    (term,) = [
        each
        for each in worker_of(cells_of("gke.toml", tmp_path)[0])["affinity"]["nodeAffinity"][
            "requiredDuringSchedulingIgnoredDuringExecution"
        ]["nodeSelectorTerms"][0]["matchExpressions"]
        if each["key"] == PLATFORMS["gke"].accelerator
    ]
    assert f"type={term['values'][0]},count=1" in spot
    assert f"type={term['values'][0]},count=1" in fallback
    assert "accelerator" not in heads + cpu
    assert "--spot" in cpu.split()


def test_eks_groups_are_those_that_cells_ask_for(tmp_path: Path) -> None:
    """Labels of the GPU's model, and a taint that workers bear and heads do not, so that heads go elsewhere."""
    groups = {
        each["name"]: each for each in yaml.safe_load((FOLDER / "eks-nodes.yaml").read_text())["managedNodeGroups"]
    }
    assert {name: each.get("spot", False) for name, each in groups.items()} == {
        "heads": False,
        "spot": True,
        "fallback": False,
        "cpu": True,
        "cpu-fallback": False,
    }
    assert groups["heads"]["instanceTypes"] == groups["cpu-fallback"]["instanceTypes"] == [HEADS["aws"]]
    assert all(each["minSize"] == each["desiredCapacity"] == 0 for each in groups.values())
    job = cells_of("eks.toml", tmp_path)[0]
    head = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    for name in ("spot", "fallback"):
        assert groups[name]["labels"] == {PLATFORMS["eks"].accelerator: "nvidia-l4"}
        (taint,) = groups[name]["taints"]
        assert taint["key"] in {each["key"] for each in worker_of(job)["tolerations"]}
        assert taint["key"] not in {each["key"] for each in head.get("tolerations", [])}
