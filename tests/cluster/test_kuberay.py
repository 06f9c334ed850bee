"""Cells on an API server that really listens: created once, watched, read, deleted; and what goes wrong on the way."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("kubernetes")

from kubernetes.config import kube_config
from voxfleet.cluster.kubernetes.cell import PLATFORMS, Access, Cell, Workers
from voxfleet.cluster.kubernetes.kuberay import CellExists, Cells, KubernetesError
from voxfleet.cluster.kubernetes.manifest import manifest

CELL = Cell(
    run="nlst",
    name="c0",
    namespace="ct",
    image="registry.example/voxfleet@sha256:" + "ab" * 32,
    words=("voxfleet", "enrich", "a"),
    deadline_s=3600,
    workers=Workers(3, 0, spot=False, cpus=4, memory_bytes=2**33, gpu=False),
    access=Access(claim="runs"),
    platform=PLATFORMS["any"],
    ray_version="2.60.0",
)
JOB = manifest(CELL)


@pytest.fixture
def cells(api_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cells:
    """The cells of the namespace that the kubeconfig names."""
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(api_server.kubeconfig(tmp_path)))
    return Cells()


def test_a_cell_is_created_once(api_server: Any, cells: Cells) -> None:
    """The second time it is there already: the same command again changes nothing."""
    assert cells.submit(JOB) is True
    assert cells.submit(JOB) is False
    assert list(api_server.jobs) == ["nlst-c0"]


def test_a_dry_run_creates_nothing_and_tells_what_is_wrong(api_server: Any, cells: Cells) -> None:
    """What passes and what the schema forbids are told as for a real creation."""
    assert cells.submit(JOB, dry_run=True) is True
    assert api_server.jobs == {}
    with pytest.raises(KubernetesError, match="422"):
        cells.submit({**JOB, "spec": {**JOB["spec"], "backoffLimit": "many"}}, dry_run=True)


def test_another_cell_of_the_name_is_left_alone(api_server: Any, cells: Cells) -> None:
    """Three workers run; four are asked for: refused, and three stay."""
    cells.submit(JOB)
    with pytest.raises(CellExists, match="delete it first"):
        cells.submit(manifest(replace(CELL, workers=replace(CELL.workers, number=4))))
    assert api_server.jobs["nlst-c0"]["spec"] == JOB["spec"]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(api_server: Any, cells: Cells, status: int) -> None:
    """Twice busy, then well: one cell, after the pauses that the server asked for."""
    api_server.faults = [(status, {"Retry-After": "1"}), (status, {"Retry-After": "0"})]
    began = time.monotonic()
    assert cells.submit(JOB) is True
    assert time.monotonic() - began >= 1
    assert api_server.requests == ["POST /apis/ray.io/v1/namespaces/ct/rayjobs"] * 3


def test_a_server_that_stays_busy_is_told_of(api_server: Any, cells: Cells) -> None:
    """After six tries the error has the server's words."""
    api_server.faults = [(429, {"Retry-After": "0"})] * 6
    with pytest.raises(KubernetesError, match=r"nlst-c0: 429 .*told to fail"):
        cells.submit(JOB)
    assert len(api_server.requests) == 6


def test_what_the_schema_forbids_is_told_with_its_field(cells: Cells) -> None:
    """A field of the wrong kind: the server's 422 names it, and nothing is tried again."""
    wrong = {**JOB, "spec": {**JOB["spec"], "activeDeadlineSeconds": "soon"}}
    with pytest.raises(KubernetesError, match=r"422 .*activeDeadlineSeconds: 'soon' is not of type"):
        cells.submit(wrong)


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_is_not_tried_again(api_server: Any, cells: Cells, status: int) -> None:
    """Who may not, may not."""
    api_server.faults = [(status, {})]
    with pytest.raises(KubernetesError, match=str(status)):
        cells.states("nlst")
    assert len(api_server.requests) == 1


def test_a_server_that_is_gone_is_told_of(api_server: Any, cells: Cells, monkeypatch: pytest.MonkeyPatch) -> None:
    """No connection: the error names the cell, and no token."""
    monkeypatch.setattr("voxfleet.cluster.kubernetes.kuberay.TRIES", 2)
    api_server.shutdown()
    api_server.server_close()
    with pytest.raises(KubernetesError, match="does not answer") as raised:
        cells.submit(JOB)
    assert "s3cret" not in str(raised.value)


def test_states_are_those_of_the_run(api_server: Any, cells: Cells) -> None:
    """By the label, with what the operator tells."""
    for cell in (CELL, replace(CELL, name="c1"), replace(CELL, run="other")):
        cells.submit(manifest(cell))
    api_server.set_status(
        "nlst-c1",
        jobDeploymentStatus="Failed",
        jobStatus="FAILED",
        reason="DeadlineExceeded",
        startTime="2026-11-21T08:00:00Z",
        rayClusterStatus={"availableWorkerReplicas": 2, "desiredWorkerReplicas": 3},
    )
    new, failed = cells.states("nlst")
    assert (new.name, new.deployment, new.over) == ("nlst-c0", "", False)
    assert (failed.cell, failed.reason, failed.workers, failed.over) == ("c1", "DeadlineExceeded", "2/3", True)


@pytest.mark.parametrize("expired", [False, True])
def test_a_run_is_followed_to_its_end(api_server: Any, cells: Cells, expired: bool) -> None:
    """Running, a worker evicted, complete: each is told, also when the first watch is too old and begins anew."""
    cells.submit(JOB)
    api_server.expired = expired

    def operate() -> None:
        for workers, state in ((0, "Initializing"), (3, "Running"), (2, "Running"), (3, "Complete")):
            time.sleep(0.15)
            cluster = {"availableWorkerReplicas": workers, "desiredWorkerReplicas": 3}
            api_server.set_status("nlst-c0", jobDeploymentStatus=state, rayClusterStatus=cluster)

    told: list[tuple[str, str]] = []
    for (state,) in cells.follow("nlst"):
        if not told:
            threading.Thread(target=operate, daemon=True).start()
        told.append((state.deployment, state.workers))
    assert told[-1] == ("Complete", "3/3")
    if not expired:
        assert told[0] == ("", "0/0")
        assert told[1:] == [
            ("Initializing", "0/3"),
            ("Running", "3/3"),
            ("Running", "2/3"),
            ("Complete", "3/3"),
        ]


def test_cells_that_are_deleted_end_the_watch(api_server: Any, cells: Cells) -> None:
    """Nothing is left to wait for."""
    cells.submit(JOB)
    told: list[int] = []
    for states in cells.follow("nlst"):
        if not told:
            threading.Timer(0.3, lambda: api_server.put("DELETED", api_server.jobs["nlst-c0"])).start()
        told.append(len(states))
    assert told == [1, 0]


def test_logs_are_those_of_the_last_submitter(api_server: Any, cells: Cells) -> None:
    """The last lines; nothing before the command runs; an error where there is no such cell."""
    cells.submit(JOB)
    assert cells.logs("nlst-c0", 10) == ""
    api_server.logs["nlst-c0-abcde"] = "one\ntwo\nthree\n"
    assert cells.logs("nlst-c0", 2) == "two\nthree\n"
    with pytest.raises(KubernetesError, match="404"):
        cells.logs("nlst-c9", 2)


def test_a_cell_is_deleted_once_and_for_all(api_server: Any, cells: Cells) -> None:
    """Deleting what is gone is no error."""
    cells.submit(JOB)
    cells.delete("nlst-c0")
    cells.delete("nlst-c0")
    assert api_server.jobs == {}


def test_without_a_kubeconfig_the_error_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file, no cluster."""
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    with pytest.raises(KubernetesError, match="no Kubernetes cluster is configured"):
        Cells()
