"""``voxfleet submission idc|tcia|zenodo|check RUN``: a run's results as other archives take them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from ... import Error
from ...enrich.archives.opening import open_archive
from ...enrich.submission.about import About, read_about
from ...enrich.submission.cicadas import cicadas
from ...enrich.submission.idc import BUCKET, write_idc
from ...enrich.submission.methods import read_methods
from ...enrich.submission.submitted import warnings_of
from ...enrich.submission.tcia import DATA, write_tcia
from ...runners.cli import EXIT_DONE, EXIT_INCOMPLETE, EXIT_STOPPED
from ...runners.commands import progress_bar
from ..commands import until_stopped
from ..ledger import Ledger
from ..ledgers.opening import open_ledger
from ..run_folder import RunFolder
from .submission import Collected, Collector, NotSubmittable, SubmissionStopped, provenance_of

if TYPE_CHECKING:
    from ...enrich.submission.idc_rules import IdcCheck

submission = typer.Typer(no_args_is_help=True, help="A run's results as IDC, TCIA and Zenodo take them.")

RunName = Annotated[str, typer.Argument(metavar="RUN", help="Name of the run, or path of its folder.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder for the package; made if absent.")]
AboutFile = Annotated[
    Path | None, typer.Option("--about", help="TOML file: title, authors, licence, DOI of the source; SUBMISSION.md.")
]
Partial = Annotated[bool, typer.Option("--partial", help="Leave out what is not done, missing or changed.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document instead of text.")]


class NoSubmissionExtra(Error):
    """A package that needs a library which is not installed."""

    code = "MISSING_EXTRA"

    def __init__(self, library: str) -> None:
        super().__init__(library)

    def __str__(self) -> str:
        return f"{self.args[0]} is not installed: pip install 'voxfleet[submission]'"


@submission.command()
def idc(
    run: RunName,
    output: Output,
    bucket: Annotated[str, typer.Option("--bucket", help="Where the objects will lie, e.g. gs://BUCKET/PREFIX.")],
    about: AboutFile = None,
    partial: Partial = False,
    as_json: AsJson = False,
) -> None:
    """Write a bucket's content with its manifest, for the Imaging Data Commons, and check it by IDC's rules.

    The same command goes on where an earlier one stopped. Exit code 0: ready; 3: written, but what is
    listed is missing; 4: stopped; 1: error.
    """
    _needs("duckdb")
    if not bucket.startswith(("gs://", "s3://")):
        raise typer.BadParameter(f"--bucket {bucket}: begins with gs:// or s3://")
    told = _about(about)
    _, ledger = _opened(run)
    with _writing(output):
        collected = _collect(
            Collector(ledger, open_archive(ledger.run().target), output / BUCKET, "", partial), as_json
        )
        written = write_idc(output, collected.files, told, bucket, ledger.run().created.date())
        found = _checked(output / BUCKET / each.path for each in collected.files)
    _tell(collected, written, told.missing(), as_json, found)


@submission.command()
def tcia(
    run: RunName, output: Output, about: AboutFile = None, partial: Partial = False, as_json: AsJson = False
) -> None:
    """Write TCIA's proposal, metadata tables and description (CICADAS) beside the objects.

    The same command goes on where an earlier one stopped. Exit code 0: ready; 3: written, but what is
    listed is missing; 4: stopped; 1: error.
    """
    told = _about(about)
    folder, ledger = _opened(run)
    methods = read_methods(provenance_of(ledger, folder))
    repairs = sum(bool(item.repairs) for item in ledger.items())
    with _writing(output):
        collected = _collect(Collector(ledger, open_archive(ledger.run().target), output, DATA, partial), as_json)
        text = cicadas(collected.files, told, methods, repairs)
        written = write_tcia(output, collected.files, told, text, methods, ledger.run().created.date())
    _tell(collected, written, (*told.missing(), *told.missing_for_tcia()), as_json)


@submission.command()
def zenodo(
    run: RunName, output: Output, about: AboutFile = None, partial: Partial = False, as_json: AsJson = False
) -> None:
    """Write an RO-Crate with checksums, packed, and the metadata of a Zenodo deposition.

    The same command goes on where an earlier one stopped. Exit code 0: ready; 3: written, but what is
    listed is missing; 4: stopped; 1: error.
    """
    _needs("rocrate")
    from ...enrich.submission import crate

    told = _about(about)
    folder, ledger = _opened(run)
    methods = read_methods(provenance_of(ledger, folder))
    root = output / crate.CRATE
    with _writing(output):
        collected = _collect(Collector(ledger, open_archive(ledger.run().target), root, crate.DATA, partial), as_json)
        written = crate.write_crate(output, collected.files, told, methods, datetime.now(UTC).date())
    _tell(collected, written, told.missing(), as_json)


@submission.command()
def check(run: RunName, as_json: AsJson = False) -> None:
    """Whether every group and measurement of the run's reports would be in the Imaging Data Commons' tables.

    Exit code 0: all would be; 3: some would not, each with the rule that it breaks; 1: error.
    """
    _needs("duckdb")
    _, ledger = _opened(run)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        collected = _collect(Collector(ledger, open_archive(ledger.run().target), root, "", True), as_json)
        found = _checked(root / each.path for each in collected.files)
    console = Console(soft_wrap=True, highlight=False)
    if as_json:
        console.print_json(data={**asdict(found), "left_out": collected.left_out})
    else:
        for line in (*_check_lines(found), *(f"left out: {each}" for each in collected.left_out)):
            console.print(line, markup=False)
    raise typer.Exit(EXIT_DONE if found.sound and not collected.left_out else EXIT_INCOMPLETE)


def _opened(run: str) -> tuple[RunFolder, Ledger]:
    folder = RunFolder(run).must_exist()
    return folder, open_ledger(folder)


def _about(path: Path | None) -> About:
    return About() if path is None else read_about(path)


def _needs(library: str) -> None:
    """Say what to install before any work is done."""
    if find_spec(library) is None:
        raise NoSubmissionExtra(library)


@contextmanager
def _writing(output: Path) -> Iterator[None]:
    """Say in a line why the package cannot be written."""
    try:
        yield
    except OSError as exc:
        reason = f"cannot be written: {exc.strerror or type(exc).__name__}; what is there is kept for the same command"
        raise NotSubmittable(str(exc.filename or output), reason) from exc


def _collect(collector: Collector, as_json: bool) -> Collected:
    console = Console(stderr=True, quiet=as_json, highlight=False)
    with until_stopped(console) as stop, progress_bar(console) as bar:
        task = bar.add_task("read back", total=None, counts="")
        try:
            return collector.collect(stop, lambda done, total: bar.update(task, completed=done, total=total))
        except SubmissionStopped as exc:
            console.print(str(exc), markup=False)
            raise typer.Exit(EXIT_STOPPED) from exc


def _checked(paths: Iterable[Path]) -> IdcCheck:
    from ...enrich.submission.idc_rules import check_for_idc

    return check_for_idc(paths)


def _tell(
    collected: Collected,
    written: tuple[Path, ...],
    missing: tuple[str, ...],
    as_json: bool,
    found: IdcCheck | None = None,
) -> None:
    """Print what there is and what is not; exit code 3 if anything is not."""
    warnings = warnings_of(collected.files)
    console = Console(soft_wrap=True, highlight=False)
    if as_json:
        document = {
            "objects": len(collected.files),
            "bytes": sum(each.bytes for each in collected.files),
            "written": [str(path) for path in written],
            "missing": missing,
            "left_out": collected.left_out,
            "warnings": warnings,
        }
        console.print_json(data=document | ({"idc": asdict(found)} if found else {}))
    else:
        console.print(f"{len(collected.files)} objects, {sum(each.bytes for each in collected.files)} bytes")
        for path in written:
            console.print(str(path), markup=False)
        for line in _check_lines(found) if found else ():
            console.print(line, markup=False)
        for kind, lines in (("missing", missing), ("left out", collected.left_out), ("warning", warnings)):
            for line in lines:
                console.print(f"{kind}: {line}", markup=False)
    wrong = missing or collected.left_out or warnings or (found and not found.sound)
    raise typer.Exit(EXIT_INCOMPLETE if wrong else EXIT_DONE)


def _check_lines(found: IdcCheck) -> list[str]:
    return [
        f"IDC's tables: {found.groups_listed} of {found.groups} measurement groups, "
        f"{found.measurements_listed} of {found.measurements} measurements, of {found.reports} reports",
        *(f"not listed: {each.sop_instance_uid} item {each.item} {each.rule}" for each in found.broken),
    ]
