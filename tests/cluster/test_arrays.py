"""Templates for schedulers of arrays: what they start is a command of ours, and the Slurm script runs."""

from __future__ import annotations

import fnmatch
import json
import os
import signal
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
from voxfleet.runners.cli import EXIT_DONE, EXIT_ERROR, EXIT_STOPPED, EXIT_TAKEN_AWAY

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


def google_begins_again(code: int) -> bool:
    """Google Batch's rule: RETRY_TASK for the codes of a list means that tasks with any other code fail."""
    (policy,) = json.loads((ARRAYS / "google-batch.json").read_text())["taskGroups"][0]["taskSpec"]["lifecyclePolicies"]
    assert policy["action"] == "RETRY_TASK"
    return code in policy["actionCondition"]["exitCodes"]


def amazon_begins_again(code: int, status_reason: str = "Essential container in task exited") -> bool:
    """AWS Batch's rule: the first condition that holds decides; where none does, a job is tried again."""
    told = {"onStatusReason": status_reason, "onReason": "", "onExitCode": str(code)}
    for rule in json.loads((ARRAYS / "aws-batch-definition.json").read_text())["retryStrategy"]["evaluateOnExit"]:
        if all(fnmatch.fnmatchcase(told[name], rule[name]) for name in told.keys() & rule.keys()):
            return bool(rule["action"] == "RETRY")
    return True


@pytest.mark.parametrize("begins_again", [google_begins_again, amazon_begins_again])
def test_a_worker_is_begun_again_after_a_preemption_and_after_nothing_else(begins_again):
    """Told to leave, or killed since it took too long to: yes. Done, budget spent, broken configuration: no."""
    assert begins_again(EXIT_TAKEN_AWAY)
    assert begins_again(128 + signal.SIGKILL)
    assert [code for code in (EXIT_ERROR, 2, EXIT_STOPPED) if begins_again(code)] == []
    # What the services themselves say of a machine that is gone.
    assert google_begins_again(50001)
    assert amazon_begins_again(EXIT_ERROR, "Host EC2 (instance i-0) terminated.")


@pytest.mark.parametrize(
    ("code", "state", "again"),
    [
        (EXIT_TAKEN_AWAY, "RUNNING", True),
        (EXIT_TAKEN_AWAY, "COMPLETING", False),
        (EXIT_DONE, "RUNNING", False),
        (EXIT_ERROR, "RUNNING", False),
        (EXIT_STOPPED, "RUNNING", False),
    ],
)
def test_slurm_script_hands_a_signal_on_and_is_begun_again_where_more_is_left(
    tmp_path: Path, code: int, state: str, again: bool
) -> None:
    """The worker hears of the end of its time, and ends as it likes; of a job that was cancelled nothing is begun."""
    worker = tmp_path / "worker.sh"
    worker.write_text(f"trap 'exit {code}' TERM; echo ready; while :; do sleep 0.05; done\n")
    for name, lines in (("squeue", f"echo {state}"), ("scontrol", f'echo "$@" > {tmp_path}/scontrol.told')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{lines}\n")
        (tmp_path / name).chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "VOXFLEET_RUN": "slurm",
        "VOXFLEET_LEDGER": "postgresql://x/y",
        "VOXFLEET_LAUNCH": f"bash {worker}",
        "SLURM_JOB_ID": "81",
    }
    with subprocess.Popen(["bash", ARRAYS / "slurm.sh"], env=environment, stdout=subprocess.PIPE, text=True) as script:
        assert script.stdout is not None
        assert script.stdout.readline() == "ready\n"
        script.terminate()
        assert script.wait(60) == code
    told = tmp_path / "scontrol.told"
    assert (told.read_text() if told.exists() else "") == ("requeue 81\n" if again else "")


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
