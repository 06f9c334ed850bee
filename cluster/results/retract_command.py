"""``voxfleet retract RUN``: what a run stored is taken back, by its ledger."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from ...enrich.archives.opening import open_archive
from ...runners.cli import EXIT_DONE, EXIT_INCOMPLETE
from ...runners.commands import progress_bar
from ..ledger import Stored
from ..ledgers.opening import open_ledger
from ..run_folder import RunFolder
from .retract import Retraction, plan, way_of
from .retracted import note_retracted


def retract(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Name of the run, or path of its folder.")],
    series: Annotated[str, typer.Option("--series", help="Only of this series: a source's UID, or a result's.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without, it is only told what would go.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of text.")] = False,
) -> None:
    """Take back from the target what a run stored: deleted from a folder or bucket, rejected by a note in DICOMweb.

    Only what the ledger names, and only while it is as it was stored; all else is left, and said. Each
    object's end is written into the ledger. Exit code 0: nothing is left; 3: something is; 1: error.
    """
    folder = RunFolder(run).must_exist()
    console = Console(stderr=True, quiet=as_json, highlight=False)
    with folder.locked():
        ledger = open_ledger(folder)
        way = way_of(open_archive(ledger.run().target))
        with console.status("reading the target ..."):
            found = plan(ledger, way, series)
        if yes:
            with progress_bar(console) as bar:
                task = bar.add_task("retract", total=len(found.going), counts="")

                def done(stored: Stored, how: str) -> None:
                    note_retracted(ledger, stored.object.sop_instance_uid, how)
                    bar.advance(task)

                way.take_back(found.going, done)
        published = ledger.publication().published
    _tell(found, published, done=yes, as_json=as_json)


def _tell(found: Retraction, published: int, *, done: bool, as_json: bool) -> None:
    out = Console(soft_wrap=True, highlight=False)
    going = [each.object.sop_instance_uid for each in found.going]
    left = {each.sop_instance_uid: each.reason for each in found.left}
    if as_json:
        out.print_json(data={"done": done, "objects": going, "left": left, "published": published})
    else:
        for each in found.going:
            out.print(
                f"{'retracted' if done else 'would go'}: {each.object.sop_instance_uid} {each.object.uri}", markup=False
            )
        for uid, reason in left.items():
            out.print(f"left: {uid} {reason}", markup=False)
        out.print(f"{len(going)} objects {'retracted' if done else 'would be retracted (--yes)'}, {len(left)} left")
        if published:
            out.print(f"{published} objects of the run were published to another archive too, and stay there")
    raise typer.Exit(EXIT_INCOMPLETE if left else EXIT_DONE)
