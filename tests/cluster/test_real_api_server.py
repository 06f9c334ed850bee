"""Cells on a real API server: run where ``VOXFLEET_TEST_KUBE_APISERVER`` is the path of a kube-apiserver.

etcd stands beside it, or is on the path. Kubernetes 1.20 or later; no operator is there, and no machine.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

pytest.importorskip("kubernetes")

from kubernetes import client
from kubernetes.config import kube_config, load_kube_config
from voxfleet.cluster.kubernetes.command import cluster
from voxfleet.cluster.kubernetes.kuberay import CellExists, Cells, KubernetesError

BINARY = os.environ.get("VOXFLEET_TEST_KUBE_APISERVER", "")
WORDS = ["manifest", "dicomweb+https://a/dw", "-m", "ct-threshold", "--to", "dicomweb+https://a/dw", "--run", "nlst"]
WORDS += ["--image", "registry.example/voxfleet@sha256:" + "0f" * 32, "--namespace", "ct", "--cells", "3"]
WORDS += ["--workers", "20", "--ledger-secret", "ledger", "--platform", "gke", "--queue", "gpus"]
PLACE = ("ray.io", "v1", "ct", "rayjobs")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not BINARY, reason="VOXFLEET_TEST_KUBE_APISERVER is the path of no kube-apiserver"),
    pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A server with KubeRay's RayJob and the namespace ``ct``."""
    path = Path(__file__).parent / "real_api_server.py"
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[path.stem] = module_from_spec(spec)
    spec.loader.exec_module(module)
    etcd = module.etcd_here(Path(BINARY))
    if etcd is None:
        pytest.skip("no etcd beside kube-apiserver, nor on the path")
    began = module.RealApiServer(Path(BINARY), etcd, tmp_path_factory.mktemp("kubernetes"))
    load_kube_config(str(began.kubeconfig()))
    client.CoreV1Api().create_namespace({"metadata": {"name": "ct"}})
    client.ApiextensionsV1Api().create_custom_resource_definition(module.rayjob_crd())
    _until(lambda: client.CustomObjectsApi().list_namespaced_custom_object(*PLACE) is not None)
    yield began
    began.close()


@pytest.fixture
def invoke(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The command, with a kubeconfig that leads to the server; what it leaves is deleted."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(server.kubeconfig()))
    yield lambda *words: CliRunner().invoke(cluster, list(words))
    for cell in Cells().states("nlst"):
        Cells().delete(cell.name)
    _collect_garbage()


def _until(what: Any) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            if what():
                return
        except client.ApiException:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _holds(kept: Any, sent: Any) -> bool:
    """Whether nothing that was sent was changed or dropped; a server adds its defaults."""
    if isinstance(sent, dict):
        return isinstance(kept, dict) and all(key in kept and _holds(kept[key], each) for key, each in sent.items())
    if isinstance(sent, list):
        return len(kept) == len(sent) and all(_holds(*pair) for pair in zip(kept, sent, strict=True))
    return bool(kept == sent)


def _operate(name: str, **status: object) -> None:
    """What the operator does: write a job's status, by its subresource."""
    client.CustomObjectsApi().patch_namespaced_custom_object_status(*PLACE, name, {"status": status})


def _collect_garbage() -> None:
    """What the controller manager does once a deleted job's machines are gone."""
    for cell in Cells().states("nlst"):
        change = {"metadata": {"finalizers": None}}
        client.CustomObjectsApi().patch_namespaced_custom_object(*PLACE, cell.name, change)


def test_from_words_to_the_end(invoke: Any) -> None:
    """Checked, created, created once, their states told, deleted; every field comes back as it was sent."""
    Path("cells.yaml").write_text(invoke(*WORDS).stdout)
    checked = invoke("submit", "cells.yaml", "--dry-run")
    assert checked.stdout.splitlines() == [f"nlst-c{number}: would be created" for number in range(3)], checked.output
    assert Cells().states("nlst") == ()
    for told in ("created", "is there already"):
        done = invoke("submit", "cells.yaml")
        assert done.stdout.splitlines() == [f"nlst-c{number}: {told}" for number in range(3)], done.output
    for sent in yaml.safe_load_all(Path("cells.yaml").read_text()):
        kept = client.CustomObjectsApi().get_namespaced_custom_object(*PLACE, sent["metadata"]["name"])
        assert _holds(kept["spec"], sent["spec"])
        assert kept["metadata"]["labels"] == sent["metadata"]["labels"]
    _operate("nlst-c1", jobDeploymentStatus="Failed", jobStatus="FAILED", reason="DeadlineExceeded")
    told = invoke("status", "nlst", "--json")
    assert told.exit_code == 3
    assert [cell["deployment"] for cell in json.loads(told.stdout)] == ["", "Failed", ""]
    assert invoke("delete", "nlst").exit_code == 0
    assert {cell.deployment for cell in Cells().states("nlst")} == {"Deleting"}
    with pytest.raises(CellExists, match="being deleted"):
        Cells().submit(next(yaml.safe_load_all(Path("cells.yaml").read_text())))
    _collect_garbage()
    assert Cells().states("nlst") == ()


def test_what_the_server_refuses_is_told(invoke: Any) -> None:
    """A cell of another size, 409; a field of the wrong kind, 422 with its name; a pod's log that is not there."""
    (job, *_) = yaml.safe_load_all(invoke(*WORDS).stdout)
    assert Cells().submit(job)
    other = {**job, "metadata": {**job["metadata"], "annotations": {"voxfleet/manifest-sha256": "another"}}}
    with pytest.raises(CellExists, match="delete it first"):
        Cells().submit(other)
    wrong = {**job, "metadata": {**job["metadata"], "name": "nlst-c9"}}
    wrong["spec"] = {**job["spec"], "activeDeadlineSeconds": "soon"}
    for dry_run in (True, False):
        with pytest.raises(KubernetesError, match=r"422 .*activeDeadlineSeconds"):
            Cells().submit(wrong, dry_run=dry_run)
    assert Cells().logs("nlst-c0", 5) == ""


def test_a_run_is_followed(invoke: Any) -> None:
    """A watch tells each change of a status, and ends when the cell is over."""
    (job, *_) = yaml.safe_load_all(invoke(*WORDS).stdout)
    assert Cells().submit(job)
    states = ("Initializing", "Running", "Complete")

    def operate() -> None:
        for state in states:
            time.sleep(0.3)
            _operate("nlst-c0", jobDeploymentStatus=state)

    told: list[str] = []
    for (state,) in Cells().follow("nlst"):
        if not told:
            threading.Thread(target=operate, daemon=True).start()
        told.append(state.deployment)
    assert told == ["", *states]
