"""``voxfleet enrich --on kuberay``: what pods could not do is refused; what they are given does the run."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydicom
import pytest
import typer
from typer.testing import CliRunner

pytest.importorskip("kubernetes")

from voxfleet.cluster.budgets.limits import Limits
from voxfleet.cluster.commands import enrich
from voxfleet.cluster.drivers.worker_command import worker
from voxfleet.cluster.enrichment import Plan
from voxfleet.cluster.kubernetes.cell import BadCell
from voxfleet.cluster.kubernetes.fleet import NoFleet, fleet_of
from voxfleet.cluster.kubernetes.manifest import within
from voxfleet.cluster.kubernetes.options import CellOptions, read_options
from voxfleet.cluster.ledgers.postgres import PostgresLedger
from voxfleet.cluster.prices.price import NoPrice, Price, price_of
from voxfleet.cluster.run_folder import RunFolder
from voxfleet.enrich.archives.archive import SeriesEntry
from voxfleet.enrich.archives.opening import open_archive
from voxfleet.enrich.phantom import CtIdentity, chest_phantom, write_ct_series
from voxfleet.models import catalogue
from voxfleet.runners.worklist import wish

if TYPE_CHECKING:
    from conftest import Account, Postgres

IMAGE = "registry.example/voxfleet@sha256:" + "ab" * 32
TOML = f'image = "{IMAGE}"\nnamespace = "ct"\nledger-secret = "ledger"\n'
TOY = Price("toy", "", "", "spot", Decimal(36), 1, "", 0, "paper", date(2026, 11, 1))
ARCHIVE = "dicomweb+https://archive.example/dw"


def plan(tmp_path: Path, model: str = "ct-threshold", **change: Any) -> Plan:
    """A run of one model, from and into one archive, on two workers."""
    wishes = (wish(catalogue.card(model), {}, "BINARY", repair=False),)
    options = {"source": ARCHIVE, "target": ARCHIVE, "on": "kuberay", "workers": 2, **change}
    return Plan(wishes=wishes, folder=RunFolder(str(tmp_path / "nlst")), price=TOY, **options)


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    """A file of cells that says no more than it must."""
    path = tmp_path / "cells.toml"
    path.write_text(TOML)
    return path


def given_to(job: Mapping[str, Any]) -> dict[str, Any]:
    """What `voxfleet worker` takes from the entrypoint of a cell."""
    script = shlex.split(job["spec"]["entrypoint"])[2]
    words = shlex.split(script.partition(";")[0])
    assert words[:2] == ["voxfleet", "worker"]
    app = typer.Typer()
    app.command()(worker)
    return typer.main.get_command(app).make_context("worker", [*words[2:], "--ledger", "postgresql://x/y"]).params


def test_each_cell_drives_the_run_that_is_in_the_ledger(
    tmp_path: Path, toml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command is one of `voxfleet worker`'s, with run, Ray, number of agents, model and limits.

    Whom it sends alarms to stands in no manifest: an entry of a Secret that its head has in the environment.
    """
    toml.write_text(TOML + 'cells = 3\nplatform = "gke"\nsecrets = ["archive"]\n')
    limits = Limits(usd_per_series=Decimal("0.5"), wall_s=7200.0, failure_share=0.2, nodes=4)
    fleet = fleet_of(plan(tmp_path, "meshnet-gwm"), toml, limits, shared_ledger=True)
    assert (fleet.run, fleet.namespace, fleet.most_nodes) == ("nlst", "ct", 4)
    assert fleet.workers == {"nlst-c0": 2, "nlst-c1": 2, "nlst-c2": 2}
    monkeypatch.setenv("VOXFLEET_ALARM_WEBHOOK", "https://hooks.example.org/s3cret")
    for job in fleet.jobs:
        given = given_to(job)
        assert (given["run"], given["on"], given["workers"], given["deadline"]) == ("nlst", "ray", 2, "7200s")
        assert (given["idle"], given["alarm_webhook"]) == ("5m", "https://hooks.example.org/s3cret")
        (head,) = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"]
        assert head["envFrom"] == [{"secretRef": {"name": "archive"}}]
        assert (given["model"], given["device"]) == (["meshnet-gwm"], ["cuda:0"])
        assert (given["max_failures"], given["max_cost_per_series"]) == (0.2, "0.5")


def test_a_cell_may_have_workers_without_gpus(tmp_path: Path, toml: Path) -> None:
    """As many as the file or, before it, the command says: the driver is told, and they count against --max-nodes."""
    toml.write_text(TOML + "cpu-workers = 3\ncpu-worker-memory-gib = 9\n")
    wishes = tuple(wish(catalogue.card(model), {}, "BINARY", repair=False) for model in ("meshnet-gwm", "ct-threshold"))
    both = replace(plan(tmp_path), wishes=wishes)
    for number, asked in ((3, both), (1, replace(both, cpu_workers=1))):
        fleet = fleet_of(asked, toml, Limits(), shared_ledger=True)
        assert fleet.workers == {"nlst-c0": 2 + number}
        assert f" --cpu-workers {number} " in fleet.jobs[0]["spec"]["entrypoint"]
    toml.write_text(toml.read_text() + 'platform = "gke"\n')
    fleet = fleet_of(both, toml, Limits(), shared_ledger=True)
    assert fleet.groups == {"head", "spot", "fallback", "cpu", "cpu-fallback"}
    assert fleet.workers == {"nlst-c0": 5}, "those to fall back on stand in for others"
    toml.write_text(toml.read_text() + "fallback = 0\n")
    assert fleet_of(both, toml, Limits(), shared_ledger=True).groups == {"head", "spot", "cpu"}
    with pytest.raises(NoFleet, match="--max-nodes 4 leaves no room for one cell of 5 workers"):
        fleet_of(both, toml, Limits(nodes=4), shared_ledger=True)
    with pytest.raises(BadCell, match="no model of the run needs a GPU"):
        fleet_of(plan(tmp_path), toml, Limits(), shared_ledger=True)


@pytest.mark.parametrize("on", ["local", "workers", "nothing"])
def test_workers_without_gpus_are_on_ray(tmp_path: Path, on: str) -> None:
    """What is no cell has none; one on Ray must have a GPU beside them."""
    with pytest.raises(BadCell, match="--cpu-workers: are agents on Ray: give --on ray or --on kuberay"):
        plan(tmp_path, on=on, cpu_workers=1)
    with pytest.raises(BadCell, match="no model of the run needs a GPU"):
        plan(tmp_path, on="ray", cpu_workers=1, devices=("cuda:0",))


def test_a_cell_that_is_created_late_has_the_deadline_of_the_run(tmp_path: Path, toml: Path) -> None:
    """Of two hours ten minutes are left: so many has its command, and an hour more its job; it is the same cell."""
    (job,) = fleet_of(plan(tmp_path), toml, Limits(wall_s=7200.0), shared_ledger=True).jobs
    late = within(job, 600.4)
    assert given_to(late)["deadline"] == "600s"
    assert late["spec"]["activeDeadlineSeconds"] == 600 + 3600
    assert {**given_to(job), "deadline": "600s"} == given_to(late)
    assert late["metadata"] == job["metadata"]
    assert within(job, 7300.0) == within(job, None) == job
    assert given_to(within(job, -5.0))["deadline"] == "1s"


@pytest.mark.parametrize(
    ("change", "limits", "shared", "reason"),
    [
        ({}, Limits(), False, "would be a file of this machine: give --ledger postgresql://"),
        ({"source": "dir:/data/ct"}, Limits(), True, "dir:/data/ct is a folder of this machine"),
        ({"target": "dicomweb+http://localhost:8042/dw"}, Limits(), True, "is a server of this machine"),
        ({"target": "dicomweb+http://127.0.0.1:8042/dw"}, Limits(), True, "is a server of this machine"),
        ({"nifti": True}, Limits(), True, "--nifti and --stage-deadline"),
        ({}, Limits(nodes=1), True, "--max-nodes 1 leaves no room for one cell of 2 workers"),
    ],
)
def test_what_pods_could_not_do_is_refused(
    tmp_path: Path, toml: Path, change: dict[str, Any], limits: Limits, shared: bool, reason: str
) -> None:
    """A ledger in a file, an archive of this machine, options that would be dropped, no room for a cell."""
    with pytest.raises(NoFleet, match=reason):
        fleet_of(plan(tmp_path, **change), toml, limits, shared_ledger=shared)


def test_cells_without_a_file_or_a_ledgers_address_are_refused(tmp_path: Path, toml: Path) -> None:
    """The errors name the option, and the key."""
    with pytest.raises(NoFleet, match="needs --cells FILE"):
        fleet_of(plan(tmp_path), None, Limits(), shared_ledger=True)
    toml.write_text(f'image = "{IMAGE}"\nclaim = "runs"\n')
    with pytest.raises(NoFleet, match="lacks ledger-secret"):
        fleet_of(plan(tmp_path), toml, Limits(), shared_ledger=True)


def test_a_file_has_the_options_of_the_command(toml: Path) -> None:
    """Each key is an option of `voxfleet cluster manifest`; lists are lists."""
    toml.write_text(TOML + 'cells = 2\non-demand = true\nfallback = 0\nmemory-gib = 30\nsecrets = ["a", "b"]\n')
    assert read_options(toml) == CellOptions(
        IMAGE, 2, on_demand=True, fallback=0, memory_gib=30, secrets=("a", "b"), ledger_secret="ledger", namespace="ct"
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("image = ", "cannot be read"),
        ("cells = 2\n", "lacks image"),
        (TOML + "colour = 1\n", "no such key: colour; there are image"),
        (TOML + 'cells = "2"\n', "cells is '2', and must be int"),
        (TOML + "cells = true\n", "cells is True, and must be int"),
        (TOML + 'secrets = "a"\n', "secrets is 'a', and must be tuple"),
        (TOML + 'platform = "moon"\n', "platform moon: there are gke"),
    ],
)
def test_a_wrong_file_is_refused_with_its_key(toml: Path, text: str, reason: str) -> None:
    """No TOML, no image, a key that is none, a value of another kind, a platform that is none."""
    toml.write_text(text)
    with pytest.raises(BadCell, match=reason):
        read_options(toml)


def test_workers_to_fall_back_on_need_a_price(postgres: Postgres, tmp_path: Path, toml: Path) -> None:
    """A machine that has a price on spot only is refused before anything begins."""
    (tmp_path / "p.toml").write_text(
        '[[price]]\nmachine = "toy"\nmarket = "spot"\nusd_per_hour = 1\nsource = "paper"\ndated = 2026-11-01\n'
    )
    words = [ARCHIVE, "-m", "ct-threshold", "--to", ARCHIVE, "--run", str(tmp_path / "nlst"), "--ledger", postgres.url]
    words += ["--on", "kuberay", "--cells", str(toml), "--machine", "toy", "--prices", str(tmp_path / "p.toml")]
    app = typer.Typer()
    app.command()(enrich)
    toml.write_text(TOML + 'platform = "gke"\n')
    refused = CliRunner().invoke(app, words).exception
    assert isinstance(refused, NoPrice)
    assert "--price-of fallback=MACHINE:REGION:MARKET, or take --fallback 0" in str(refused)
    assert not (tmp_path / "nlst").exists()


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.orthanc
@pytest.mark.timeout(400)
def test_a_collection_is_enriched_though_its_first_cell_dies(
    api_server: Any, orthanc: Any, postgres: Postgres, tmp_path: Path, toml: Path, account: Account
) -> None:
    """The run is registered, a cell created; it fails, another comes; its own entrypoint does the work, on real Ray.

    The command ends with 0, and Orthanc holds a SEG and an SR of each series. Workers to fall back on have a price.
    """
    phantom = chest_phantom(shape=(24, 64, 64), spacing_mm=(12.0, 5.6, 5.6), seed=1)
    archive = open_archive(orthanc.uri)
    for number in range(2):
        write_ct_series(phantom.volume, tmp_path / str(number), identity=CtIdentity.named(f"fleet-{number}"))
        for path in (tmp_path / str(number)).rglob("*.dcm"):
            archive.store(pydicom.dcmread(path))
    # Another name of this machine: that pods would reach it is for the test to pretend.
    uri = orthanc.uri.replace("127.0.0.1", "127.0.0.2")
    program = tmp_path / "bin" / "voxfleet"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m voxfleet "$@"\n')
    program.chmod(0o755)
    run = tmp_path / f"fleet-{os.getpid()}"
    pods: list[subprocess.Popen[bytes]] = []

    def operate() -> None:
        """What the operator does: the first cell fails, the second runs its entrypoint as its head would."""
        seen = 0
        while len(pods) < 1:
            with api_server.changed:
                api_server.changed.wait(0.05)
                new = api_server.events[seen:]
                seen += len(new)
            for event in (each for each in new if each["type"] == "ADDED"):
                name = event["object"]["metadata"]["name"]
                if not any(each["type"] == "DELETED" for each in api_server.events):
                    account.harmed()
                    api_server.set_status(name, jobDeploymentStatus="Failed", jobStatus="FAILED")
                    continue
                api_server.set_status(name, jobDeploymentStatus="Running")
                entrypoint = event["object"]["spec"]["entrypoint"].replace("/var/lib/voxfleet", str(tmp_path / "pod"))
                environment = {**os.environ, "VOXFLEET_LEDGER": postgres.url, "PATH": f"{program.parent}:/usr/bin:/bin"}
                with (tmp_path / "pod.log").open("wb") as log:
                    pods.append(subprocess.Popen(["bash", "-c", entrypoint], env=environment, stdout=log, stderr=log))
                ended = "Complete" if pods[0].wait() == 0 else "Failed"
                api_server.set_status(name, jobDeploymentStatus=ended)

    threading.Thread(target=operate, daemon=True).start()
    words = ["enrich", uri, "-m", "ct-threshold", "--to", uri, "--run", str(run), "--ledger", postgres.url]
    words += ["--on", "kuberay", "--cells", str(toml), "--json"]
    words += ["--machine", "g2-standard-4", "--region", "us-central1", "--market", "spot"]
    toml.write_text(TOML + 'platform = "gke"\n')
    patched = (
        "from voxfleet.cluster.kubernetes import keeping as k, replacing as r; r.FIRST_PAUSE_S = k.LOOK_S = 0.2; "
        "from voxfleet.runners.cli import main; main()"
    )
    environment = {**os.environ, "KUBECONFIG": str(api_server.kubeconfig(tmp_path))}
    done = subprocess.run(
        [sys.executable, "-c", patched, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env=environment,
    )
    assert done.returncode == 0, done.stderr + (tmp_path / "pod.log").read_text()[-2000:]
    held = Counter(each.modality for each in archive.search() if isinstance(each, SeriesEntry))
    assert held == {"CT": 2, "SEG": 2, "SR": 2}
    ledger = PostgresLedger(postgres.url, run.name)
    account.settle(ledger, held=held["SEG"] + held["SR"])
    assert ledger.run().prices == {
        "fallback": price_of("g2-standard-4", "us-central1", "on-demand"),
        "head": price_of("e2-standard-4", "us-central1", "on-demand"),
    }
    assert [each.detail.partition(":")[2].strip() for each in ledger.events() if each.kind == "cell"] == [
        "created",
        "removed: Failed, and work is left",
        "created",
    ]
    ledger.close()
