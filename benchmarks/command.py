"""The command ``voxfleet benchmark``: models or existing predictions against experts' annotations."""

from __future__ import annotations

import json
import math
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from ..cluster.commands import archive_uri, dollars_of, until_stopped, wishes_of
from ..cluster.enrichment import Plan
from ..cluster.options import PriceFile
from ..cluster.prices.run_price import begun_run, price_to_go_on
from ..cluster.run_folder import RunFolder
from ..enrich.archives.opening import READABLE
from ..models import catalogue
from ..runners.cli import EXIT_INCOMPLETE, EXIT_STOPPED
from ..runners.commands import AcceptLicence
from ..runners.devices import devices_of
from ..runners.worklist import check_licence
from .case import POINT_RADIUS_MM
from .study import Predictions, Study, check_installed

if TYPE_CHECKING:
    from .benchmark_run import Benchmark

LEAST_TOLERANCE_MM = 0.001
"""Of the surface Dice: far below any voxel."""


def benchmark(  # noqa: PLR0913, PLR0917 - the command line's options
    source: Annotated[str, typer.Argument(help=f"Images: folder of DICOM files, {READABLE}.")],
    reference: Annotated[
        list[str], typer.Option("--reference", "-r", help="Experts' annotations: file, folder or archive; repeatable.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for report, tables and results; made if absent.")],
    model: Annotated[
        list[str] | None, typer.Option("--model", "-m", help="To be run; may be repeated; see `voxfleet models`.")
    ] = None,
    predictions: Annotated[
        list[str] | None,
        typer.Option("--predictions", "-p", help="Made before: PLACE or PLACE=NAME, as of --reference; repeatable."),
    ] = None,
    readers: Annotated[
        bool, typer.Option("--readers", help="Hold readers against each other; majority vote and STAPLE of them.")
    ] = False,
    labels: Annotated[
        Path | None, typer.Option(help="Table of labels (YAML): codes for the names of formats without any.")
    ] = None,
    crosswalk: Annotated[Path | None, typer.Option(help="Crosswalk (YAML): structures told in other words.")] = None,
    tolerance: Annotated[
        list[float] | None, typer.Option(help="Of the surface Dice, in mm; may be repeated; else 1, 2 and 3.")
    ] = None,
    threshold: Annotated[float, typer.Option(help="Least value, of 0 to 1, of a FRACTIONAL SEG's voxels.")] = 0.5,
    lesions: Annotated[bool, typer.Option("--lesions", help="Score by lesions too: detection F1.")] = False,
    candidates: Annotated[
        list[str] | None,
        typer.Option(help="A detector's (LUNA16's CSV): FILE or FILE=NAME; repeatable: FROC of the experts' lesions."),
    ] = None,
    irrelevant: Annotated[
        list[str] | None, typer.Option(help="Structure whose candidates count neither way; may be repeated.")
    ] = None,
    point_radius: Annotated[
        float, typer.Option(min=0, help="Within which of an expert's point a candidate hits, in mm.")
    ] = POINT_RADIUS_MM,
    retest: Annotated[
        Path | None, typer.Option(help="Two scans of each patient (CSV first,second: series UIDs): repeatability.")
    ] = None,
    repair: Annotated[bool, typer.Option("--repair", help="Resample gantry tilt and uneven gaps.")] = False,
    param: Annotated[list[str] | None, typer.Option(help="[MODEL:]NAME=VALUE; may be repeated.")] = None,
    device: Annotated[list[str] | None, typer.Option(help="cpu, cuda:N or cuda (all GPUs); may be repeated.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Series scored at once.")] = 1,
    budget: Annotated[str | None, typer.Option(help="Most that the models may cost, in US$.")] = None,
    prices: PriceFile = None,
    accept_licence: AcceptLicence = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of a table.")] = False,
) -> None:
    """Hold models against experts: scores, intervals, tests, the worst cases with pictures, and what each costs.

    The same command goes on where an earlier one stopped. Exit code 0: every series with a reference was
    scored; 3: with failures, or references that could not be used; 4: stopped; 1: error.
    """
    check_installed()
    from .benchmark_run import rules_of, run_benchmark
    from .candidates import read_candidates
    from .retest import read_pairs

    for name in model or []:
        check_licence(catalogue.card(name), accepted=accept_licence)
    _check_numbers(tolerance or (), threshold)
    rules = rules_of(reference, labels, crosswalk, threshold, tolerance or [])
    study = Study(
        source=archive_uri(source),
        rules=replace(
            rules,
            consensus=readers,
            lesions=lesions,
            repair=repair,
            irrelevant=tuple(irrelevant or ()),
            point_radius_mm=point_radius,
        ),
        wishes=wishes_of(model or [], param or [], "BINARY", repair=repair),
        predictions=tuple(predictions_of(each) for each in predictions or []),
        out=out.resolve(),
        command=typed(),
        workers=workers,
        retest=read_pairs(retest) if retest else (),
        detectors=tuple(read_candidates(each.name, Path(each.place)) for each in map(predictions_of, candidates or [])),
    )
    plan = Plan(
        source=study.source,
        target=archive_uri(f"dir:{study.results}"),
        wishes=study.wishes,
        folder=RunFolder(f"{study.out}/run"),
        price=price_to_go_on(begun_run(RunFolder(f"{study.out}/run")), override=prices),
        budget_usd=dollars_of("--budget", budget),
        devices=devices_of(device or ["cpu"]),
    )
    console = Console(stderr=True, quiet=as_json, highlight=False)
    with plan.folder.locked(), until_stopped(console) as stop:
        done = run_benchmark(study, plan, stop, console)
    _show(done, as_json=as_json)
    raise typer.Exit(EXIT_STOPPED if done.left else EXIT_INCOMPLETE if done.incomplete else 0)


def typed() -> str:
    """The command as it was given, for a shell in any folder."""
    return f"{shlex.join(['cd', str(Path.cwd())])} && {shlex.join(['voxfleet', *sys.argv[1:]])}"


def _check_numbers(tolerances_mm: Sequence[float], threshold: float) -> None:
    """Refuse numbers without a meaning before any work; ranges of typer let NaN pass.

    Raises
    ------
    typer.BadParameter
        It names the option.
    """
    for each in tolerances_mm:
        if not LEAST_TOLERANCE_MM <= each < math.inf:
            raise typer.BadParameter(f"{each:g}: give mm, {LEAST_TOLERANCE_MM:g} or more", param_hint="--tolerance")
    if not 0 < threshold <= 1:
        raise typer.BadParameter(f"{threshold:g}: give a number above 0, at most 1", param_hint="--threshold")


def predictions_of(text: str) -> Predictions:
    """``PLACE=NAME``, or a place that is named by its last part."""
    place, sign, name = text.rpartition("=")
    if not sign or "/" in name or Path(text).exists():
        place, name = text, Path(text.rstrip("/")).name.partition(".")[0]
    if not place or not name:
        raise typer.BadParameter(f"{text}: give PLACE=NAME")
    return Predictions(name, place)


def _show(done: Benchmark, *, as_json: bool) -> None:
    """The leaderboard, and where everything is."""
    console = Console(soft_wrap=True, highlight=False)
    if as_json:
        console.print_json(json.dumps(done.document(), allow_nan=False))
        return
    table = Table(
        Column("model", overflow="fold"), Column("reference", overflow="fold"), "series", "failed", "Dice", "95 %"
    )
    for row in done.figures.leaderboard:
        if row.metric == "dice":
            low, high = row.mean_interval.low, row.mean_interval.high
            interval = f"{low:.3f}-{high:.3f}" if low == low else ""  # noqa: PLR0124 - not NaN
            table.add_row(row.model, row.reference, str(row.series), str(row.failed), f"{row.mean:.4f}", interval)
    if done.study.models or done.study.rules.consensus:
        console.print(table)
    for curve in done.figures.frocs:
        console.print(f"FROC {curve.model}, {curve.reference}: mean sensitivity {curve.curve.score:.4f}")
    for count, text in done.told:
        console.print(f"{count:6} {text}")
    if done.left:
        console.print(f"{done.left} series are left; the same command goes on with them")
    console.print(f"page: {done.study.out / 'report.html'}")
