"""``voxfleet demo``: a small collection enriched, killed, resumed and verified, in a folder of one's own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from .. import Error
from ..enrich.archives.opening import open_archive
from ..enrich.phantom import CtIdentity, Fault, chest_phantom, write_ct_series
from ..runners.cli import EXIT_DONE, EXIT_INCOMPLETE
from .ledgers.sqlite import SqliteLedger
from .results.verify import verify
from .run_folder import RunFolder

MODELS = ("ct-threshold", "covid-opacity-hu")
RUN = "run"


class DemoFailed(Error):
    """The demo did not end as it must."""

    code = "DEMO_FAILED"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)


def demo(
    folder: Annotated[Path, typer.Argument(help="Folder to work in; what an earlier demo left there is removed.")],
    series: Annotated[int, typer.Option(min=1, help="How many phantoms beside the real CT.")] = 4,
) -> None:
    """Enrich a small collection of chest CT: real and generated, good and bad; kill the run, resume it, verify it."""
    console = Console(soft_wrap=True, highlight=False)
    source, target, run = folder / "archive", folder / "enriched", RunFolder(str(folder.resolve() / RUN))
    for old in (source, target, run.path):
        shutil.rmtree(old, ignore_errors=True)
    build_collection(source, phantoms=series)
    console.print(f"[bold]1.[/bold] A collection in {source}: one real chest CT, {series} phantoms, three bad series.")
    command = [sys.executable, "-m", "voxfleet", "enrich", str(source), "--to", f"dir:{target}"]
    command += [part for model in MODELS for part in ("--model", model)] + ["--run", str(run.path)]
    console.print(f"[bold]2.[/bold] voxfleet {' '.join(command[3:])}\n   ... and kill -9 after the first result:")
    _kill_after_first(command, run)
    console.print("[bold]3.[/bold] The same command again goes on where it was:")
    if (code := subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode) not in (
        EXIT_DONE,
        EXIT_INCOMPLETE,
    ):
        raise DemoFailed(f"the run ended with exit code {code}")
    ledger, archive = SqliteLedger(run.ledger), open_archive(f"dir:{target}")
    found = verify(ledger, archive)
    if not found.sound or not found.equal:
        raise DemoFailed(f"the archive is not what the ledger says: {found}")
    console.print(f"[bold]4.[/bold] {found.equal} objects read back from the archive, each equal to what was made.")
    subprocess.run([*command[:3], "status", str(run.path), "--series"], check=True)
    console.print(f"[bold]5.[/bold] Look at it: [bold]{run.report}[/bold]")


def build_collection(folder: Path, *, phantoms: int) -> None:
    """Write the demo's archive: the CIP chest CT, phantoms, and series that break a rule each."""
    data = files(__package__) / "demo_data"
    with as_file(data / "cip-chest-ct.zip") as path, zipfile.ZipFile(path) as pack:
        pack.extractall(folder / "cip")
    shutil.copy(str(data / "CIP-LICENSE.txt"), folder / "cip" / "CIP-LICENSE.txt")
    (folder / "notes.txt").write_text("Not everything in a folder is DICOM.\n")
    faults = [None] * phantoms + [Fault.GANTRY_TILT, Fault.MISSING_SLICE, Fault.LOCALIZER]
    for seed, fault in enumerate(faults):
        name = f"phantom-{seed}" if fault is None else f"phantom-{fault.value.lower().replace('_', '-')}"
        phantom = chest_phantom(shape=(52, 128, 128), spacing_mm=(5.0, 2.8, 2.8), seed=seed)
        write_ct_series(phantom.volume, folder / name, identity=CtIdentity.named(name), fault=fault)


def _kill_after_first(command: list[str], run: RunFolder) -> None:
    """Start the command, and SIGKILL it when the first workitem is COMPLETED."""
    with subprocess.Popen(command) as process:
        while process.poll() is None and not _completed(run):
            time.sleep(0.1)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)


def _completed(run: RunFolder) -> int:
    if not run.ledger.is_file():
        return 0
    ledger = SqliteLedger(run.ledger)
    try:
        return ledger.counts().completed
    finally:
        ledger.close()
