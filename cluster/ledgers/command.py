"""Commands over a run's ledger: ``ledger verify``, ``ledger rebuild``, ``ledger export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ...enrich.archives.opening import open_archive
from ...runners.cli import EXIT_DONE, EXIT_INCOMPLETE
from ..results.rebuild import rebuild as rebuild_ledger
from ..results.verify import verify as verify_run
from ..run_folder import RunFolder
from .export import export as export_tables
from .opening import open_ledger

ledger = typer.Typer(help="What a run's ledger holds: against the archive, from the archive, as tables.")

RunName = Annotated[str, typer.Argument(metavar="RUN", help="Name of the run, or path of its folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document instead of text.")]


@ledger.command()
def verify(run: RunName, as_json: AsJson = False) -> None:
    """Read everything that a run stored back from the archive and compare it with the ledger."""
    kept = open_ledger(RunFolder(run).must_exist())
    found = verify_run(kept, open_archive(kept.run().target))
    console = Console(soft_wrap=True, highlight=False)
    wrong = {name: getattr(found, name) for name in ("missing", "changed", "doubled")}
    if as_json:
        console.print_json(data={"equal": found.equal, **wrong})
    else:
        console.print(
            f"{found.equal} objects equal, {', '.join(f'{len(uids)} {name}' for name, uids in wrong.items())}"
        )
        for name, uids in wrong.items():
            for uid in uids:
                console.print(f"{name}: {uid}")
    raise typer.Exit(EXIT_DONE if found.sound else EXIT_INCOMPLETE)


@ledger.command()
def rebuild(run: RunName, as_json: AsJson = False) -> None:
    """Take for done what the archive holds: after a ledger was lost, or begun anew for a collection half done.

    Register the work first: `voxfleet enrich ... --on nothing`.
    """
    folder = RunFolder(run).must_exist()
    console = Console(stderr=True, quiet=as_json, highlight=False)
    with folder.locked(), console.status("reading the archive ...") as status:
        kept = open_ledger(folder)
        number = rebuild_ledger(
            kept, open_archive(kept.run().target), lambda found: status.update(f"{found} workitems found done")
        )
    left = kept.counts().open
    out = Console(soft_wrap=True, highlight=False)
    if as_json:
        out.print_json(data={"found_done": number, "left": left})
    else:
        out.print(f"{number} workitems found done, {left} left")


@ledger.command()
def export(
    run: RunName,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the parquet files.")],
    as_json: AsJson = False,
) -> None:
    """Write every table of the ledger as a parquet file."""
    paths = export_tables(open_ledger(RunFolder(run).must_exist()), output)
    console = Console(soft_wrap=True, highlight=False)
    if as_json:
        console.print_json(data={path.stem: str(path) for path in paths})
    else:
        for path in paths:
            console.print(str(path))
