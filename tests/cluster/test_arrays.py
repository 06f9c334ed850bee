"""Templates for schedulers of arrays: what they start is a command of ours, and the Slurm script runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import typer
from voxfleet.cluster.drivers.worker_command import worker
from voxfleet.cluster.ledgers.postgres import PostgresLedger
from voxfleet.cluster.prices.price import price_of
from voxfleet.enrich.phantom import CtIdentity, chest_phantom, write_ct_series

if TYPE_CHECKING:
    from conftest import Postgres

ARRAYS = Path(__file__).parents[2] / "cluster" / "arrays"


def google() -> list[str]:
    """The words of Google Batch's container."""
    job = json.loads((ARRAYS / "google-batch.json").read_text())
    command = job["taskGroups"][0]["taskSpec"]["runnables"][0]["container"]["commands"][1]
    return command.replace('"', "").removeprefix("exec voxfleet ").split()


def amazon() -> list[str]:
    """The words of AWS Batch's container, whose entry point is the program."""
    return list(json.loads((ARRAYS / "aws-batch-definition.json").read_text())["containerProperties"]["command"])


@pytest.mark.parametrize("words", [google, amazon])
def test_command_is_one_of_ours(words):
    """Every option in the template is one of `voxfleet worker`; the ledger's address comes from the environment."""
    app = typer.Typer()
    app.command("worker")(worker)
    known = {option for each in typer.main.get_command(app).params for option in each.opts}
    command, *rest = words()
    assert command == "worker"
    assert {word for word in rest if word.startswith("--")} <= known
    # Where the image's user, who is not root, may write: a disk that the provider mounts is root's.
    assert rest[rest.index("--folder") + 1].startswith("/home/voxfleet/")
    assert "VOXFLEET_LEDGER" in (ARRAYS / "google-batch.json").read_text()
    assert "VOXFLEET_LEDGER" in (ARRAYS / "aws-batch-definition.json").read_text()


def test_workers_of_one_array_have_names_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS Batch starts the program without a shell, and tells the id of a job (with its index) by a variable."""
    monkeypatch.setenv("AWS_BATCH_JOB_ID", "6ef1:7")
    app = typer.Typer()
    app.command("worker")(worker)
    words = [*amazon()[1:], "--ledger", "postgresql://x/y"]
    assert typer.main.get_command(app).make_context("worker", words).params["node"] == "6ef1:7"
    assert "--node" in google()
    assert "--node" in (ARRAYS / "slurm.sh").read_text()


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_slurm_script_does_the_work(postgres: Postgres, tmp_path: Path) -> None:
    """The script, with this machine in place of Slurm and the image, does a registered run, paid by its group."""
    phantom = chest_phantom(shape=(24, 64, 64), spacing_mm=(12.0, 5.6, 5.6), seed=1)
    write_ct_series(phantom.volume, tmp_path / "in", identity=CtIdentity.named("slurm"))
    words = (
        "enrich",
        tmp_path / "in",
        "-m",
        "ct-threshold",
        "--to",
        f"dir:{tmp_path}/out",
        "--run",
        tmp_path / "slurm",
    )
    registered = [sys.executable, "-m", "voxfleet", *map(str, words), "--ledger", postgres.url, "--on", "workers"]
    registered += ["--price-of", "high-memory=g5.xlarge"]
    assert subprocess.run(registered, capture_output=True, check=False).returncode == 4
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "VOXFLEET_RUN": "slurm",
        "VOXFLEET_LEDGER": postgres.url,
        "VOXFLEET_LAUNCH": "env",
        "VOXFLEET_DEVICE": "cpu",
        "VOXFLEET_GROUP": "high-memory",
        "SLURM_ARRAY_JOB_ID": "77",
        "SLURM_ARRAY_TASK_ID": "3",
        "TMPDIR": str(tmp_path),
    }
    done = subprocess.run(["bash", ARRAYS / "slurm.sh"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ledger = PostgresLedger(postgres.url, "slurm")
    assert ledger.counts().completed == 1
    assert [node.node for node in ledger.nodes()] == ["slurm-77-3"]
    assert [(node.machine, node.price) for node in ledger.nodes()] == [("g5.xlarge", price_of("g5.xlarge"))]


def test_slurm_script_names_what_is_missing() -> None:
    """Without a run or a ledger it says which variable to set."""
    done = subprocess.run(
        ["bash", ARRAYS / "slurm.sh"], env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "VOXFLEET_RUN: name of the run" in done.stderr
