"""From the command to the first workitem's begin: ``python -m voxfleet.benchmarks.performance.warm_start``.

``voxfleet enrich --on local`` with a weight-free model and files that were read before. The target is
three seconds, without Ray or torch being imported.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from ... import Error
from ...cluster.ledgers.sqlite import SqliteLedger
from ...enrich.phantom import CtIdentity, chest_phantom, write_ct_series
from .figures import Figure, publish_figures
from .harness import ROUNDS, took

TARGET_S = 3.0
HEAVY = ("ray", "torch")


class RunFailed(Error):
    """The command that is measured did not end well."""

    code = "RUN_FAILED"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)


def begun_after_s(source: Path, folder: Path) -> float:
    """Seconds from the command to the first stage's start, as its consumption says."""
    words = ["enrich", str(source), "-m", "ct-threshold", "--to", f"dir:{folder}/out", "--run", f"{folder}/run"]
    started = time.time()
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "voxfleet", *words], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RunFailed(done.stderr[-2000:])
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    if heavy := imported.intersection(HEAVY):
        raise RunFailed(f"--on local imports {', '.join(heavy)}")
    ledger = SqliteLedger(folder / "run" / "ledger.sqlite")
    first = min(each.started for attempt in ledger.attempts() for each in attempt.consumption)
    ledger.close()
    return first - started


def main() -> None:
    """Measure and publish."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        phantom = chest_phantom(shape=(24, 64, 64), spacing_mm=(12.0, 5.6, 5.6), seed=1)
        write_ct_series(phantom.volume, folder / "in", identity=CtIdentity.named("warm-start"))
        walls, cpus = [], []
        for number in range(ROUNDS + 1):
            run = took(lambda number=number: walls.append(begun_after_s(folder / "in", folder / str(number))))  # type: ignore[misc]
            cpus.append(run.cpu_s)
    note = "ct-threshold, ledger to archive; neither Ray nor torch imported"
    figures = [
        Figure("command to first stage", median(walls[1:]), "s", TARGET_S, note=note),
        Figure("CPU of the whole command", median(cpus[1:]), "s", note="one small series"),
    ]
    publish_figures("warm_start", "Warm start on this machine", figures)


if __name__ == "__main__":
    main()
