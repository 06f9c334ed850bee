"""``voxfleet cluster``: from the words of a user to cells on an API server, and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

pytest.importorskip("kubernetes")

from kubernetes.config import kube_config
from voxfleet.cluster.kubernetes.cell import BadCell
from voxfleet.cluster.kubernetes.command import cluster
from voxfleet.cluster.prices.price import NoPrice
from voxfleet.models import catalogue

IMAGE = "registry.example/voxfleet@sha256:" + "0f" * 32
WORDS = ["manifest", "dicomweb+https://a/dw", "-m", "ct-threshold", "--to", "dicomweb+https://a/dw", "--run", "nlst"]
WORDS += ["--image", IMAGE, "--namespace", "ct"]


@pytest.fixture
def invoke(api_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The command, in a folder of its own, with a kubeconfig that leads to the API server."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(api_server.kubeconfig(tmp_path)))

    def call(*words: str, text: str = ""):
        return CliRunner().invoke(cluster, list(words), input=text)

    return call


def cells_of(text: str) -> list[dict[str, Any]]:
    """The documents of a manifest."""
    return list(yaml.safe_load_all(text))


def test_three_cells_from_words_to_their_end(invoke, api_server: Any) -> None:
    """Printed, created, created once only, followed until one has failed, read, deleted."""
    printed = invoke(*WORDS, "--cells", "3", "--workers", "20", "--ledger-secret", "ledger", "--", "--budget", "100")
    assert printed.exit_code == 0, printed.output
    Path("cells.yaml").write_text(printed.stdout)
    checked = invoke("submit", "cells.yaml", "--dry-run")
    assert checked.stdout.splitlines() == [f"nlst-c{n}: would be created" for n in range(3)]
    assert api_server.jobs == {}
    made = invoke("submit", "cells.yaml")
    assert made.stdout.splitlines() == [f"nlst-c{n}: created" for n in range(3)]
    again = invoke("submit", "-", text=printed.stdout)
    assert again.stdout.splitlines() == [f"nlst-c{n}: is there already" for n in range(3)]
    for number, state in enumerate(("Complete", "Failed", "Complete")):
        api_server.set_status(f"nlst-c{number}", jobDeploymentStatus=state, jobStatus="FAILED")
    for options in ((), ("--watch",)):
        told = invoke("status", "nlst", "--json", *options)
        assert told.exit_code == 3
        assert [cell["deployment"] for cell in json.loads(told.stdout)] == ["Complete", "Failed", "Complete"]
    api_server.logs["nlst-c1-xyz"] = "error: no GPU\n"
    assert invoke("logs", "nlst-c1").stdout == "error: no GPU\n"
    assert invoke("delete", "nlst").exit_code == 0
    assert api_server.jobs == {}
    assert invoke("status", "nlst").exit_code == 3


def test_the_cells_command_is_enrich_with_every_word(invoke) -> None:
    """Model, archive, Ray, workers, deadline, and what stood behind the dashes."""
    words = ["--claim", "runs", "--workers", "5", "--deadline", "2h", "--", "--budget", "7", "--seg", "labelmap"]
    (job,) = cells_of(invoke(*WORDS, *words).stdout)
    assert (
        "voxfleet enrich dicomweb+https://a/dw --model ct-threshold --to dicomweb+https://a/dw --run nlst "
        "--on ray --workers 5 --device cpu --deadline 7200s --budget 7 --seg labelmap"
    ) in job["spec"]["entrypoint"]
    assert job["spec"]["activeDeadlineSeconds"] == 3 * 3600


def test_workers_to_fall_back_on_are_paid_on_demand(invoke) -> None:
    """The command is told what they are, and what its head is; a machine without such a price is refused."""
    words = ["--claim", "runs", "--platform", "gke", "--fallback", "1", "--", "--budget", "7", "--market", "spot"]
    done = invoke(*WORDS, *words, "--machine", "g2-standard-4", "--region", "us-central1")
    (job,) = cells_of(done.stdout)
    assert "--price-of fallback=g2-standard-4:us-central1:on-demand" in job["spec"]["entrypoint"]
    unknown = ["--machine", "g2-standard-4", "--region", "moon1"]
    assert isinstance(invoke(*WORDS, *words, *unknown).exception, NoPrice)
    assert "--price-of head=e2-standard-4:us-central1:on-demand" in job["spec"]["entrypoint"]
    words[words.index("1")] = "0"
    (job,) = cells_of(invoke(*WORDS, *words, "--machine", "g2-standard-4", "--region", "us-central1").stdout)
    assert job["spec"]["entrypoint"].count("--price-of") == 1


def test_cells_without_spot_machines_are_paid_on_demand(invoke) -> None:
    """Whatever `--market` says of the run."""
    words = ["--claim", "runs", "--platform", "gke", "--on-demand", "--", "--budget", "7", "--market", "spot"]
    (job,) = cells_of(invoke(*WORDS, *words, "--machine", "g2-standard-4", "--region", "us-central1").stdout)
    assert "--price-of on-demand=g2-standard-4:us-central1:on-demand" in job["spec"]["entrypoint"]


def test_memory_is_that_of_the_models_card(invoke) -> None:
    """What the card tells and 4 GiB, in whole GiB; or what was asked for."""
    need = catalogue.card("ct-threshold").memory_bytes
    for words, gib in (((), -(-(need + 4 * 2**30) // 2**30)), (("--memory-gib", "9"), 9)):
        (job,) = cells_of(invoke(*WORDS, "--claim", "runs", *words).stdout)
        group = job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]
        assert group["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"] == f"{gib}Gi"


def test_a_network_gets_a_gpu_and_a_rule_none(invoke) -> None:
    """By the models' cards."""
    for model, device in (("meshnet-gwm", "cuda:0"), ("ct-threshold", "cpu")):
        (job,) = cells_of(invoke(*[model if word == "ct-threshold" else word for word in WORDS], "--claim", "r").stdout)
        assert f"--device {device}" in job["spec"]["entrypoint"]


def test_models_that_need_no_gpu_get_workers_of_their_own(invoke) -> None:
    """As many as asked for, of the size asked for or that the cards of these models tell, and the driver is told."""
    words = [*WORDS, "-m", "meshnet-gwm", "--claim", "runs", "--workers", "4", "--cpu-workers", "2"]
    need = catalogue.card("ct-threshold").memory_bytes
    told = -(-(need + 4 * 2**30) // 2**30)
    for more, size in (
        ((), ("4", f"{told}Gi")),
        (("--cpu-worker-cpus", "2", "--cpu-worker-memory-gib", "9"), ("2", "9Gi")),
    ):
        printed = invoke(*words, *more).stdout
        assert invoke("submit", "-", "--dry-run", text=printed).stdout == "nlst-c0: would be created\n"
        (job,) = cells_of(printed)
        assert "--workers 4 --device cuda:0 --cpu-workers 2 " in job["spec"]["entrypoint"]
        group = job["spec"]["rayClusterSpec"]["workerGroupSpecs"][-1]
        asked = group["template"]["spec"]["containers"][0]["resources"]["requests"]
        assert (group["groupName"], group["replicas"], asked["cpu"], asked["memory"]) == ("cpu", 2, *size)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (
            "covid-opacity-hu",
            "nlst: no model of the run needs a GPU, and all workers are without: give --workers alone",
        ),
        ("", "nlst: every model of the run needs a GPU: leave --cpu-workers out"),
    ],
)
def test_workers_with_nothing_to_do_are_refused(invoke, model: str, reason: str) -> None:
    """Rules alone need no second kind of machines, and a network alone none without a GPU."""
    words = [*WORDS, "-m", model] if model else ["meshnet-gwm" if word == "ct-threshold" else word for word in WORDS]
    done = invoke(*words, "--claim", "runs", "--cpu-workers", "2")
    assert isinstance(done.exception, BadCell)
    assert str(done.exception) == reason


def test_many_cells_need_a_ledger_that_they_share(invoke) -> None:
    """A claim holds the run of one cell."""
    done = invoke(*WORDS, "--cells", "2", "--claim", "runs")
    assert isinstance(done.exception, BadCell)
    assert "--ledger-secret" in str(done.exception)


@pytest.mark.parametrize("words", [["--bugdet", "7"], ["--workers", "none"], ["extra"]])
def test_words_that_enrich_would_not_take_are_refused_here(invoke, words: list[str]) -> None:
    """And not on machines that are rented."""
    done = invoke(*WORDS, "--claim", "runs", "--", *words)
    assert done.exit_code == 2
    assert "voxfleet enrich" in done.output


@pytest.mark.parametrize("text", ["", "a: [", "kind: Pod\nmetadata: {name: x}\n", "- 1\n"])
def test_only_cells_are_submitted(invoke, api_server: Any, text: str) -> None:
    """Nothing, no YAML, something else, no object: nothing is created."""
    done = invoke("submit", "-", text=text)
    assert isinstance(done.exception, BadCell)
    assert api_server.requests == []
