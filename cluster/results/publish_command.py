"""``voxfleet publish``: results from a staging store into the archive, at a rate that it bears."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from ...enrich.archives.opening import WRITABLE, open_archive
from ...runners.cli import EXIT_DONE, EXIT_INCOMPLETE, EXIT_STOPPED
from ...runners.commands import progress_bar
from ..commands import until_stopped
from ..ledgers.opening import open_ledger
from ..ledgers.patience import patient
from ..run_folder import RunFolder
from .publish import Publisher


def publish(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Name of the run, or path of its folder.")],
    to: Annotated[str, typer.Option("--to", help=f"Archive: folder, {WRITABLE}.")],
    rate: Annotated[float, typer.Option(min=0.001, help="Most objects a second.")] = 10.0,
    follow: Annotated[bool, typer.Option("--follow", help="Stay until the run itself has ended.")] = False,
    retry_rejected: Annotated[bool, typer.Option("--retry-rejected", help="Try rejected objects again.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of text.")] = False,
) -> None:
    """Store what a run left in its target (a staging store) in the archive where it belongs.

    May run beside the run itself: `voxfleet enrich ... --to dir:staging`, `voxfleet publish RUN --to URI --follow`.
    Each object is read back and compared; the same command goes on where an earlier one stopped. An object that
    fails while others are taken is tried again after all of them, for some 20 minutes.
    Exit code 0: all published; 3: some were rejected by the archive, or failed each time; 4: stopped; 1: error.
    """
    console = Console(stderr=True, quiet=as_json, highlight=False)
    ledger = patient(open_ledger(RunFolder(run).must_exist()))
    if retry_rejected:
        ledger.publish_again()
    target = open_archive(to)
    target.probe()
    publisher = Publisher(ledger, open_archive(ledger.run().target), target, rate, follow=follow)
    with until_stopped(console) as stop, progress_bar(console) as bar:
        task = bar.add_task("publish", total=None, counts="")

        def observe() -> None:
            done = ledger.publication()
            total = done.waiting + done.published + done.rejected
            bar.update(task, completed=total - done.waiting, total=total, counts=f"{done.rejected} rejected")

        observe()
        left = publisher.work(stop, observe)
    done = ledger.publication()
    if as_json:
        Console(soft_wrap=True).print_json(
            data={"published": done.published, "rejected": done.rejected, "waiting": done.waiting, "left": dict(left)}
        )
    else:
        console.print(f"{done.published} published, {done.rejected} rejected, {done.waiting} waiting")
        for uid, reason in left.items():
            console.print(f"left for the next time: {uid}: {reason}", soft_wrap=True)
    if stop.is_set() and done.waiting:
        raise typer.Exit(EXIT_STOPPED)
    raise typer.Exit(EXIT_INCOMPLETE if done.waiting or done.rejected else EXIT_DONE)
